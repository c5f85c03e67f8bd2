"""Rules between sections of a study file: what the search section, the source tasks and the space ask of each other.

``catalog`` holds every file against them once each section is sound by itself.
"""

from collections.abc import Sequence

from mtl_search.alignment import ALIGNMENTS
from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import Problem
from mtl_search.fusion import FUSIONS
from mtl_search.recipe import Component, Schedule
from mtl_search.search.samplers import NO_BRANCHES, NUMBERS_ONLY, ONE_OBJECTIVE, SAMPLERS
from mtl_search.search.stoppers import STOPPERS, Never
from mtl_search.space.domains import Choice
from mtl_search.space.search_space import SCHEDULES, SearchSpace
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.transfer import TRANSFERS, UNFREEZINGS
from mtl_search.transfer.bases import BASES
from mtl_search.variants.building import build, variant
from mtl_search.variants.python_objects import is_object

_GAIN = "gain"
"""Stands in the names of metrics (``test/gain/TASK``) where other metrics have a task's name (``test/TASK/METRIC``)."""


def rule_problems(config: StudyConfig, space: SearchSpace, *, sound: bool) -> list[Problem]:
    """Every rule between sections that a study file breaks.

    Args:
        config: Its sections.
        space: Its search space.
        sound: Whether every variant in it can be constructed; what needs that is left out if not.
    """
    problems = [*_search_problems(config, space), *_source_problems(config, space), *_tracking_problems(config)]
    return [*problems, *_transfer_problems(space), *_idle_problems(space)] if sound else problems


def schedule_notes(config: StudyConfig, space: SearchSpace) -> list[str]:
    """Where a gain may be the schedule's alone: what joint training searches and single-task training has fixed."""
    searched = {
        section: {name.removeprefix(f"{section}.") for name in space.domains if name.startswith(f"{section}.")}
        for section in SCHEDULES
    }
    fixed = sorted(searched["joint"] - searched["single_task"])
    if not fixed or config.search.baseline.tune:
        return []
    shown = ", ".join(fixed[:4]) + (f" and {len(fixed) - 4} more" if len(fixed) > 4 else "")
    return [
        f"space.joint searches what space.single_task fixes ({shown}): a gain may come from the schedule and not from "
        "sharing. Controls at the end tell how much of it does; search.baseline.tune gives single-task models a search "
        "of their own"
    ]


def _search_problems(config: StudyConfig, space: SearchSpace) -> list[Problem]:
    """Rules between the search section and the space."""
    problems = []
    name = config.search.sampler.name
    sampler = variant(SAMPLERS, name, "search.sampler")
    choices = [key for key, domain in space.domains.items() if isinstance(domain, Choice)]
    if sampler in NUMBERS_ONLY and choices:
        rule = f"samples numbers only and would draw {', '.join(choices)} blindly; use tpe"
        problems.append(Problem("search.sampler", rule, name))
    elif sampler in NO_BRANCHES and space.has_branches:
        rule = "cannot learn from parameters that exist on some branches only; use tpe"
        problems.append(Problem("search.sampler", rule, name))
    several = len(config.search.objectives) > 1
    if several and sampler in ONE_OBJECTIVE:
        problems.append(Problem("search.sampler", "cannot maximise several objectives; use tpe or nsga2", name))
    stopper = config.search.stopper.name
    if several and variant(STOPPERS, stopper, "search.stopper") is not Never:
        problems.append(Problem("search.stopper", "must be none with several objectives", stopper))
    if not space.domains and (config.search.most_trials is None or config.search.most_trials > 2):
        rule = f"must hold a domain for {config.search.budget} (without one: 2, the default and the plain recipe)"
        problems.append(Problem("space", rule, config.space))
    for section in SCHEDULES:
        problems += _schedule_problems(section, space)
    longest = space.largest("joint.epochs")
    grace = config.search.stopper.params.get("grace")
    if isinstance(grace, int) and grace >= longest:
        rule = f"has no effect: no trial is longer than {longest} epochs"
        problems.append(Problem(f"search.stopper.{config.search.stopper.name}.grace", rule, grace))
    return problems


def _source_problems(config: StudyConfig, space: SearchSpace) -> list[Problem]:
    """Rules between the source tasks and what of the space learns from them."""
    from mtl_search.transfer.bases.learned import LearnedBase

    users = {}
    for recipe in space.extreme_recipes():
        base = variant(BASES, recipe.base.name, "space.base")
        base = type(base()) if is_object(recipe.base.name) else base
        if isinstance(base, type) and issubclass(base, LearnedBase):
            users[f"space.base.{recipe.base.name}"] = recipe.base.name
        if BuiltRecipe(recipe).auxiliary.trains:
            users[f"space.auxiliary.{recipe.auxiliary.name}"] = recipe.auxiliary.name
    if users and not config.source_tasks:
        rule = "needs source_tasks to learn from, in the form of tasks"
        return [Problem(place, rule, name) for place, name in users.items()]
    if config.source_tasks and not users:
        rule = "have no effect: neither a base (pretrain, ...) nor space.auxiliary learns from them"
        return [Problem("source_tasks", rule, tuple(config.source_tasks))]
    return []


