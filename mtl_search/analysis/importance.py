"""Importance: which searched parameters mattered, for the objective and for each task, and which way.

Figures and reports read it. Both are of what the search tried, not of the whole space: a search that settles early on
one choice has little to say about the others.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

LEAST = 10
"""Fewer different complete trials say nothing about importance."""
QUANTILE = 0.25
"""A parameter is important where the best quarter of the trials differs in it from the others."""
OBJECTIVE = "objective"
_GRID = 24
_TREES = 100

Score = Callable[[FrozenTrial], float | None]
"""What a trial came to; higher is better; None where it is not known."""


@dataclass(frozen=True)
class Importance:
    """Shares of every searched parameter.

    Attributes:
        of: What it is the importance for: ``objective`` or a task.
        shares: By parameter, the highest first; they sum to 1. Empty where there is a reason.
        reason: Why there are none, in words.
        trials: How many trials speak.
    """

    of: str
    shares: Mapping[str, float]
    reason: str = ""
    trials: int = 0


@dataclass(frozen=True)
class Dependence:
    """What the objective is expected to be along one parameter, the others as the trials had them.

    Attributes:
        parameter: Its name.
        values: Of the parameter: numbers in rising order, or choices.
        expected: Estimate at each value.
        points: Value and score of each trial that has the parameter.
        log: Whether the search sampled its logarithm.
    """

    parameter: str
    values: tuple[Any, ...]
    expected: tuple[float, ...]
    points: tuple[tuple[Any, float], ...]
    log: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the parameter is a number."""
        return not any(isinstance(value, str | bool) or value is None for value in self.values)


def score_trials(trials: Sequence[FrozenTrial], score: Score) -> list[tuple[FrozenTrial, float]]:
    """Complete trials with their scores, each recipe once."""
    found: dict[Any, tuple[FrozenTrial, float]] = {}
    for trial in trials:
        value = score(trial) if trial.state is TrialState.COMPLETE and trial.params else None
        if value is not None and math.isfinite(value):
            found.setdefault(repr(sorted(trial.params.items())), (trial, value))
    return list(found.values())


def importance(of: str, trials: Sequence[FrozenTrial], score: Score) -> Importance:
    """Share of each parameter in what sets the best trials apart from the others.

    Parameters that exist only under a choice count as far as that choice was made.

    Paper: Watanabe, Bansal & Hutter, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces, IJCAI 2023, https://arxiv.org/abs/2304.10255

    Args:
        of: What the score is.
        trials: Of the study, in any state.
        score: Of a trial.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # it brings scikit-learn's trees

    known = score_trials(trials, score)
    if len(known) < LEAST:
        reason = f"it takes {LEAST} different complete trials, there are {len(known)}"
        return Importance(of, {}, reason, len(known))
    if len({value for _, value in known}) == 1:
        return Importance(of, {}, "all trials came to the same", len(known))
    study = _quiet_study()
    for trial, value in known:
        study.add_trial(optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of branches that few trials took: they count little then
        evaluator = PedAnovaImportanceEvaluator(target_quantile=QUANTILE)
        shares = get_param_importances(study, evaluator=evaluator, normalize=False)
    total = sum(shares.values())
    if not total:
        return Importance(of, {}, "no parameter was varied in a way that tells", len(known))
    return Importance(of, {name: share / total for name, share in shares.items()}, "", len(known))


def partial_dependence(parameter: str, trials: Sequence[FrozenTrial], score: Score) -> Dependence | None:
    """Expected score along one parameter: the mean answer of a forest over the trials that have the parameter.

    Paper: Friedman, Greedy Function Approximation: A Gradient Boosting Machine, Annals of Statistics 2001,
    https://doi.org/10.1214/aos/1013203451

    Args:
        parameter: A searched one.
        trials: Of the study, in any state.
        score: Of a trial.

    Returns:
        None where fewer than ``LEAST`` trials have the parameter, or all have one value.
    """
    known = [(trial, value) for trial, value in score_trials(trials, score) if parameter in trial.params]
    own = [trial.params[parameter] for trial, _ in known]
    if len(known) < LEAST or len(set(own)) < 2:
        return None
    from sklearn.ensemble import RandomForestRegressor  # takes a second to import

    columns = _columns([trial for trial, _ in known])
    rows = np.array([[column(trial.params) for column in columns] for trial, _ in known])
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0).fit(rows, [v for _, v in known])
    distribution = known[0][0].distributions[parameter]
    values = _grid(distribution, own)
    expected = []
    for value in values:
        moved = [[column({**trial.params, parameter: value}) for column in columns] for trial, _ in known]
        expected.append(float(forest.predict(np.array(moved)).mean()))
    points = tuple((value, score) for value, (_, score) in zip(own, known, strict=True))
    return Dependence(parameter, values, tuple(expected), points, bool(getattr(distribution, "log", False)))


def _quiet_study() -> optuna.Study:
    """An empty study in memory. Optuna would say on standard error that it made one."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    finally:
        optuna.logging.set_verbosity(before)


def _columns(trials: Sequence[FrozenTrial]) -> list[Callable[[Mapping[str, Any]], float]]:
    """Trials as numbers: a number as it is sampled (a logarithm where that is), a choice as a column for each value.

    A parameter that a trial does not have is the middle of the others', and no choice at all.
    """
    distributions = {name: domain for trial in trials for name, domain in trial.distributions.items()}
    columns: list[Callable[[Mapping[str, Any]], float]] = []
    for name, domain in sorted(distributions.items()):
        if isinstance(domain, CategoricalDistribution):
            columns += [_equals(name, choice) for choice in domain.choices]
        else:
            log = isinstance(domain, FloatDistribution | IntDistribution) and domain.log
            there = [trial.params[name] for trial in trials if name in trial.params]
            columns.append(_number(name, log, float(np.median(np.log(there) if log else there))))
    return columns


def _equals(name: str, choice: Any) -> Callable[[Mapping[str, Any]], float]:
    return lambda params: float(name in params and params[name] == choice)


def _number(name: str, log: bool, middle: float) -> Callable[[Mapping[str, Any]], float]:
    def read(params: Mapping[str, Any]) -> float:
        if name not in params:
            return middle
        return math.log(params[name]) if log else float(params[name])

    return read


def _grid(domain: Any, own: Sequence[Any]) -> tuple[Any, ...]:
    """Values to ask for, within what was tried."""
    if isinstance(domain, CategoricalDistribution):
        return tuple(choice for choice in domain.choices if choice in own)
    low, high = min(own), max(own)
    if isinstance(domain, IntDistribution) and high - low < _GRID:
        return tuple(range(low, high + 1, domain.step))
    spaced = np.geomspace(low, high, _GRID) if domain.log else np.linspace(low, high, _GRID)
    return tuple(
        dict.fromkeys(round(value) if isinstance(domain, IntDistribution) else float(value) for value in spaced)
    )
