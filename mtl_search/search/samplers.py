"""Samplers by name: who proposes the next recipe. Numerics are Optuna's, which is imported when one is built."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from mtl_search.recipe import LARGEST, PositiveInt
from mtl_search.variants.registry import Registry

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class Tpe:
    """Tree-structured Parzen estimator, multivariate and grouped by branch: the all-round choice.

    Paper: Watanabe 2023, "Tree-Structured Parzen Estimator: Understanding Its Algorithm Components".

    Attributes:
        startup: Trials drawn at random before the model is used.
    """

    startup: PositiveInt = 10

    def build(self, seed: int) -> "BaseSampler":
        """The sampler itself."""
        import optuna

        return optuna.samplers.TPESampler(
            n_startup_trials=self.startup, multivariate=True, group=True, constant_liar=True, seed=seed
        )


@dataclass(frozen=True)
class Random:
    """Independent uniform draws: the baseline of any search.

    Paper: Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization".
    """

    def build(self, seed: int) -> "BaseSampler":
        """The sampler itself."""
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True)
class CmaEs:
    """Covariance matrix adaptation, for spaces of numbers only.

    Paper: Hansen 2016, "The CMA Evolution Strategy: A Tutorial".

    Attributes:
        startup: Trials drawn at random before the model is used.
    """

    startup: PositiveInt = 4

    def build(self, seed: int) -> "BaseSampler":
        """The sampler itself."""
        import optuna

        return optuna.samplers.CmaEsSampler(n_startup_trials=self.startup, seed=seed)


@dataclass(frozen=True)
class Gp:
    """Gaussian process with expected improvement, for small spaces without branches.

    Paper: Jones et al. 1998, "Efficient Global Optimization of Expensive Black-Box Functions".

    Attributes:
        startup: Trials drawn at random before the model is used.
    """

    startup: PositiveInt = 10

    def build(self, seed: int) -> "BaseSampler":
        """The sampler itself."""
        import optuna

        return optuna.samplers.GPSampler(n_startup_trials=self.startup, seed=seed)


@dataclass(frozen=True)
class Nsga2:
    """Non-dominated sorting genetic algorithm: for several objectives and many trials.

    Paper: Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II".

    Attributes:
        population: Trials of a generation; the first is drawn at random.
    """

    population: Annotated[int, Interval(ge=2, le=LARGEST)] = 20

    def build(self, seed: int) -> "BaseSampler":
        """The sampler itself."""
        import optuna

        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)


SAMPLERS: Registry[Any] = Registry(
    "mtl_search.search",
    {
        "tpe": "samplers:Tpe",
        "random": "samplers:Random",
        "cmaes": "samplers:CmaEs",
        "gp": "samplers:Gp",
        "nsga2": "samplers:Nsga2",
    },
)
"""Sampler by its name in ``search.sampler``."""
NUMBERS_ONLY = (CmaEs,)
"""Samplers that would draw choices at random instead of learning from them."""
ONE_OBJECTIVE = (CmaEs,)
"""Samplers that cannot maximise several numbers."""
NO_BRANCHES = (CmaEs, Gp, Nsga2)
"""Samplers that would draw conditional parameters at random instead of learning from them."""
