"""The study's searcher as Ray Tune knows searchers: Tune asks it for trials and tells it what they report."""

from typing import Any, final

from ray.tune.search import Searcher

from mtl_search.pool.jobs import Update
from mtl_search.search.job_trainable import METRIC, NEWS, START
from mtl_search.search.searcher import NoTrial, OptunaSearcher


@final
class TuneSearcher(Searcher):
    """Passes Tune's calls on.

    Args:
        searcher: The study's.
    """

    def __init__(self, searcher: OptunaSearcher) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._searcher = searcher

    def suggest(self, trial_id: str) -> dict[str, Any] | Any:
        """Configuration of the next trial; None where there is none now, ``FINISHED`` where there will be none."""
        trial = self._searcher.start_trial(trial_id)
        if isinstance(trial, NoTrial):
            return None if trial is NoTrial.NOT_NOW else Searcher.FINISHED
        return {"job": trial.job, START: trial.start} if trial.start else {"job": trial.job}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an epoch on."""
        news: Update | None = result.get(NEWS)
        for report in news.reports[-1:] if news is not None else ():
            self._searcher.report(trial_id, report)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the end of a trial on."""
        self._searcher.end(trial_id, (result or {}).get(NEWS), error=error)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher for a restore that this project does not use: only what needs no process."""
        return {"_metric": self._metric, "_mode": self._mode}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in Optuna's storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see ``save``."""
