"""Display: a running study on the terminal, and a recipe in a few words for whoever shows one."""

from mtl_search.display.live import Display
from mtl_search.display.words import duration, recipe_words, varying

__all__ = ["Display", "duration", "recipe_words", "varying"]
