"""The display: a study while it runs; a live table on a terminal, plain lines where output is piped and in the log."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live

from mtl_search.config.search_config import MEAN_IMPROVEMENT, WORST_TASK
from mtl_search.config.study_config import StudyConfig
from mtl_search.display.live_table import LiveTable
from mtl_search.display.progress import COUNTED, Progress
from mtl_search.display.recipe_words import recipe_words
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import (
    BaselineRun,
    BaseRun,
    Callback,
    EpochEnded,
    RepeatRun,
    Run,
    RunEnded,
    RunEvent,
    RunStarted,
    TrialEnded,
    TrialRun,
)
from mtl_search.search.contenders import DEFAULT, Contender
from mtl_search.search.grouping import AffinityMatrix, TaskGroups
from mtl_search.storage.reports import EpochReport, StageResult

_MOST_TASKS = 6
"""Of a line."""


class Display(Callback):
    """Shows a study while it runs (a ``search.callbacks.Callback``).

    Args:
        stream: Where to.
        config: The study file.
        metrics: Main metric by task.
        searched: Parameters worth showing of each recipe.
        log: File that gets every plain line with the time, on a terminal too; None for no file.
        joined: Whether other drivers run the study too. This one hears of its own trials only, so it cannot tell how
            many are left.
    """

    def __init__(
        self,
        stream: TextIO,
        config: StudyConfig,
        metrics: Mapping[str, str],
        searched: Collection[str],
        log: Path | None = None,
        *,
        joined: bool = False,
    ) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self._metrics, self._searched, self._log = metrics, searched, log
        search = config.search
        self._progress = Progress(None if joined else search.most_trials, budget=search.seconds)
        self._board = LiveTable(
            config.name,
            "%" if search.kind in (MEAN_IMPROVEMENT, WORST_TASK) else "",
            self._progress,
            len(config.tasks) * search.baseline_seeds,
            search.repeats.trials * search.repeats.runs,
        )
        self._live: Live | None = None
        self._count_width = 0

    @contextmanager
    def shown(self) -> Iterator["Display"]:
        """Keep a live table on a terminal while the block runs."""
        if not self._console.is_terminal:
            yield self
            return
        bars = not self._console.options.ascii_only
        self._live = Live(
            get_renderable=lambda: self._board.table(bars),
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,  # what other libraries print belongs in the log
            redirect_stderr=False,
        )
        try:
            with self._live:
                yield self
        finally:
            self._live = None

    def notify(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False)
        self._write_log(text)

    def on_pool_start(self, groups: int) -> None:
        """Worker groups are up."""
        self._progress.groups = groups
        self._board.phase = f"{groups} worker group{'s' if groups > 1 else ''} ready"
        self._note(self._board.phase)
        self._board.phase += ", training single-task models"

    def on_trials_loaded(self, trials: Sequence[TrialRecord]) -> None:
        """Trials of earlier runs count."""
        for trial in trials:
            if trial.state in COUNTED:
                self._progress.on_trial_ended(trial)
        if self._progress.done:
            of = "" if self._progress.trials is None else f" of {self._progress.trials}"
            self.notify(f"{self._progress.done}{of} trials were done before")

    def on_run(self, event: RunEvent) -> None:
        """Show that a run begins, how far it is, or what it came to."""
        match event:
            case RunStarted(TrialRun(number), recipe):
                self._board.recipes[number] = recipe_words(recipe, self._searched)
                self._progress.started(number)
            case RunStarted(RepeatRun(number, seed), _):
                self._board.repeats[number, seed] = None
            case EpochEnded(run, report):
                self._show_epoch(run, report)
            case RunEnded(BaseRun(name), result, reason):
                self._end_base(name, result, reason)
            case RunEnded(BaselineRun() as run, result, reason):
                self._end_baseline(run, result, reason)
            case RunEnded(RepeatRun() as run, result, reason):
                self._end_repeat(run, result, reason)
            case TrialEnded(trial):
                self._end_trial(trial)

    def _show_epoch(self, run: Run, report: EpochReport) -> None:
        match run:
            case BaseRun(name):
                metrics = ", ".join(f"{task} {value:.4g}" for task, value in report.metrics.items())
                self._board.phase = f"base ({name}), epoch {report.epoch}: {metrics}"
                self._progress.heard("base", f"base {name}", report)
            case BaselineRun(contender, task, seed):
                name = _name(contender, task, seed)
                self._progress.heard(("single-task", name), f"single-task {name}", report)
            case RepeatRun(number, seed):
                self._progress.heard(("repeat", number, seed), f"trial {number} again, seed {seed}", report)
            case TrialRun(number):
                self._board.scores[number] = f"{report.best_score:+.2f}"
                self._progress.heard(number, f"trial {number}", report)

    def on_contender_trained(self, contender: Contender, metrics: Mapping[str, float], seeds: int) -> None:
        """Other single-task models than the default recipe's are there."""
        said = [f"{task} {self._metrics[task]} {value:.4g}" for task, value in metrics.items()]
        rest = f" and {len(said) - _MOST_TASKS} more tasks" if len(said) > _MOST_TASKS else ""
        over = f" over {seeds} seeds" if seeds > 1 else ""
        self._note(f"single-task, {contender.words}: {', '.join(said[:_MOST_TASKS]) or 'failed'}{rest}{over}")

    def on_note(self, text: str) -> None:
        """Print a line that stays."""
        self.notify(f"note: {text}")

    def on_affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: TaskGroups) -> None:
        """Task affinity is known."""
        self._note(f"task affinity ({kind}) makes the groups {' | '.join('+'.join(group) for group in groups)}")

    def _end_base(self, name: str, result: StageResult | None, reason: str) -> None:
        self._progress.ended("base")
        if result is None:
            self._note(f"base ({name}) failed: {reason}")
            return
        self._board.phase = f"base ({name}) is there, training single-task models"
        metrics = ", ".join(f"{task} {value:.4g}" for task, value in result.metrics.items())
        how = "found in the cache" if result.cached else f"{result.wall_seconds:.1f} s"
        self._note(f"base ({name}): {metrics} (best epoch {result.best_epoch}, {how})")

    def _end_baseline(self, run: BaselineRun, result: StageResult | None, reason: str) -> None:
        contender, task = run.contender, run.task
        name = _name(contender, task, run.seed)
        self._progress.ended(("single-task", name))
        if result is None:
            came_to = f"failed: {reason}"
        else:
            if not result.cached:
                self._board.baseline_seconds.append(result.seconds)
            how = "from cache" if result.cached else f"{result.seconds:.1f} s"
            value = f"{self._metrics[task]} {result.metrics[task]:.4g}"
            came_to = f"{value} (best epoch {result.best_epoch}, {how})"
        if contender.name != DEFAULT:  # of the many others ``on_contender_trained`` says what they come to
            self._board.controls += 1
        else:
            self._board.baselines[name] = came_to
            self._note(f"single-task {name}: {'; '.join(filter(None, (came_to, self._board.baselines_count())))}")

    def _end_repeat(self, run: RepeatRun, result: StageResult | None, reason: str) -> None:
        number, seed = run.number, run.seed
        self._progress.ended(("repeat", number, seed))
        self._board.repeats[number, seed] = 0.0 if result is None else result.wall_seconds
        score = "" if result is None else f"{result.best_score:+.2f} {self._board.unit}".rstrip()
        self._board.ended.append((str(number), f"seed {seed}", score, reason))
        told = score or f"failed: {reason}"
        self._note(f"trial {number} again, seed {seed}: {told}; {self._board.repeats_count()}")

    def _end_trial(self, trial: TrialRecord) -> None:
        self._progress.on_trial_ended(trial)
        self._board.scores.pop(trial.number, None)
        shown = "" if trial.value is None else f"{trial.value:+.2f} {self._board.unit}"
        words = self._board.recipes.pop(trial.number, "")
        if trial.duplicate_of is not None:
            words = f"same as trial {trial.duplicate_of}"
        self._board.ended.append((str(trial.number), trial.state, shown, trial.reason or words))
        seconds = "" if trial.seconds is None else f"{trial.seconds:.1f} s"
        reason = f"  [{trial.reason}]" if trial.reason else ""
        count = self._progress.count()
        self._count_width = max(self._count_width, len(count))  # so that recipes stand below each other
        count = count.ljust(self._count_width)
        self._note(f"trial {trial.number:3d} {trial.state:9} {shown:>10} {seconds:>7}  {count}  {words}{reason}")
        if self._board.search_over:
            self._note(f"the search is over; next: {self._board.after_search()}")

    def _note(self, line: str) -> None:
        """A plain line for the log, and for the user where there is no live table to show the same."""
        if self._live is None:
            self.notify(line.rstrip())
        else:
            self._write_log(line.rstrip())

    def _write_log(self, line: str) -> None:
        if self._log is not None and line.strip():
            with suppress(OSError), self._log.open("a", encoding="utf-8") as file:  # the log's disk may be full
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def _name(contender: Contender, task: str, seed: int) -> str:
    """A single-task model's; the default recipe and the study's own seed go without saying."""
    name = f"{task}, {contender.words}" if contender.name else task
    return f"{name}, seed {seed}" if seed else name
