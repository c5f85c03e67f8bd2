"""MeasuringFusion: fusions that weigh parameters by what single-task models do with training data.

``training.fusing`` has every single-task model measured once, keeps the facts as a file beside it, and gives them to
``fuse``: later trials with other parameters of the fusion read them again.
"""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from mtl_search.data.inputs import Inputs
from mtl_search.fusion.base import Fusion, Site, State
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import content_key


class MeasuringFusion(Fusion):
    """A fusion that needs facts of every single-task model.

    Args:
        rows: Training rows of a task's data set that its model is measured on; all of them where there are fewer.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    @property
    def facts_key(self) -> str:
        """Content key of all that the facts of a single-task model depend on but the model and its data."""
        return content_key(type(self).__module__, type(self).__qualname__, self.rows)

    @abstractmethod
    def measure(self, model: MultiTaskModel, rows: Inputs, seed: int) -> dict[str, Tensor]:
        """Measure a single-task model.

        Args:
            model: In evaluation.
            rows: Inputs of some training rows.
            seed: For what is drawn at random.

        Returns:
            Facts by name, ``blocks.{l}.0.<name>`` for those of block l; the way they are kept in a file.
        """


def measured_facts(at: Site) -> Sequence[State]:
    """What was measured of every task's model in a block, by tensor."""
    if not at.facts:
        raise ValueError("this fusion needs facts of every single-task model")
    return at.facts
