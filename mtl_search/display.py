"""Display: a running study on the terminal; a live table there, plain lines where output is piped."""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mtl_search.recipe import Recipe
from mtl_search.search.grouping import AffinityMatrix, Groups
from mtl_search.search.record import TrialRecord
from mtl_search.space import COMPONENTS

_ROWS = 12
_SPEAK_FOR_THEMSELVES = ("sharing", "fusion", "weighting")
"""Sections whose variants are known by their names alone."""
_NAMED = ("base", "transfer", "alignment", "auxiliary", "unfreezing", "single.unfreezing")
"""Parameters whose variants are not."""


def varying(recipes: Sequence[Recipe]) -> frozenset[str]:
    """Parameters (keys of ``Recipe.flat``) that differ between those of these recipes that have them."""
    flats = [recipe.flat() for recipe in recipes]
    keys = {key for flat in flats for key in flat}
    return frozenset(key for key in keys if len({repr(flat[key]) for flat in flats if key in flat}) > 1)


def recipe_words(recipe: Recipe, keys: Collection[str]) -> str:
    """Some of a recipe's parameters on one line, e.g. ``weighted depth=2 lr=0.003``.

    Args:
        recipe: The recipe.
        keys: Which of its parameters to name, as keys of ``Recipe.flat``.
    """
    words = []
    for key, value in recipe.flat().items():
        if key in keys:
            name = _short(key)
            if isinstance(value, str):
                words.append(f"{name}={value}" if name.partition(".")[0] in _NAMED or name in _NAMED else value)
            else:
                words.append(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}")
    return " ".join(words)


def _short(key: str) -> str:
    """A parameter's name as far as it takes to tell it from others."""
    section, *rest = key.split(".")
    if section in _SPEAK_FOR_THEMSELVES:
        return ".".join(rest)
    if section in COMPONENTS:
        return key
    last = rest[-1] if rest[0] != "unfreezing" else ".".join(dict.fromkeys((rest[0], rest[-1])))
    return last if section == "joint" else f"single.{last}"


