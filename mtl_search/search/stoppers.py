"""Stoppers by name: which trials end before their last epoch. The algorithms are Ray Tune's; see `schedulers`.

Ray Tune is imported when a scheduler is built: a study file is checked without it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt

from mtl_search.recipe import PositiveInt
from mtl_search.registry import Registry

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: at each rung only the best part of the trials goes on.

    Paper: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning".

    Attributes:
        grace: Epochs that every trial gets.
        reduction: One in so many trials goes on at a rung; before so many of one start have come, all do.
    """

    grace: PositiveInt = 1
    reduction: Annotated[float, Gt(1)] = 3.0

    def build(self, epochs: int) -> "TrialScheduler":
        """The scheduler for trials of at most so many epochs."""
        from mtl_search.search.schedulers import successive_halving

        return successive_halving(self.grace, self.reduction, epochs)


@dataclass(frozen=True)
class Median:
    """Stops a trial whose best score falls below the median of the others' averages at the same epoch.

    Paper: Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization".

    Attributes:
        grace: Epochs that every trial gets.
        least: Trials needed to compare with.
    """

    grace: PositiveInt = 1
    least: PositiveInt = 3

    def build(self, epochs: int) -> "TrialScheduler":
        """The scheduler; it needs no number of epochs."""
        from mtl_search.search.schedulers import median_rule

        return median_rule(self.grace, self.least)


@dataclass(frozen=True)
class Never:
    """Every trial runs to its last epoch."""

    def build(self, epochs: int) -> "TrialScheduler":
        """The scheduler; it needs no number of epochs."""
        from mtl_search.search.schedulers import never_stop

        return never_stop()


STOPPERS: Registry[Any] = Registry(
    "mtl_search.search", {"asha": "stoppers:Asha", "median": "stoppers:Median", "none": "stoppers:Never"}
)
"""Stopper by its name in ``search.stopper``."""