def _tracking_problems(config: StudyConfig) -> list[Problem]:
    """Tasks of which MLflow would keep two figures under one name: a gain, and the metric of a task called so."""
    if (task := config.tasks.get(_GAIN)) is None:
        return []
    metric = TASK_KINDS[task.kind].default_metric if task.metric is None else task.metric.name
    rule = f"must not be the name of a task beside the task {_GAIN}, which has this metric: MLflow keeps both as one"
    return [Problem(f"tasks.{metric}", rule)] if metric in config.tasks else []


def _transfer_problems(space: SearchSpace) -> list[Problem]:
    """Kinds of transfer that differ from another in nothing, whatever the base."""
    others = {recipe.base.name for recipe in space.extreme_recipes()} - {next(iter(BASES))}
    if others and all(BuiltRecipe(recipe).transfer.fresh for recipe in space.extreme_recipes()):
        rule = "has no effect: this transfer takes nothing of it"
        return [Problem(f"space.base.{name}", rule) for name in sorted(others)]
    if others:
        return []
    names = dict.fromkeys(recipe.transfer.name for recipe in space.extreme_recipes())
    rule = "has no effect: the base is random as it is"
    return [Problem(f"space.transfer.{name}", rule) for name in names if build(TRANSFERS, Component(name)).fresh]


def _schedule_problems(section: str, space: SearchSpace) -> list[Problem]:
    """Parts of a schedule that could have no effect in any stage of the space."""
    problems = {}
    longest = space.largest(f"{section}.epochs")
    schedules: list[Schedule] = [getattr(recipe, section) for recipe in space.extreme_recipes()]
    for name, params in ((part.unfreezing.name, part.unfreezing.params) for part in schedules):
        if params.get("epochs", 0) > longest:
            place = f"space.{section}.unfreezing.{name}.epochs"
            rule = f"must not be more than the {longest} epochs of the stage"
            problems[place] = Problem(place, rule, params["epochs"])
    patiences = [part.patience for part in schedules if part.patience is not None]
    if patiences and min(patiences) >= longest:
        rule = f"has no effect: no stage is longer than {longest} epochs"
        problems["patience"] = Problem(f"space.{section}.patience", rule, min(patiences))
    applied = [BuiltRecipe(recipe).applied for recipe in space.extreme_recipes()]
    if not any(_ever_learns(getattr(recipe, section)) for recipe in applied):
        if schedules != [getattr(recipe, section) for recipe in applied] and _unlike_default(schedules):
            place = f"space.{section}.unfreezing"
            rule = "has no effect: with this transfer no block ever learns"
            problems["unfreezing"] = Problem(place, rule, schedules[0].unfreezing.name)
        for name in ("layer_decay", "l2_sp"):
            if space.sets(f"{section}.{name}"):
                place = f"space.{section}.{name}"
                problems[name] = Problem(place, "has no effect: no block ever learns", getattr(schedules[0], name))
    return list(problems.values())


def _idle_problems(space: SearchSpace) -> list[Problem]:
    """Fusions and alignments that could change nothing, whatever the recipe."""
    applied = [BuiltRecipe(recipe).applied for recipe in space.extreme_recipes()]
    problems = {}
    for recipe in applied:
        fusion, alignment = recipe.fusion.name, recipe.alignment.name
        plain = fusion == next(iter(FUSIONS)) or BuiltRecipe(recipe).fusion.from_base
        if not plain and not any(_ever_learns(each.single_task) for each in applied):
            rule = "has no effect: single-task training moves no block"
            problems[fusion] = Problem(f"space.fusion.{fusion}", rule)
        if alignment != next(iter(ALIGNMENTS)) and not any(_ever_learns(each.joint) for each in applied):
            rule = "has no effect: joint training moves no block"
            problems[alignment] = Problem(f"space.alignment.{alignment}", rule)
    return list(problems.values())


def _unlike_default(schedules: Sequence[Schedule]) -> bool:
    return any(schedule.unfreezing.name != next(iter(UNFREEZINGS)) for schedule in schedules)


def _ever_learns(schedule: Schedule) -> bool:
    """Whether the topmost block, which begins no later than those below, learns within the schedule's epochs."""
    unfreezing = build(UNFREEZINGS, schedule.unfreezing)
    starts = [unfreezing.start(1, 1, shared=shared) for shared in (True, False)]
    return any(start is not None and start <= schedule.epochs for start in starts)