class Display:
    """Shows a study while it runs (a ``search.watchers.StudyWatcher``).

    Args:
        stream: Where to.
        name: The study's name.
        trials: Trials in all.
        unit: What the score is, e.g. ``%`` of improvement.
        metrics: Main metric by task.
        searched: Parameters worth showing of each recipe.
    """

    def __init__(
        self,
        stream: TextIO,
        name: str,
        trials: int,
        unit: str,
        metrics: Mapping[str, str],
        searched: Collection[str],
    ) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self._name, self._trials, self._unit = name, trials, unit
        self._metrics, self._searched = metrics, searched
        self._counts: Counter[str] = Counter()
        self._running: dict[int, tuple[str, int, float]] = {}
        self._recipes: dict[int, str] = {}
        self._done: deque[tuple[int, str, str, str]] = deque(maxlen=_ROWS)
        self._baselines: dict[str, str] = {}
        self._best: tuple[float, int] | None = None
        self._searching_since: float | None = None
        self._phase = "starting worker groups"
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator["Display"]:
        """Keep a live table on a terminal while the block runs."""
        if not self._console.is_terminal:
            yield self
            return
        self._live = Live(
            get_renderable=self._table,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,  # what other libraries print belongs in the log
            redirect_stderr=False,
        )
        with self._live:
            yield self
        self._live = None

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False)

    def pool_started(self, groups: int) -> None:
        """Worker groups are up."""
        self._phase = f"{groups} worker group{'s' if groups > 1 else ''} ready"
        self._note(self._phase)
        self._phase += ", training single-task models"

    def base_reported(self, name: str, report: dict[str, Any]) -> None:
        """Show an epoch of the base."""
        metrics = ", ".join(f"{task} {value:.4g}" for task, value in report["metrics"].items())
        self._phase = f"base ({name}), epoch {report['epoch']}: {metrics}"

    def base_ended(self, name: str, result: dict[str, Any] | None, reason: str) -> None:
        """Show how the base came out."""
        if result is None:
            self._note(f"base ({name}) failed: {reason}")
            return
        metrics = ", ".join(f"{task} {value:.4g}" for task, value in result["metrics"].items())
        how = "found in the cache" if result.get("cached") else f"{result['wall_seconds']:.1f} s"
        self._note(f"base ({name}): {metrics} (best epoch {result['best_epoch']}, {how})")

    def baseline_reported(self, task: str, run: int, report: dict[str, Any]) -> None:
        """A single-task model has finished an epoch."""
        self._baselines[task] = f"epoch {report['epoch']}: {report['metrics'][task]:.4g}"

    def baseline_ended(self, task: str, run: int, result: dict[str, Any] | None, reason: str) -> None:
        """A single-task model is done."""
        if result is None:
            self._baselines[task] = f"failed: {reason}"
        else:
            how = "from cache" if result.get("cached") else f"{result['seconds']:.1f} s"
            value = f"{self._metrics[task]} {result['metrics'][task]:.4g}"
            self._baselines[task] = f"{value} (best epoch {result['best_epoch']}, {how})"
        self._note(f"single-task {task}: {self._baselines[task]}")

    def repeat_started(self, number: int, run: int, recipe: Recipe) -> None:
        """A trial's recipe is run again."""

    def repeat_reported(self, number: int, run: int, report: dict[str, Any]) -> None:
        """A repeat has finished an epoch."""

    def repeat_ended(self, number: int, run: int, result: dict[str, Any] | None, reason: str) -> None:
        """A repeat is done."""
        if result is not None:
            self._note(f"repeat {run} of trial {number}: {result['best_score']:+.2f} {self._unit}")

    def affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: Groups) -> None:
        """Task affinity is known."""
        self._note(f"task affinity ({kind}) makes the groups {' | '.join('+'.join(group) for group in groups)}")

    def trial_started(self, number: int, recipe: Recipe) -> None:
        """A trial begins."""
        self._searching_since = self._searching_since or time.monotonic()
        self._recipes[number] = recipe_words(recipe, self._searched)
        self._running[number] = ("", 0, time.monotonic())

    def trial_reported(self, number: int, report: dict[str, Any]) -> None:
        """A trial has finished an epoch."""
        if number in self._running:
            since = self._running[number][2]
            self._running[number] = (f"{report['best_score']:+.2f}", report["epoch"], since)

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended."""
        self._running.pop(trial.number, None)
        self._counts[trial.state] += 1
        if trial.state == "complete" and trial.value is not None and (not self._best or trial.value > self._best[0]):
            self._best = (trial.value, trial.number)
        shown = "" if trial.value is None else f"{trial.value:+.2f} {self._unit}"
        words = self._recipes.pop(trial.number, "")
        if trial.duplicate_of is not None:
            words = f"same as trial {trial.duplicate_of}"
        self._done.append((trial.number, trial.state, shown, trial.reason or words))
        seconds = "" if trial.seconds is None else f"{trial.seconds:.1f} s"
        reason = f"  [{trial.reason}]" if trial.reason else ""
        self._note(f"trial {trial.number:3d} {trial.state:9} {shown:>10} {seconds:>7}  {words}{reason}")

    def _note(self, line: str) -> None:
        """A plain line, where there is no live table to show the same."""
        if self._live is None:
            self.say(line.rstrip())

    def _table(self) -> RenderableType:
        done = sum(self._counts.values())
        counts = ", ".join(f"{count} {state}" for state, count in self._counts.items())
        head = Text(f"{self._name}: {done}/{self._trials} trials", style="bold")
        if self._searching_since is None:
            head = Text(f"{self._name}: {self._phase}", style="bold")
        else:
            head.append(f"  {len(self._running)} running{', ' + counts if counts else ''}", style="dim")
        if self._best is not None:
            head.append(f"  best {self._best[0]:+.2f} {self._unit} (trial {self._best[1]})", style="bold green")
        if done and self._searching_since is not None:
            left = (time.monotonic() - self._searching_since) / done * max(0, self._trials - done)
            head.append(f"  about {left / 60:.0f} min {left % 60:02.0f} s left", style="dim")
        lines: list[RenderableType] = [head]
        if not done:
            lines += [Text(f"  single-task {task}: {text}") for task, text in self._baselines.items()]
        table = Table(box=None, padding=(0, 1), show_header=bool(self._done or self._running))
        for column in ("trial", "state", self._unit, "recipe"):
            table.add_column(
                column, overflow="ellipsis", no_wrap=True, justify="right" if column == "trial" else "left"
            )
        for number, state, shown, words in self._done:
            table.add_row(str(number), state, shown, words)
        for number, (score, epoch, since) in list(self._running.items()):
            state = f"epoch {epoch}, {time.monotonic() - since:.0f} s"
            table.add_row(str(number), state, score, self._recipes.get(number, ""), style="cyan")
        lines.append(table)
        return Group(*lines)
