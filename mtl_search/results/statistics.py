"""Statistics: runs on the same fresh seeds of recipes and of single-task models -> intervals, ties, alarms.

Pure arithmetic. Runs differ in their seed alone (starting parameters, order of rows, dropout), so an interval over runs
speaks of another training on the same rows; ``over_rows`` speaks of the same models on other rows. The runs of all
candidates pool their spread: three runs of one recipe alone would say little about it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
import scipy  # which imports `special` and `optimize` when they are first used

LEVEL = 0.95
"""Of every interval."""
_SHARED = 0.5
"""Correlation of two candidates' differences to one baseline, where candidates and baseline vary alike."""
_NODES, _POINTS = 40, 400
"""Of numerical integration, for four digits."""
_FEWEST_RESAMPLES = 50
"""Fewer samples of rows say nothing of the ends of an interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs with its interval.

    Attributes:
        mean: Over the runs.
        std: Standard deviation between runs; None of a single one.
        low: Lower end of the 95 % interval; None where nothing tells how runs differ.
        high: Upper end.
        runs: How many.
    """

    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 1

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Spread:
    """How much runs of the same thing differ.

    Attributes:
        variance: Of one run.
        freedom: Degrees of freedom that it was estimated with; 0 where nothing tells.
    """

    variance: float = 0.0
    freedom: float = 0.0

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]]) -> "Spread":
        """Pooled over independent groups of runs, a group for each recipe."""
        freedom = sum(len(group) - 1 for group in groups if group)
        if not freedom:
            return cls()
        squares = sum((value - fmean(group)) ** 2 for group in groups if group for value in group)
        return cls(squares / freedom, freedom)

    @classmethod
    def of_differences(cls, groups: Sequence[Sequence[float]]) -> "Spread":
        """Pooled over groups of differences to the same runs of a baseline.

        The baseline's runs are in every group, so the groups are correlated and tell less than independent ones: their
        degrees of freedom are Satterthwaite's (1946) for a correlation of one half.
        """
        pooled, count = cls.of(groups), sum(1 for group in groups if len(group) > 1)
        return cls(pooled.variance, pooled.freedom / (1 + max(count - 1, 0) * _SHARED**2))


