"""Statistics: fresh runs of the best recipes and of the baselines -> intervals, ties, alarms.

Pure arithmetic. Runs differ in their seed alone (starting parameters, order of rows, dropout), so an interval speaks of
another training on the same rows, not of other rows. The runs of all candidates pool their spread: three runs of one
recipe alone would say little about it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy.special import stdtr, stdtrit

LEVEL = 0.95
"""Of every interval."""


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
    freedom: int = 0

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]]) -> "Spread":
        """Pooled over groups of runs, a group for each recipe."""
        freedom = sum(len(group) - 1 for group in groups if group)
        if not freedom:
            return cls()
        squares = sum((value - fmean(group)) ** 2 for group in groups if group for value in group)
        return cls(squares / freedom, freedom)


def estimate(runs: Sequence[float], spread: Spread, reference: Sequence[float] = (), chosen_of: int = 1) -> Estimate:
    """The mean of some runs with its interval, the reference's own spread included (Welch 1947).

    The best of several is too good on average. So the lower end of its interval is Sidak's (1967) for as many means.
    The closer the others come, the more the misses are all on that side: 5 % in all, where they are alike; where the
    best stands apart, 2.5 % above it and less than that below.

    Args:
        runs: At least one.
        spread: Of a run.
        reference: Runs of what the values are measured against, in the same unit; their mean is taken out already. A
            single one does not tell how far off it is: then there is no interval.
        chosen_of: Among how many means this is the highest.
    """
    mean, count = fmean(runs), len(runs)
    std = Spread.of([runs])
    own = math.sqrt(std.variance) if std.freedom else None
    if not spread.freedom or len(reference) == 1:
        return Estimate(mean, own, runs=count)
    parts = [(spread.variance / count, spread.freedom)]
    against = Spread.of([reference])
    if against.freedom:
        parts.append((against.variance / len(reference), against.freedom))
    error, freedom = _welch(parts)
    tail = (1 - LEVEL) / 2
    down = stdtrit(freedom, max(1 - tail, LEVEL ** (1 / chosen_of))) * error
    up = stdtrit(freedom, 1 - tail) * error
    return Estimate(mean, own, mean - float(down), mean + float(up), count)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """The mean of ``a`` less that of ``b`` with its interval (Welch 1947), from how the runs of each differ.

    What both are measured against must be the same runs: its own spread moves both alike and drops out.
    """
    mean, count = a.mean - b.mean, a.runs + b.runs
    if a.std is None or b.std is None:
        return Estimate(mean, runs=count)
    error, freedom = _welch([(each.std**2 / each.runs, each.runs - 1) for each in (a, b) if each.std is not None])
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Estimate(mean, low=mean - reach, high=mean + reach, runs=count)


def tied(best: Sequence[float], others: Sequence[Sequence[float]], spread: Spread) -> list[bool]:
    """Which others cannot be told from the best: with 95 % confidence the truly best is it or one of those.

    Paper: Hsu 1981, "Simultaneous Confidence Intervals for All Distances from the 'Best'" (with Sidak's inequality in
    place of Dunnett's exact value).

    Args:
        best: Runs of what has the highest mean.
        others: Runs of each other.
        spread: Of a run; where nothing is known of it, nothing is called a tie.
    """
    if not others or not spread.freedom:
        return [False for _ in others]
    quantile = stdtrit(spread.freedom, LEVEL ** (1 / len(others)))
    return [
        fmean(best) - fmean(runs) <= quantile * math.sqrt(spread.variance * (1 / len(best) + 1 / len(runs)))
        for runs in others
    ]


def worse(gains: Mapping[str, tuple[Sequence[float], Spread, Sequence[float]]]) -> list[str]:
    """Tasks whose gain is below zero with confidence: in 2.5 % of studies without any such task there is a false one.

    Paper: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Args:
        gains: By task: gain of each run over the baseline, a run's spread, and the baseline's runs in the same unit.

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


def _p_below_zero(runs: Sequence[float], spread: Spread, reference: Sequence[float]) -> float:
    """Probability of a mean as low as this, were the true one zero."""
    against = Spread.of([reference])
    if not spread.freedom or not against.freedom:
        return 1.0
    error, freedom = _welch(
        [(spread.variance / len(runs), spread.freedom), (against.variance / len(reference), against.freedom)]
    )
    mean = fmean(runs)
    if not error:
        return 0.0 if mean < 0 else 1.0
    return float(stdtr(freedom, mean / error))


def _welch(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum of independent means, each a variance with its own."""
    total = sum(variance for variance, _ in parts)
    if not total:
        return 0.0, float(sum(freedom for _, freedom in parts))
    return math.sqrt(total), 1 / sum((variance / total) ** 2 / freedom for variance, freedom in parts)
