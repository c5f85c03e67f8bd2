"""Contenders: the ways to train single-task models among which each task's baseline is chosen.

``baselines`` trains, chooses and measures them; trackers and the display call them by their words.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import optuna
from optuna.samplers import RandomSampler

from mtl_search.pool.jobs import Job
from mtl_search.recipe import Recipe, seed_from
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.jobs import Jobs
from mtl_search.space.search_space import SearchSpace
from mtl_search.training.built_recipe import BuiltRecipe

DEFAULT = ""
"""Name of the default recipe's single-task models."""


def _fine_tuned(jobs: Jobs, recipe: Recipe, task: str) -> list[Job]:
    return [jobs.single(recipe, task)]


def _from_base(jobs: Jobs, recipe: Recipe, task: str) -> list[Job]:
    return [jobs.from_base(recipe, task)]


def _continued(jobs: Jobs, recipe: Recipe, task: str) -> list[Job]:
    return jobs.continued(recipe, task)


@dataclass(frozen=True)
class Contender:
    """One way to train a single-task model for each task.

    Attributes:
        name: Unique within the study, part of a key in MLflow.
        words: What a report calls it.
        recipe: Whose schedules it follows.
        jobs: Its jobs for a task; the last one leaves the model.
        trial: The trial that it comes from; None for the default recipe and for tuned schedules.
        is_control: Whether it has that trial's own schedule, fine-tuning and joint training, with nothing shared.
        tasks: Whose baseline it may be; None for all.
    """

    name: str
    words: str
    recipe: Recipe
    jobs: Callable[[Jobs, Recipe, str], list[Job]] = _fine_tuned
    trial: int | None = None
    is_control: bool = False
    tasks: Collection[str] | None = None

    def may_be_baseline_of(self, task: str) -> bool:
        """Whether it contends for a task."""
        return self.tasks is None or task in self.tasks


def default_contender(recipe: Recipe) -> Contender:
    """The single-task models of the default recipe."""
    return Contender(DEFAULT, "the default recipe", recipe)


def tuned_contenders(space: SearchSpace, seed: int, number: int) -> list[Contender]:
    """Schedules for single-task models, drawn from the space of the joint schedule; the first is its default.

    Args:
        space: The study's.
        seed: Of the draws.
        number: How many.
    """
    default = space.default().recipe
    study = optuna.create_study(sampler=RandomSampler(seed=seed_from(seed, "baseline")))
    draws = [default, *(space.suggest(study.ask()) for _ in range(number - 1))]
    return [
        Contender(f"tuned-{place}", f"tuned schedule {place}", replace(default, joint=drawn.joint), _from_base)
        for place, drawn in enumerate(draws)
    ]


def seen_contender(trial: int, recipe: Recipe, tasks: Collection[str]) -> Contender:
    """Models with the single-task schedule of a trial."""
    return Contender(f"trial-{trial}", f"the single-task schedule of trial {trial}", recipe, trial=trial, tasks=tasks)


def controls_of(trial: TrialRecord) -> list[Contender]:
    """Single-task models with a trial's own schedule and nothing shared, in two forms.

    Fine-tuned and then trained on as in its joint stage; and trained with its joint schedule from the base, as many
    epochs in all. A recipe that trains nothing jointly has the models that it fuses instead, and one that leaves them
    out has the second form alone.
    """
    recipe, number = trial.recipe, trial.number
    assert recipe is not None

    def control(form: str, words: str, jobs: Callable[[Jobs, Recipe, str], list[Job]]) -> Contender:
        name, said = f"control-{number}{form}", f"control of trial {number}: {words}"
        return Contender(name, said, recipe, jobs, number, is_control=True)

    if not recipe.joint.epochs:
        return [control("", "fine-tuned", _fine_tuned)]
    from_base = control("-base", "its joint schedule alone", _from_base)
    if BuiltRecipe(recipe).fusion.from_base:
        return [from_base]
    return [control("-continued", "fine-tuned, then its joint schedule", _continued), from_base]