@lru_cache(maxsize=256)
def dunnett(freedom: float, count: int, level: float = LEVEL) -> float:
    """What the largest of some Student's t statistics stays below with a probability, one-sided.

    They have a correlation of one half, as differences of means to one common mean have.

    Paper: Dunnett 1955, "A Multiple Comparison Procedure for Comparing Several Treatments with a Control".

    Args:
        freedom: Degrees of freedom of the common standard error.
        count: How many there are.
        level: The probability.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)  # of what all of them have in common
    probabilities = (np.arange(_POINTS) + 0.5) / _POINTS
    errors = np.sqrt(
        scipy.special.chdtri(freedom, 1 - probabilities) / freedom
    )  # of the standard error over its true value

    def below(value: float) -> float:
        each = scipy.special.ndtr(math.sqrt(2) * value * errors[:, None] - nodes) ** count
        return float((each @ weights).mean() / weights.sum())

    return float(scipy.optimize.brentq(lambda value: below(value) - level, -50.0, 1e4))


def estimate(
    runs: Sequence[float], spread: Spread, chosen_of: int = 1, values: Sequence[float] | None = None
) -> Estimate:
    """The mean of some runs with its interval (Student's t).

    The best of several is too good on average. So the lower end of its interval is Dunnett's for as many means: all of
    them are judged against one baseline. The closer the others come, the more the misses are all on that side: 5 % in
    all, where they are alike; where the best stands apart, 2.5 % above it and less than that below.

    Args:
        runs: At least one; where they are judged against a baseline, differences on the same seeds.
        spread: Of a run.
        chosen_of: Among how many means this is the highest.
        values: The same runs without the baseline's part in them, for the standard deviation; ``runs`` if not given.
    """
    mean, count = fmean(runs), len(runs)
    own = Spread.of([runs if values is None else values])
    std = math.sqrt(own.variance) if own.freedom else None
    if not spread.freedom:
        return Estimate(mean, std, runs=count)
    error, tail = math.sqrt(spread.variance / count), (1 - LEVEL) / 2
    up = float(scipy.special.stdtrit(spread.freedom, 1 - tail))
    down = max(up, dunnett(spread.freedom, chosen_of))
    return Estimate(mean, std, mean - down * error, mean + up * error, count)


def over_rows(value: float, resampled: Sequence[float], runs: int) -> Estimate | None:
    """A figure with its interval over other rows of the same kind (paired bootstrap, Efron 1979).

    Args:
        value: On the rows themselves.
        resampled: On rows drawn from them with replacement, both sides of a comparison on the same ones; NaN where the
            figure is not defined on what was drawn.
        runs: Over how many trained models the figure is a mean.

    Returns:
        None where too few samples of rows have a value.
    """
    known = np.array(resampled)[np.isfinite(resampled)]
    if len(known) < _FEWEST_RESAMPLES:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(known.std()), float(low), float(high), runs)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """The mean of ``a`` less that of ``b`` with its interval (Welch 1947), from how the runs of each differ.

    What both are measured against must be the same runs: its own spread moves both alike and drops out.
    """
    mean, count = a.mean - b.mean, a.runs + b.runs
    if a.std is None or b.std is None:
        return Estimate(mean, runs=count)
    error, freedom = _welch([(each.std**2 / each.runs, each.runs - 1) for each in (a, b) if each.std is not None])
    reach = float(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Estimate(mean, low=mean - reach, high=mean + reach, runs=count)


def tied(runs: Sequence[Sequence[float]]) -> list[bool]:
    """Which candidates cannot be told from the best: with 95 % confidence the truly best is it or one of those.

    What a seed does to all candidates alike drops out.

    Paper: Hsu 1981, "Simultaneous Confidence Intervals for All Distances from the 'Best'", in randomised blocks.

    Args:
        runs: Of each candidate on the same seeds, the best first.

    Returns:
        For each candidate but the first; nothing is called a tie where nothing tells how runs differ.
    """
    values = np.array(runs, dtype=float)  # (candidates, seeds)
    others, freedom = len(values) - 1, (values.shape[0] - 1) * (values.shape[1] - 1)
    if not others or not freedom:
        return [False] * others
    noise = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    error = math.sqrt(2 * float((noise**2).sum()) / freedom / values.shape[1])
    reach = dunnett(freedom, others) * error
    means = values.mean(axis=1)
    return [bool(means[0] - mean <= reach) for mean in means[1:]]


def reach_of_one(best: int, spread: Spread, others: int) -> float | None:
    """How far below the best mean a single run of something as good may lie, with 95 % confidence over all such runs.

    Args:
        best: Runs of the best.
        spread: Of a run.
        others: How many single runs are held against it.

    Returns:
        None where nothing tells how runs differ.
    """
    if not others or not spread.freedom:
        return None
    # Single runs are nearly independent, as their common part is a mean of several: Sidak's inequality (1967).
    return float(scipy.special.stdtrit(spread.freedom, LEVEL ** (1 / others))) * math.sqrt(
        spread.variance * (1 / best + 1)
    )


def worse(gains: Mapping[str, tuple[Sequence[float], Spread]]) -> list[str]:
    """Tasks whose gain is below zero with confidence: in 2.5 % of studies without any such task there is a false one.

    Paper: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Args:
        gains: By task: gain of each run over the baseline's run on the same seed, and a run's spread.

    Returns:
        In the order of the mapping.
    """
    values = {task: _p_below_zero(*parts) for task, parts in gains.items()}
    found: list[str] = []
    for done, (task, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        if value > (1 - LEVEL) / 2 / (len(values) - done):
            break
        found.append(task)
    return [task for task in gains if task in found]


def _p_below_zero(runs: Sequence[float], spread: Spread) -> float:
    """Probability of a mean as low as this, were the true one zero."""
    if not spread.freedom:
        return 1.0
    mean, error = fmean(runs), math.sqrt(spread.variance / len(runs))
    if not error:
        return 0.0 if mean < 0 else 1.0
    return float(scipy.special.stdtr(spread.freedom, mean / error))


def _welch(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum of independent means, each a variance with its own."""
    total = sum(variance for variance, _ in parts)
    if not total:
        return 0.0, float(sum(freedom for _, freedom in parts))
    return math.sqrt(total), 1 / sum((variance / total) ** 2 / freedom for variance, freedom in parts)
