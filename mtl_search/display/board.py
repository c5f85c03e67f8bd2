"""The board: what a running study's live table shows, drawn anew several times a second from another thread."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mtl_search.display.progress import Progress, seconds_left
from mtl_search.display.words import duration, sparkline

ROWS = 10
_SPARKS = 24
Row = tuple[str, str, str, str]


@dataclass
class Board:
    """See the module.

    Attributes:
        name: The study's.
        unit: What scores are, e.g. ``%`` of improvement.
        progress: Trials and groups.
        baselines_to_come: Single-task models in all, every seed of them.
        repeats_to_come: Repeats after the search at most.
        phase: What is going on before the first trial.
        baselines: What each finished single-task model came to.
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
            lines.append(Text(f"{len(self.baselines)} of {self.baselines_to_come} single-task models are there"))
            for name, text in list(self.baselines.items())[-ROWS:]:
                lines.append(Text(f"  single-task {name}: {text}", no_wrap=True, overflow="ellipsis"))
        if self.ended:
            lines.append(_table_of(("trial", "state", self.unit, "recipe"), list(self.ended)))
        if self.progress.busy:
            lines.append(_table_of(("group", "at work on", self.unit, "recipe"), list(self._groups()), "cyan"))
        return Group(*lines)

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
            took = [seconds for seconds in list(self.repeats.values()) if seconds is not None]
            missing = len(self.repeats) - len(took)
            done = f"{len(took)} of {len(self.repeats)} repeats done"
            if not missing:
                return f"{done}; choosing and testing the winner"
            return (
                f"{done}; {_about(seconds_left(took or progress.seconds, [], missing, progress.groups))}then the test"
            )
        if progress.trials is not None and progress.done >= progress.trials and not progress.running:
            return "the search is over; choosing and testing the winner"
        repeats = f"up to {self.repeats_to_come} repeats and " if self.repeats_to_come else ""
        return f"{_about(progress.search_left())}then {repeats}the test"

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


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f"about {duration(seconds)} left, "


def _table_of(columns: Row, rows: Sequence[Row], style: str = "") -> Table:
    """Rows, of which the last column alone is cut off where the terminal ends."""
    table = Table(box=None, padding=(0, 1))
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])  # what may wrap is what gives way
    for *first, last in rows:
        table.add_row(*map(Text, first), Text(last, no_wrap=True, overflow="ellipsis"), style=style)
    return table
