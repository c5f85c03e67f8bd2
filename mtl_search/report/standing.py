"""Standing: how far a study has come, in a few lines, whether it runs or not."""

from collections import Counter

from mtl_search.search.folder import StudyFolder
from mtl_search.search.overview import Overview


def standing(folder: StudyFolder) -> list[str]:
    """Who runs a study, its trials by state, the best so far.

    Raises:
        StudyError: There is no such study.
    """
    overview = Overview(folder)
    config, owner = overview.config, folder.owner
    if owner is not None:
        state = f"is being run by {owner}"
    else:
        state = "has ended" if overview.outcome is not None else "is run by nobody and has not ended"
    counts = Counter(record.state for record in overview.records)
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none yet"
    lines = [f"study {config.name} in {folder.storage} {state}", f"  trials: {told}; budget {config.search.budget}"]
    best = max(overview.improvements, key=lambda number: overview.improvements[number], default=None)
    if best is not None:
        lines.append(f"  best so far: trial {best}, {overview.judged_by} {overview.improvements[best]:.4g}")
    return lines
