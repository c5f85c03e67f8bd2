"""BuiltRecipe: a recipe's parts as objects of their families, in place of names and parameters."""

from functools import cached_property
from typing import TYPE_CHECKING, final

from mtl_search.alignment import ALIGNMENTS
from mtl_search.fusion import FUSIONS
from mtl_search.models.sharing import SHARINGS
from mtl_search.recipe import Recipe
from mtl_search.transfer import AUXILIARIES, TRANSFERS
from mtl_search.transfer.bases import BASES
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

if TYPE_CHECKING:
    from mtl_search.alignment import Alignment
    from mtl_search.fusion import Fusion
    from mtl_search.models.sharing import Sharing
    from mtl_search.transfer import Auxiliary, Transfer
    from mtl_search.transfer.bases import Base
    from mtl_search.weighting import Weighting


@final
class BuiltRecipe:
    """The parts of a recipe, each built once, when it is first asked for.

    A weighting comes to hold a stage's state, so every stage builds its recipe anew.

    Args:
        recipe: The recipe.

    Every part raises a `ConfigError` where there is no such variant, or it does not take these parameters.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @cached_property
    def sharing(self) -> "Sharing":
        """What the tasks have in common."""
        return build(SHARINGS, self.recipe.sharing)

    @cached_property
    def fusion(self) -> "Fusion":
        """How single-task models become one start."""
        return build(FUSIONS, self.recipe.fusion)

    @cached_property
    def weighting(self) -> "Weighting":
        """How task losses become one update."""
        return build(WEIGHTINGS, self.recipe.weighting)

    @cached_property
    def base(self) -> "Base":
        """Where the starting parameters come from."""
        return build(BASES, self.recipe.base)

    @cached_property
    def transfer(self) -> "Transfer":
        """What of the base the tasks use."""
        return build(TRANSFERS, self.recipe.transfer)

    @cached_property
    def auxiliary(self) -> "Auxiliary":
        """How source tasks take part in joint training."""
        return build(AUXILIARIES, self.recipe.auxiliary)

    @cached_property
    def alignment(self) -> "Alignment":
        """How joint training aligns the tasks' data sets."""
        return build(ALIGNMENTS, self.recipe.alignment)

    @cached_property
    def applied(self) -> Recipe:
        """The recipe with schedules that keep to its transfer."""
        return self.transfer.applied(self.recipe)
