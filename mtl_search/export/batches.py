"""Raw rows to hold exported files against the trained model: the study's sample, and batches drawn around it.

The batches have the sizes at which exporters go wrong (1 is the classic) and the values that a service meets; each
input kind draws its own.
"""

from collections.abc import Iterator

import numpy as np

from mtl_search.export.champion import Champion, Columns
from mtl_search.input_kinds.encoding import parts_of
from mtl_search.recipe import seed_from

SIZES = (1, 2, 7, 33)


def check_batches(champion: Champion) -> Iterator[Columns]:
    """The sample's rows, then one random batch of each size; the same for the same study."""
    yield champion.sample
    generator = np.random.default_rng(seed_from(champion.seed, "export"))
    for size in SIZES:
        columns: Columns = {}
        for kind, part in parts_of(champion.preparation.to_dict()):
            columns |= kind.draw(part, champion.sample, size, generator)
        yield columns
