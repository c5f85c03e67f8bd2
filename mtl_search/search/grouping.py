"""Grouping: task affinity -> groups of tasks that share more than the trunk."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from mtl_search.models.sharing.resolve_affinity import affinity_measure
from mtl_search.pool.jobs import Job
from mtl_search.recipe import content_key
from mtl_search.space.search_space import SearchSpace
from mtl_search.storage.paths import StoragePath
from mtl_search.storage.reports import EpochReport

EXHAUSTIVE = 6
"""Up to so many tasks every partition is tried (203 of six); beyond, groups are merged greedily."""

TaskGroups = list[list[str]]
AffinityMatrix = Mapping[str, Mapping[str, float]]


def awaited_affinities(space: SearchSpace) -> list[str]:
    """The kinds of affinity that sharings of a space wait for."""
    return sorted({affinity_measure(recipe.sharing) for recipe in space.extreme_recipes()} - {""})


def affinity_job(kind: str, joint: Job, folder: StoragePath) -> Job:
    """A joint training that measures affinity on the way.

    Args:
        kind: ``cosine`` or ``look_ahead``.
        joint: The training without measuring.
        folder: Where models of trials lie.
    """
    key = content_key("affinity", kind, joint.key)
    return Job(key, replace(joint.payload, key=key, folder=str(folder / key), affinity=kind), joint.needs)


def mean_cosines(histories: Iterable[Sequence[EpochReport]]) -> dict[str, dict[str, float]]:
    """Mean cosine of two tasks' gradients over the epochs of several trainings, both ways round.

    Args:
        histories: The reports of one training each.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for report in (report for history in histories for report in history):
        for a, others in report.cosines.items():
            for b, value in others.items():
                found.setdefault((a, b), []).append(value)
    matrix: dict[str, dict[str, float]] = {}
    for (a, b), values in found.items():
        mean = sum(values) / len(values)
        matrix.setdefault(a, {})[b] = matrix.setdefault(b, {})[a] = mean
    return matrix


def group_tasks(tasks: Sequence[str], affinity: AffinityMatrix) -> TaskGroups:
    """The partition with the most affinity inside its groups, above what two tasks of the study have on average.

    A pair counts with the mean of both directions, less the mean over all pairs: so a group pays only where its tasks
    go together better than tasks do anyway. An unmeasured pair counts nothing.

    Args:
        tasks: In the study's order.
        affinity: Of each task to every other; higher is better.

    Returns:
        Groups by their first task, each in the study's order.
    """
    worth = _pair_affinities(tasks, affinity)
    if len(tasks) <= EXHAUSTIVE:
        found = max(_partitions(list(tasks)), key=lambda groups: _value(groups, worth))
    else:
        found = _merge_groups(list(tasks), worth)
    place = {task: number for number, task in enumerate(tasks)}
    ordered = [sorted(group, key=place.__getitem__) for group in found]
    return sorted(ordered, key=lambda group: place[group[0]])


def _pair_affinities(tasks: Sequence[str], affinity: AffinityMatrix) -> dict[frozenset[str], float]:
    known: dict[frozenset[str], float] = {}
    for a, b in combinations(tasks, 2):
        ways = [affinity[x][y] for x, y in ((a, b), (b, a)) if y in affinity.get(x, {})]
        if ways:
            known[frozenset((a, b))] = sum(ways) / len(ways)
    mean = sum(known.values()) / max(len(known), 1)
    return {pair: value - mean for pair, value in known.items()}


def _value(groups: TaskGroups, worth: Mapping[frozenset[str], float]) -> float:
    return sum(worth.get(frozenset(pair), 0.0) for group in groups for pair in combinations(group, 2))


def _partitions(tasks: list[str]) -> Iterator[TaskGroups]:
    """Every partition of the tasks."""
    if not tasks:
        yield []
        return
    first, *rest = tasks
    for groups in _partitions(rest):
        yield [[first], *groups]
        for number, group in enumerate(groups):
            yield [*groups[:number], [first, *group], *groups[number + 1 :]]


def _merge_groups(tasks: list[str], worth: Mapping[frozenset[str], float]) -> TaskGroups:
    """Merge the two groups that gain most by it, as long as any do."""
    groups = [[task] for task in tasks]
    while len(groups) > 1:
        gains = {
            (i, j): sum(worth.get(frozenset((a, b)), 0.0) for a in groups[i] for b in groups[j])
            for i, j in combinations(range(len(groups)), 2)
        }
        (i, j), gain = max(gains.items(), key=lambda item: item[1])
        if gain <= 0:
            break
        groups[i] += groups.pop(j)
    return groups
