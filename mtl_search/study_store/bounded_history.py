"""The bounded history: the trials that the sampler sees. The 10,000th proposal costs what the 500th did.

Between the searcher and Optuna's storage. Samplers read every finished trial for every parameter; here they get the
best, the latest and an even sample of the others. Up to the limit they see all, as without it. Writing passes through,
and the storage below keeps everything.
"""

import heapq
from bisect import insort
from collections.abc import Container, Iterator, Sequence
from sys import intern
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mtl_search.recipe import seed_from

LIMIT = 500
"""Finished trials that a sampler sees at most."""
_BEST, _LATEST = 100, 200
"""Of these. TPE models the 25 best (of each objective it would take more), and weighs old trials down."""
_MOST = 5000
"""Parts kept to be shared: what trials have in common is seen in the first of them."""
_SEEN = (TrialState.COMPLETE, TrialState.PRUNED)


class _StorageProxy(BaseStorage):
    """A storage that passes every call on to another one."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self._storage.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._storage.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._storage.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._storage.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._storage.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._storage.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[Any]:
        return self._storage.get_all_studies()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self._storage.create_new_trial(study_id, template_trial)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        return self._storage.set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(trial_id, key, value)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._storage.get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._storage.get_all_trials(study_id, deepcopy, states)


class BoundedTrialHistory(_StorageProxy):
    """See the module. What it shows is as of the last ``refresh``.

    Args:
        storage: Holds the study.
        study_id: The study's, there.

    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        super().__init__(storage)
        self._study_id = study_id
        self._shared = SharedParts()
        self._known = 0
        self._open: dict[int, FrozenTrial] = {}
        self._latest: list[FrozenTrial] = []
        self._drawn: list[tuple[int, int, FrozenTrial]] = []
        self._best: dict[int, list[tuple[float, int, FrozenTrial]]] = {}
        self._shown: list[FrozenTrial] | None = []

    @property
    def running(self) -> dict[int, FrozenTrial]:
        """Trials that have not ended and are not waiting, by number."""
        return {number: trial for number, trial in self._open.items() if trial.state is TrialState.RUNNING}

    def refresh(self) -> Iterator[FrozenTrial]:
        """Read what is new; the trials that have ended since the last call, by number. Use it up."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        numbers = [*self._open, *range(self._known, len(trials))]
        self._known = len(trials)
        for number in numbers:
            trial = trials[number]
            if not trial.state.is_finished():
                self._open[number] = trial
                continue
            self._open.pop(number, None)
            self._shared.slim(trial)
            if trial.state in _SEEN:
                self._add(trial)
            yield trial

    def _add(self, trial: FrozenTrial) -> None:
        self._shown = None
        # By number, as samplers expect it, though trials end in another order.
        insort(self._latest, trial, key=lambda each: each.number)
        del self._latest[:-LIMIT]
        # The lowest of equally likely numbers are an even sample, the same in every process.
        _keep(self._drawn, (-seed_from(0, trial.number), trial.number, trial), LIMIT)
        for place, value in enumerate(trial.values or () if trial.state is TrialState.COMPLETE else ()):
            _keep(self._best.setdefault(place, []), (value, -trial.number, trial), _BEST)

    def _finished(self) -> list[FrozenTrial]:
        if self._shown is None:
            # Each heap's best comes last, and what is told first stays.
            drawn = [trial for *_, trial in sorted(self._drawn, reverse=True, key=lambda each: each[:2])]
            best = [trial for heap in self._best.values() for *_, trial in heap]
            chosen = {trial.number: trial for trial in [*best, *self._latest[-_LATEST:]]}
            for trial in drawn:
                if len(chosen) >= LIMIT:
                    break
                chosen.setdefault(trial.number, trial)
            self._shown = [chosen[number] for number in sorted(chosen)]
        return self._shown

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Open trials, and the finished ones within the bounded history, by number; never copies."""
        assert study_id == self._study_id
        trials = sorted([*self._finished(), *self._open.values()], key=lambda trial: trial.number)
        return [trial for trial in trials if states is None or trial.state in states]


class SharedParts:
    """Equal parts of finished trials, kept once in memory.

    Optuna reads each trial's domains and notes into objects of its own, some 20 KiB a trial; most equal earlier ones.
    """

    def __init__(self) -> None:
        self._domains: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}
        self._kept: dict[str, Any] = {}

    def slim(self, trial: FrozenTrial) -> None:
        """Let a finished trial, as its storage holds it, use what earlier ones have; it stays equal to what it was."""
        trial.distributions = self._branch(trial.distributions)
        trial.params = {intern(name): value for name, value in trial.params.items()}
        # No other trial has the same recipe or the same figures, but parts of them.
        notes = trial.user_attrs.items()
        trial.user_attrs = {intern(n): self._parts(note) if isinstance(note, dict) else note for n, note in notes}

    def _branch(self, domains: dict[str, BaseDistribution]) -> dict[str, BaseDistribution]:
        """The domains of one branch of the space; the file that says them seldom changes."""
        names = tuple(domains)
        if self._domains.get(names) == domains:
            return self._domains[names]
        if len(self._domains) < _MOST:
            self._domains[names] = domains
        return domains

    def _parts(self, value: dict[str, Any]) -> dict[str, Any]:
        return {intern(name): self._of(part) for name, part in value.items()}

    def _of(self, value: Any) -> Any:
        """The value with shared parts, or an equal one."""
        if isinstance(value, str):
            return intern(value)
        if not isinstance(value, dict):
            return value
        text = repr(value)
        if text not in self._kept:
            if len(self._kept) >= _MOST:
                return self._parts(value)
            self._kept[text] = self._parts(value)
        return self._kept[text]


def _keep(heap: list[Any], item: Any, most: int) -> None:
    """Add to the largest ``most`` items."""
    if len(heap) < most:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)
