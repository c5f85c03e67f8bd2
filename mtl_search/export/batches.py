"""Raw rows to hold exported files against the trained model: the study's sample, and batches drawn around it.

The batches have the sizes at which exporters go wrong (1 is the classic) and the values that a service meets: numbers
beyond the sample, missing ones where the table allows them, categories never seen.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mtl_search.data.moments import channels_last
from mtl_search.export.champion import Champion, Columns
from mtl_search.recipe import seed_from

SIZES = (1, 2, 7, 33)
_UNSEEN = "a category never seen"


def check_batches(champion: Champion) -> Iterator[Columns]:
    """The sample's rows, then one random batch of each size; the same for the same study."""
    yield champion.sample
    generator = np.random.default_rng(seed_from(champion.seed, "export"))
    for size in SIZES:
        yield _draw(champion, size, generator)


def _draw(champion: Champion, size: int, generator: np.random.Generator) -> Columns:
    spec = champion.preparation.spec
    if spec["kind"] == "array":
        return {spec["column"]: _arrays(champion, spec, size, generator)}
    scales = dict(zip(spec["numeric"], champion.preparation.scales.tolist(), strict=True))
    columns: Columns = {}
    for name in spec["numeric"]:
        drawn: list[Any] = _around(champion.sample[name], scales[name], size, generator)
        if spec["missing"] == "impute":
            drawn = [None if generator.random() < 0.2 else value for value in drawn]
        columns[name] = drawn
    for name, categories in spec["categorical"].items():
        choices = np.array([*categories, _UNSEEN, None], dtype=object)
        columns[name] = generator.choice(choices, size).tolist()
    for name in spec.get("text", {}).get("columns", []):
        columns[name] = _texts(champion.sample[name], size, generator)
    return columns


def _texts(known: list[Any], size: int, generator: np.random.Generator) -> list[Any]:
    """The sample's words in new orders and numbers, with one that it lacks; some texts empty, some missing."""
    words = np.array([*" ".join(str(text) for text in known if text).split(), "unheard-of"], dtype=object)
    drawn = [" ".join(generator.choice(words, generator.integers(0, 40))) for _ in range(size)]
    return [None if generator.random() < 0.1 else text for text in drawn]


def _around(values: list[Any], scale: float, size: int, generator: np.random.Generator) -> list[float]:
    """Values of the sample moved by up to a few standard deviations of the training rows."""
    known = [float(value) for value in values if value not in (None, "")] or [0.0]
    moved: list[float] = (generator.choice(known, size) + scale * generator.normal(size=size)).tolist()
    return moved


def _arrays(champion: Champion, spec: Mapping[str, Any], size: int, generator: np.random.Generator) -> list[Any]:
    known = np.asarray(champion.sample[spec["column"]], dtype=np.float64)
    picked = known[generator.integers(len(known), size=size)]
    scales = champion.preparation.scales.numpy()
    scales = scales.reshape(-1) if channels_last(tuple(spec["shape"])) else scales
    moved = picked + scales * 0.3 * generator.normal(size=picked.shape)
    if spec["dtype"] == "uint8":
        whole: list[Any] = np.clip(np.round(moved), 0, known.max()).astype(np.uint8).tolist()
        return whole
    values: list[Any] = moved.tolist()
    return values
