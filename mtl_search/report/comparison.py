"""Comparison: several studies side by side, and where they do not compare; ``mtl-search compare`` prints it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from mtl_search.config.study_config import StudyConfig
from mtl_search.recipe import Recipe, Scalar
from mtl_search.report.document import outcome_document
from mtl_search.results.outcome import Outcome
from mtl_search.results.statistics import Estimate, difference
from mtl_search.results.trial_record import TrialRecord
from mtl_search.study_store.folder import StudyFolder

_TOO_GOOD = "its improvement is the best of its trials, and so too good on average"


@dataclass(frozen=True)
class Side:
    """One study of a comparison.

    Attributes:
        label: Its name, with its storage where another has the same.
        config: Its study file.
        card: What it wrote of its data.
        trials: All of them.
        outcome: What it found; None before it has ended.
    """

    label: str
    config: StudyConfig
    card: Mapping[str, Any]
    trials: Sequence[TrialRecord]
    outcome: Outcome | None

    @property
    def found(self) -> Outcome:
        """The outcome of a study that has ended."""
        assert self.outcome is not None
        return self.outcome

    @property
    def states(self) -> dict[str, int]:
        """Trials by how they ended."""
        states = [trial.state for trial in self.trials]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    def total(self, cost: str) -> float | None:
        """A cost of its trials together, ``seconds`` or ``worker_seconds``; None where no trial was measured."""
        costs = [value for trial in self.trials if (value := getattr(trial, cost)) is not None]
        return sum(costs) if costs else None

    @property
    def parts(self) -> dict[str, Scalar]:
        """The winner's recipe, a parameter each."""
        return {} if self.outcome is None else Recipe.from_dict(self.outcome.recipe).flat()

    @property
    def tasks(self) -> dict[str, Any]:
        """What each task predicts and how it is judged."""
        return {task["name"]: task for task in self.card["tasks"]}


@dataclass(frozen=True)
class Difference:
    """How two studies' improvements differ.

    Attributes:
        better: Label of the study with the higher mean; ``other``: of the other one.
        improvement: Difference of the means over fresh runs, in points of percent.
        told_apart: Whether the interval leaves out zero.
    """

    better: str
    other: str
    improvement: Estimate
    told_apart: bool

    def __str__(self) -> str:
        lead = self.improvement
        words = f"{self.better} is ahead of {self.other} by {lead.mean:.2f} points of improvement"
        if lead.low is not None:
            words += f" [{lead.low:+.2f}, {lead.high:+.2f}]"
        return f"{words}: {'told apart' if self.told_apart else 'not told apart'}"


@dataclass(frozen=True)
class Comparison:
    """Several studies side by side.

    Attributes:
        sides: The studies in the order they were named.
        notes: Why figures do not compare, or what is not known.
        differences: Of each two studies that do compare.
    """

    sides: tuple[Side, ...]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]

    @classmethod
    def of(cls, folders: Sequence[StudyFolder]) -> "Comparison":
        """Compare studies.

        Raises:
            StudyError: One of them is not there.
        """
        sides = tuple(_sides(folders))
        notes = [f"{side.label} has not ended" for side in sides if side.outcome is None]
        ended = [side for side in sides if side.outcome is not None]
        notes += [f"{side.label} was not run again: {_TOO_GOOD}" for side in ended if side.found.repeated is None]
        differences = []
        for a, b in combinations(ended, 2):
            reasons = list(_reasons(a, b))
            notes += [f"{a.label} and {b.label} do not compare{reason}" for reason in reasons]
            if not reasons and (found := _difference(a, b)) is not None:
                differences.append(found)
        return cls(sides, tuple(notes), tuple(differences))

    def differing(self) -> dict[str, list[Scalar]]:
        """Parameters in which the winners' recipes differ, with the value of each study; None where it has none."""
        ended = [side.parts for side in self.sides if side.outcome is not None]
        keys = dict.fromkeys(key for parts in ended for key in parts)
        return {
            key: [side.parts.get(key) for side in self.sides]
            for key in keys
            if len({repr(parts.get(key)) for parts in ended}) > 1
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values.

        Returns:
            ``studies``: a mapping each of ``label``, ``trials`` (number by state), ``seconds`` and ``worker_seconds``
            of all trials, and ``outcome`` as in ``report --json``. ``notes``: why they do not compare. ``differences``:
            fields of ``Difference``. ``recipes``: parameters that differ, with a value for each study.
        """
        return {
            "studies": [
                {
                    "label": side.label,
                    "trials": side.states,
                    "seconds": side.total("seconds"),
                    "worker_seconds": side.total("worker_seconds"),
                    "outcome": None if side.outcome is None else outcome_document(side.outcome),
                }
                for side in self.sides
            ],
            "notes": list(self.notes),
            "differences": [asdict(each) for each in self.differences],
            "recipes": self.differing(),
        }


def _sides(folders: Sequence[StudyFolder]) -> Iterator[Side]:
    names = [folder.name for folder in folders]
    for folder in folders:
        config, written = folder.read_config(), folder.read_outcome()
        yield Side(
            folder.name if names.count(folder.name) == 1 else f"{folder.name} in {folder.storage}",
            config,
            folder.read_data(),
            folder.records(config.search.storage),
            None if written is None else Outcome.from_dict(written),
        )


def _reasons(a: Side, b: Side) -> Iterator[str]:
    """Why the improvements of two studies do not compare; nothing where they do."""
    for one, other in ((a, b), (b, a)):
        if only := [name for name in one.tasks if name not in other.tasks]:
            yield f": other tasks, {_named(only)} in {one.label} alone"
    common = [name for name in a.tasks if name in b.tasks]
    if changed := [name for name in common if _predicted(a.tasks[name]) != _predicted(b.tasks[name])]:
        yield f": another target for {_named(changed)}"
    if changed := [name for name in common if a.tasks[name]["metric"] != b.tasks[name]["metric"]]:
        yield f": another metric for {_named(changed)}"
    if not _same_rows(a, b):
        yield ": other data, or other splits of it"
    alone = {
        name: [(s.found.tasks[name].baseline, s.found.tasks[name].baseline_runs) for s in (a, b)] for name in common
    }
    if changed := [name for name, (of_a, of_b) in alone.items() if of_a != of_b]:
        yield f" in improvement: other single-task models for {_named(changed)}, so compare the metrics"


def _difference(a: Side, b: Side) -> Difference | None:
    """Between two studies that compare; None where one of them was not run again."""
    of_a, of_b = a.found.repeated, b.found.repeated
    if of_a is None or of_b is None:
        return None
    if of_a.mean < of_b.mean:
        a, b, of_a, of_b = b, a, of_b, of_a
    lead = difference(of_a, of_b)
    return Difference(a.label, b.label, lead, lead.low is not None and lead.low > 0)


def _same_rows(a: Side, b: Side) -> bool:
    """Whether two studies trained and judged on the same rows.

    The data's key speaks of all tasks and source tasks at once; where these differ, the study files must do.
    """
    keys = [side.card.get("key") for side in (a, b)]  # a study of an earlier version has none
    if None not in keys and all(a.card.get(part) == b.card.get(part) for part in ("tasks", "source_tasks")):
        return bool(keys[0] == keys[1])
    made = [(side.config.data, side.config.seed, side.card["description"]["rows"]) for side in (a, b)]
    return made[0] == made[1]


def _predicted(task: Mapping[str, Any]) -> list[Any]:
    return [task[name] for name in ("kind", "dataset", "target", "labels")]


def _named(names: Sequence[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"
