"""What is transferred from the base to the tasks: a recipe's ``transfer`` component.

The search chooses between them, and so can tell whether transfer helps at all.
"""

from abc import ABC, abstractmethod
from dataclasses import replace

from mtl_search.recipe import Component, Recipe
from mtl_search.transfer import UNFREEZINGS
from mtl_search.transfer.unfreezing import Never


class Transfer(ABC):
    """A kind of transfer; the constructor's signature is its schema in the study file.

    Attributes:
        fresh: Whether training starts from random parameters, whatever the base.
        frozen: Whether no block ever learns, whatever the schedules.
    """

    fresh: bool = False
    frozen: bool = False

    @abstractmethod
    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with schedules that keep to this transfer."""


class Parameters(Transfer):
    """The base's parameters are where fine-tuning starts."""

    def applied(self, recipe: Recipe) -> Recipe:
        return recipe


class Features(Transfer):
    """The base's features: its blocks stay as they are, and only heads are trained on what they give."""

    frozen = True

    def applied(self, recipe: Recipe) -> Recipe:
        never = Component(next(name for name, kind in UNFREEZINGS.items() if kind is Never))
        schedules = (replace(each, unfreezing=never) for each in (recipe.single_task, recipe.joint))
        single_task, joint = schedules
        return replace(recipe, single_task=single_task, joint=joint)


class Structure(Transfer):
    """The architecture alone: all parameters are drawn afresh, as with the random base."""

    fresh = True

    def applied(self, recipe: Recipe) -> Recipe:
        return recipe
