"""The board: what a running study's live table shows, drawn anew several times a second from another thread."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mtl_search.display.progress import Progress, about_left, listed_groups, seconds_left
from mtl_search.display.recipe_words import sparkline

ROWS = 10
_SPARKS = 24
Row = tuple[str, str, str, str]


@dataclass
class LiveTable:
    """See the module.

    Attributes:
        name: The study's.
        unit: What scores are, e.g. ``%`` of improvement.
        progress: Trials and groups.
        baselines_to_come: Single-task models in all, every seed of them.
        repeats_to_come: Repeats after the search at most.
        phase: What is going on before the first trial.
        baselines: What each finished single-task model came to.
        baseline_seconds: How long the single-task models took that were trained and not found in the cache.
        controls: Further single-task models that are done.
        repeats: Seconds of each repeat by trial and run; None while it is open.
        ended: Number, state, score and recipe of what ended last.
        recipes: Of the running trials, in words.
        scores: Best of each running trial so far.
    """

    name: str
    unit: str
    progress: Progress
    baselines_to_come: int
    repeats_to_come: int
    phase: str = "starting worker groups"
    baselines: dict[str, str] = field(default_factory=dict)
    baseline_seconds: list[float] = field(default_factory=list)
    controls: int = 0
    repeats: dict[tuple[int, int], float | None] = field(default_factory=dict)
    ended: deque[Row] = field(default_factory=lambda: deque(maxlen=ROWS))
    recipes: dict[int, str] = field(default_factory=dict)
    scores: dict[int, str] = field(default_factory=dict)

    def table(self, bars: bool = True) -> RenderableType:
        """Everything as it stands.

        Args:
            bars: Whether the terminal can show the bars of a sparkline.
        """
        lines: list[RenderableType] = [self._head(bars)]
        if self._searching or self.repeats:
            lines.append(Text(self._left(), style="dim"))
        elif self.baselines:
            lines.append(Text(f"single-task models: {self.baselines_count()}"))
            for name, text in list(self.baselines.items())[-ROWS:]:
                lines.append(Text(f"  single-task {name}: {text}", no_wrap=True, overflow="ellipsis"))
        if self.ended:
            lines.append(_table_of(("trial", "state", self.unit, "recipe"), list(self.ended)))
        if self.progress.busy:
            lines.append(_table_of(("group", "at work on", self.unit, "recipe"), list(self._groups()), "cyan"))
        return Group(*lines)

    def baselines_count(self) -> str:
        """How many single-task models are there of how many, and how long the others take.

        Empty for those that are trained beyond that number, after the search.
        """
        missing = self.baselines_to_come - len(self.baselines)
        left = self._seconds_left(self.baseline_seconds, missing)
        return (
            "" if missing < 0 else listed_groups(f"{len(self.baselines)} of {self.baselines_to_come}", about_left(left))
        )

    def repeats_count(self) -> str:
        """How many of the repeats that have begun or wait are done, and how long the others take."""
        took = [seconds for seconds in list(self.repeats.values()) if seconds is not None]
        left = self._seconds_left(took or self.progress.seconds, len(self.repeats) - len(took))
        return listed_groups(f"{len(took)} of {len(self.repeats)}", about_left(left))

    def _seconds_left(self, took: Sequence[float], missing: int) -> float | None:
        return seconds_left(took, [], missing, self.progress.groups) if missing > 0 else None

    def after_search(self) -> str:
        """What follows the search."""
        most = self.repeats_to_come
        return f"up to {most} repeat{'s' if most > 1 else ''}, controls and the test" if most else "the test"

    @property
    def search_over(self) -> bool:
        """Whether every trial that was asked for has ended."""
        progress = self.progress
        return progress.trials is not None and progress.done >= progress.trials and not progress.running

    @property
    def _searching(self) -> bool:
        return bool(self.progress.running or self.ended)

    def _head(self, bars: bool) -> Text:
        progress = self.progress
        if not self._searching:
            return Text(f"{self.name}: {self.phase}", style="bold")
        of = "" if progress.trials is None else f"/{progress.trials}"
        head = Text(f"{self.name}: {progress.done}{of} trials", style="bold")
        counts = [f"{count} {state}" for state, count in dict(progress.counts).items()]
        if progress.running:
            counts.insert(0, f"{len(progress.running)} running")
        head.append("  " + ", ".join(counts), style="dim")
        if progress.best is not None:
            head.append(f"  best {progress.best[0]:+.2f} {self.unit} (trial {progress.best[1]})", style="bold green")
            if bars:
                head.append("  " + sparkline(progress.bests, _SPARKS), style="green")
        return head

    def _left(self) -> str:
        """How long the phase takes that the study is in, and what comes after it."""
        progress = self.progress
        if self.repeats:
            controls = f"controls: {self.controls} single-task models so far, then the test"
            then = "then controls and the test" if None in list(self.repeats.values()) else controls
            return f"repeats: {listed_groups(self.repeats_count(), then)}"
        if self.search_over:
            return "the search is over; choosing and testing the winner"
        return listed_groups(about_left(progress.search_left()), f"then {self.after_search()}")

    def _groups(self) -> Iterator[Row]:
        """A line for each group; one that is silent while trials wait for their first epoch prepares one of them."""
        progress = self.progress
        waiting = [number for number in list(progress.running) if not progress.reported(number)]
        quiet = f"preparing trial {' or '.join(map(str, waiting))}" if waiting else ""
        if progress.free > len(waiting):
            quiet += ", or idle" if waiting else "idle"
        for name, job, what in progress.at_work():
            if job is None:
                yield name, quiet, "", ""
            elif isinstance(job, int):
                since = progress.running.get(job)
                spent = "" if since is None else f", {progress.clock() - since:.0f} s"
                yield name, what + spent, self.scores.get(job, ""), self.recipes.get(job, "")
            else:
                yield name, what, "", ""


def _table_of(columns: Row, rows: Sequence[Row], style: str = "") -> Table:
    """Rows, of which the last column alone is cut off where the terminal ends."""
    table = Table(box=None, padding=(0, 1))
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])  # what may wrap is what gives way
    for *first, last in rows:
        table.add_row(*map(Text, first), Text(last, no_wrap=True, overflow="ellipsis"), style=style)
    return table
