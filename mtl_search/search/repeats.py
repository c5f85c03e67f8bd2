"""Repeats: the best recipes of a search trained again over fresh seeds, from the base on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mtl_search.pool.job_pool import JobPool
from mtl_search.pool.jobs import Job, Update
from mtl_search.results.selection import RepeatedTrial
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import Callback, RepeatRun, RunStarted, news_of
from mtl_search.search.jobs import Jobs
from mtl_search.training.stages import Stage


@dataclass
class Repeats:
    """Trains recipes again.

    Attributes:
        jobs: The jobs of a run by its seed.
        seeds: On which each recipe is trained.
        callbacks: Are told of every run.
        stages: Joint stages of the runs that ended well, by trial number and seed.
    """

    jobs: Callable[[int], Jobs]
    seeds: Sequence[int]
    callbacks: Callback
    stages: dict[int, dict[int, Stage]] = field(default_factory=dict)

    def run(self, pool: JobPool, trials: Sequence[TrialRecord]) -> list[RepeatedTrial]:
        """Train the recipes of these trials, all side by side."""
        needed: dict[str, Job] = {}
        of: dict[str, tuple[int, int]] = {}
        joints: list[Job] = []
        for trial in trials:
            assert trial.recipe is not None
            for seed in self.seeds:
                *before, joint = self.jobs(seed).of_tried(trial.recipe)
                needed |= {job.key: job for job in before}
                joints.append(replace(joint, lockstep=False))  # nobody stops it
                of[joint.key] = (trial.number, seed)
                self.callbacks.on_run(RunStarted(RepeatRun(trial.number, seed), trial.recipe))
        if not joints:
            return []

        def heard(job: Job, update: Update) -> None:
            if job.key not in of:
                return
            for event in news_of(RepeatRun(*of[job.key]), update):
                self.callbacks.on_run(event)

        updates = pool.run([*needed.values(), *joints], heard)[len(needed) :]
        repeats = {trial.number: RepeatedTrial(trial) for trial in trials}
        for joint, update in zip(joints, updates, strict=True):
            number, seed = of[joint.key]
            repeat = repeats[number]
            if update.result is None:
                repeats[number] = replace(repeat, failed=repeat.failed + 1)
            else:
                repeats[number] = replace(repeat, metrics={**repeat.metrics, seed: update.result.metrics})
                self.stages.setdefault(number, {})[seed] = joint.payload
        return list(repeats.values())
