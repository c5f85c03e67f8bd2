"""Progress: what a running study has come to and what its worker groups are at, in numbers; the display shows it.

Groups are known by the reports of the epochs that they finish, so a group says nothing before its first epoch of a job.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from mtl_search.display.recipe_words import duration
from mtl_search.results.trial_record import TrialRecord
from mtl_search.storage.reports import EpochReport

COUNTED = ("complete", "pruned", "failed")
"""States that use up the budget; an interrupted trial is tried again."""
SHOWN_GROUPS = 8


@dataclass
class Progress:
    """Trials ended, trials running, groups at work.

    Attributes:
        trials: How many there are to be; None where the time alone is the limit.
        groups: Worker groups; 0 before the pool is up.
        counts: Ended trials by state.
        best: Score and number of the best complete trial.
        bests: Best score after each complete trial.
        seconds: How long the trials took that were trained.
        running: When each running trial began.
        clock: Seconds that only grow.
        budget: Seconds that the study may take in all; None for no limit.
    """

    trials: int | None
    groups: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    best: tuple[float, int] | None = None
    bests: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    running: dict[int, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    budget: float | None = None
    _at: dict[str, tuple[object, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def done(self) -> int:
        """Trials that count as tried."""
        return sum(self.counts[state] for state in COUNTED)

    def started(self, number: int) -> None:
        """A trial begins."""
        self.running[number] = self.clock()

    def heard(self, job: object, what: str, report: EpochReport) -> None:
        """A group has finished an epoch.

        Args:
            job: What ``ended`` will call it.
            what: In words.
            report: Of the epoch, with its ``group`` where one is known.
        """
        if report.group:
            self.ended(job)  # where a group died, another one has its job
            self._at[report.group] = (job, f"{what}, epoch {report.epoch}")

    def ended(self, job: object) -> None:
        """A job has ended, and its group is free."""
        for group, (other, _) in list(self._at.items()):
            if other == job:
                self._at[group] = (None, "")

    def on_trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended, now or in an earlier run of the study."""
        self.running.pop(trial.number, None)
        self.ended(trial.number)
        self.counts[trial.state] += 1
        if trial.seconds is not None and trial.duplicate_of is None and trial.state in COUNTED:
            self.seconds.append(trial.seconds)
        if trial.state == "complete" and trial.value is not None:
            if self.best is None or trial.value > self.best[0]:
                self.best = (trial.value, trial.number)
            self.bests.append(self.best[0])

    def at_work(self) -> list[tuple[str, object, str]]:
        """Each group with its job (None where none is known) and that in words, as many as fit; then the rest."""
        groups = [(name, *self._at[name]) for name in sorted(self._at, key=_in_order)]
        silent = self.groups - len(groups)
        if len(groups) > SHOWN_GROUPS:
            rest = groups[SHOWN_GROUPS:]
            busy = sum(job is not None for _, job, _ in rest)
            groups = [*groups[:SHOWN_GROUPS], (f"{len(rest)} more", "", f"{busy} at work")]
        if silent > 0:
            groups.append((f"{silent} more", None, ""))
        return groups

    @property
    def free(self) -> int:
        """Groups of which no job is known."""
        return max(self.groups, len(self._at)) - sum(job is not None for job, _ in list(self._at.values()))

    @property
    def busy(self) -> bool:
        """Whether any group has something to do, as far as is known."""
        return bool(self.running) or self.free < max(self.groups, len(self._at))

    def reported(self, number: int) -> bool:
        """Whether a group is known to train a trial."""
        return any(job == number for job, _ in list(self._at.values()))

    def count(self) -> str:
        """How many trials are done of how many, and how long the others take, e.g. ``3 of 8, about 20 s left``."""
        done = f"{self.done} done" if self.trials is None else f"{self.done} of {self.trials}"
        over = self.trials is not None and self.done >= self.trials
        return done if over else listed_groups(done, about_left(self.search_left()))

    def search_left(self) -> float | None:
        """Seconds until the last trial ends; None where no trial has told how long one takes."""
        now = self.clock()
        had = [now - since for since in list(self.running.values())]
        missing = None if self.trials is None else self.trials - self.done - len(had)
        trials = None if missing is None else seconds_left(self.seconds, had, missing, self.groups)
        time_left = None if self.budget is None else max(0.0, self.budget - (now - self._began))
        return min((left for left in (trials, time_left) if left is not None), default=None)


def about_left(seconds: float | None) -> str:
    """In words, e.g. ``about 20 s left``; empty where the time is not known."""
    return "" if seconds is None else f"about {duration(max(seconds, 1))} left"


def listed_groups(*parts: str) -> str:
    """The parts that are not empty, with commas between them."""
    return ", ".join(part for part in parts if part)


def seconds_left(took: Sequence[float], had: Sequence[float], missing: int, groups: int) -> float | None:
    """Seconds until the last of some equal jobs ends; None where nothing tells how long one takes.

    Args:
        took: Seconds of each that has ended.
        had: Seconds that each running one has had.
        missing: Jobs that have not begun.
        groups: How many run side by side.
    """
    if not took:
        return None
    typical = fmean(took)
    open_ = [max(typical - each, 0.0) for each in had]
    return max(max(open_, default=0.0), (sum(open_) + max(missing, 0) * typical) / max(groups, 1))


def _in_order(name: str) -> tuple[int, str]:
    """``group-2`` before ``group-10``."""
    return len(name), name
