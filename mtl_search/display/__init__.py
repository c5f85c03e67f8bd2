"""Display: a running study on the terminal, and a recipe in a few words for whoever shows one."""

from typing import TYPE_CHECKING

from mtl_search.display.recipe_words import duration, recipe_words, varying_parameters
from mtl_search.variants.registry import import_on_use

if TYPE_CHECKING:
    from mtl_search.display.live import Display

__all__ = ["Display", "duration", "recipe_words", "varying_parameters"]
__getattr__ = import_on_use(__name__, {"live": ["Display"]})
