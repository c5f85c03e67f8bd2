"""The parent run's description in Markdown: what was found, what was searched, where to look.

The recorder sets it when a study begins and again when it ends; MLflow shows it on top of the run's page.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mtl_search.analysis.next_commands import export_command, output_option
from mtl_search.config.study_config import StudyConfig
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.space.domains import Choice, Float, Int
from mtl_search.space.search_space import SearchSpace

_MOST_TASKS, _MOST_PARAMETERS = 12, 24


def describe(
    config: StudyConfig,
    metric_names: Mapping[str, str],
    data: Mapping[str, Any],
    space: SearchSpace | None,
    trials: Sequence[TrialRecord] = (),
    outcome: Outcome | None = None,
) -> str:
    """The description.

    Args:
        config: The study file.
        metric_names: Main metric by task.
        data: ``StudyData.describe()``.
        space: What is searched, where it is known.
        trials: So far.
        outcome: Once the study has ended well.
    """
    found = ["### What was found", outcome.to_markdown()] if outcome is not None else []
    counts = Counter(trial.state for trial in trials)
    said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"
    searched = ["### What was searched", _tasks(config, metric_names, data), _space(config, space)]
    searched.append(f"**Trials so far:** {said}." if outcome is None else f"**Trials:** {len(trials)}, {said}.")
    return "\n\n".join([*found, *searched, *_pointers(config, outcome)])


def _tasks(config: StudyConfig, metric_names: Mapping[str, str], data: Mapping[str, Any]) -> str:
    rows = ", ".join(f"{sum(counts.values()):,} {split}" for split, counts in data["rows"].items())
    lines = [
        f"One `{config.backbone.name}` for these tasks, on {rows} rows:",
        "",
        "| task | kind | judged by |",
        "|---|---|---|",
    ]
    tasks = list(config.tasks.items())
    lines += [f"| {name} | {task.kind} | {metric_names[name]} |" for name, task in tasks[:_MOST_TASKS]]
    if len(tasks) > _MOST_TASKS:
        lines.append(f"| … {len(tasks)} in all | | |")
    if config.source_tasks:
        lines += ["", f"Source tasks, which are only learned from: {', '.join(config.source_tasks)}."]
    return "\n".join(lines)


def _space(config: StudyConfig, space: SearchSpace | None) -> str:
    budget = config.search.model_dump(mode="json", exclude={"storage"}, exclude_none=True)
    said = ", ".join(f"{name} {_brief(value)}" for name, value in budget.items())
    lines = [f"**Budget and search:** {said}; seed {config.seed}."]
    if space is not None:
        domains = list(space.domains.items())
        lines += ["", f"{len(domains)} searched parameters:" if domains else "Nothing is searched: one recipe.", ""]
        lines += [f"- `{name}`: {_domain(domain)}" for name, domain in domains[:_MOST_PARAMETERS]]
        if len(domains) > _MOST_PARAMETERS:
            lines.append(f"- … and {len(domains) - _MOST_PARAMETERS} more, see `study.yaml`")
    return "\n".join(lines)


def _pointers(config: StudyConfig, outcome: Outcome | None) -> list[str]:
    lines = [
        "### Where to look",
        "- **Trials** are the runs nested in this one: sort the experiment's table by `improvement`, filter by tags, "
        "e.g. `tags.kind = 'trial' and tags.state = 'COMPLETE'`.",
        "- **Artifacts:** `figures/` (interactive and as pictures), `study.yaml`, `environment.txt`, affinity maps.",
    ]
    if outcome is not None:
        lines.append(
            f"- **The model:** registered as `models:/{config.name}@champion`"
            + (f", the cheaper one as `models:/{config.name}@challenger`" if outcome.challenger is not None else "")
            + f"; `{export_command(config, outcome.recipe)}` writes it for deployment."
        )
    lines.append(f"- **In a terminal:** `mtl-search report {config.name}{output_option(config)}`.")
    return ["\n".join([lines[0], "", *lines[1:]])]


def _brief(value: Any) -> str:
    """A value of the study file on one line; a variant by name and parameters, lists with commas."""
    if isinstance(value, Mapping):
        parts = [f"{name} {_brief(inner)}".strip() for name, inner in value.items()]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})" if parts else ""
    return "[" + ", ".join(map(_brief, value)) + "]" if isinstance(value, list) else str(value)


def _domain(domain: Float | Int | Choice) -> str:
    if isinstance(domain, Choice):
        return ", ".join(map(str, domain.values))
    return f"{domain.low:g} to {domain.high:g}" + (" (log)" if domain.log else "")
