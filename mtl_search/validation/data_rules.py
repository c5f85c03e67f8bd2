"""Compatibility: the rules that tie a study's space to its data, its backbone and its resources.

``launch`` asks for them once the data is there, before anything trains.
"""

from collections.abc import Mapping

from mtl_search.errors import ConfigError, MtlSearchError, Problem
from mtl_search.results.objective import Goal
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.training.pairings import Pairs
from mtl_search.training.workspace import Workload
from mtl_search.transfer.bases import BASES
from mtl_search.transfer.bases.base import Fetch
from mtl_search.transfer.bases.learned import LearnedBase, MetaLearned
from mtl_search.validation.study_file import LoadedStudy
from mtl_search.variants.building import build


def objective_problems(study: LoadedStudy, goals: Mapping[str, Goal]) -> list[Problem]:
    """Rules between the objective and what the validation labels let judge.

    Args:
        study: The study file.
        goals: By task, from ``task_goals``.
    """
    rule = "must be a task whose metric is defined on the validation labels"
    judged = tuple(name for name in study.config.tasks if goals[name].judged)
    wanted = [name for name in study.config.search.objectives if name in study.config.tasks]
    return [Problem("search.objective", rule, name, judged) for name in wanted if name not in judged]


def fit_problems(study: LoadedStudy, workload: Workload) -> list[Problem]:
    """Rules between the space and the data or the backbone.

    Args:
        study: The study file.
        workload: Its data and backbone.
    """
    problems: list[Problem] = []
    pairs, tasks = Pairs(workload), workload.data.tasks
    most = max(
        ((*tasks, *map(workload.task, workload.sources_of(recipe))) for recipe in study.space.extreme_recipes()),
        key=len,
    )
    for recipe in study.space.extreme_recipes():
        parts = BuiltRecipe(recipe)
        try:
            parts.sharing.check(most)
            parts.fusion.check_kinds([task.kind for task in tasks])
            pairs.common_of(recipe.sharing, workload.sources_of(recipe))
        except ConfigError as error:
            problems += [Problem(f"space.{p.place}", p.rule, p.value, p.choices) for p in error.problems]
        try:
            parts.alignment.check(most)
        except ConfigError as error:
            place = f"space.alignment.{recipe.alignment.name}"
            problems += [Problem(place, p.rule, p.value, p.choices) for p in error.problems]
    if not problems:
        problems += pairs.problems(study.space.extreme_recipes())
    workers, datasets = study.config.resources.most_workers, {task.dataset for task in most}
    for section in ("single_task", "joint"):
        smallest = study.space.smallest(f"{section}.batch_size")
        least = max(workers, len(datasets) if section == "joint" else 1)
        if smallest < least:
            rule = f"must be at least {least}: a row for every worker and every data set"
            problems.append(Problem(f"space.{section}.batch_size", rule, smallest))
    if study.space.sets("joint.temperature") and len(datasets) == 1:
        problems.append(Problem("space.joint.temperature", "has no effect with one data set"))
    if study.space.sets("single_task.temperature"):
        problems.append(Problem("space.single_task.temperature", "has no effect: a single task has one data set"))
    return list(dict.fromkeys(problems))


def base_problems(study: LoadedStudy, workload: Workload, fetch: Fetch) -> list[Problem]:
    """Rules between the bases of the space and the backbone or the source tasks.

    Args:
        study: The study file.
        workload: Its data and backbone.
        fetch: Gives the trunk of an earlier model.
    """
    problems: list[Problem] = []
    workers = study.config.resources.most_workers
    for component in dict.fromkeys(recipe.base for recipe in study.space.extreme_recipes()):
        place, base = f"space.base.{component.name}", build(BASES, component)
        if isinstance(base, LearnedBase):
            datasets = {task.dataset for task in workload.data.source_tasks}
            least = max(workers, 1 if isinstance(base, MetaLearned) else len(datasets))
            if base.schedule.batch_size < least:
                rule = f"must be at least {least}: a row for every worker and every data set"
                problems.append(Problem(f"{place}.batch_size", rule, base.schedule.batch_size))
            continue
        try:
            workload.base_state(component, fetch)
        except MtlSearchError as error:
            found = error.problems if isinstance(error, ConfigError) else [Problem(place, str(error))]
            problems += [Problem(f"space.{p.place.removeprefix('space.')}", p.rule, p.value, p.choices) for p in found]
    return problems
