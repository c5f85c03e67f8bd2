"""What every source promises, over the family's registry."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.sources import SOURCES
from mtl_search.data.sources.base import SPLITS, Source
from mtl_search.data.study_data import load_data
from mtl_search.errors import DataError
from mtl_search.recipe import Component
from mtl_search.variants.building import build

over_variants = pytest.mark.parametrize("name", SOURCES)
ROWS = 90


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {"a": rng.normal(size=ROWS), "b": rng.integers(0, 9, ROWS), "y": rng.normal(size=ROWS)}


def rows() -> dict[str, Any]:
    """What the variant ``python`` calls."""
    return {"train": columns()}


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Parameters of a source that holds ``columns`` (the bundle of ``sklearn`` holds its own)."""

    def of(name: str) -> dict[str, Any]:
        if name == "table":
            pd.DataFrame(columns()).to_csv(tmp_path / "rows.csv", index=False)
        if name == "arrays":
            np.savez(tmp_path / "rows.npz", **columns())
        needed: dict[str, dict[str, Any]] = {
            "sklearn": {"name": "diabetes"},
            "table": {"path": str(tmp_path / "rows.csv")},
            "arrays": {"path": str(tmp_path / "rows.npz"), "inputs": ["a", "b"]},
            "python": {"function": f"{__name__}:rows"},
        }
        return needed[name]

    return of


def source(name: str, params: dict[str, Any]) -> Source:
    return build(SOURCES, Component(name, params))


@over_variants
def test_columns_of_a_split_have_one_length_and_hold_numbers_or_text(
    name: str, settings: Callable[[str], dict[str, Any]]
) -> None:
    loaded = source(name, settings(name)).load()
    assert "train" in loaded
    assert set(loaded) <= set(SPLITS)
    for split in loaded.values():
        assert len({len(values) for values in split.values()}) == 1
        assert all(values.dtype.kind in "biufO" for values in split.values())


@over_variants
def test_reading_again_gives_the_same_rows(name: str, settings: Callable[[str], dict[str, Any]]) -> None:
    params = settings(name)
    first, again = source(name, params).load(), source(name, params).load()
    for split, found in first.items():
        assert list(found) == list(again[split])
        for column, values in found.items():
            np.testing.assert_array_equal(values, again[split][column])


@over_variants
def test_a_study_of_it_travels_to_workers_and_has_one_key(name: str, settings: Callable[[str], dict[str, Any]]) -> None:
    params = settings(name)
    target = "target" if name == "sklearn" else "y"
    tasks = {"t": TaskConfig.model_validate({"kind": "regression", "target": target})}

    def study() -> Any:
        return load_data(DataConfig.model_validate({"source": {name: params}}), tasks, seed=0)

    data = study()
    assert study().key == data.key == pickle.loads(pickle.dumps(data)).key  # noqa: S301
    assert sum(part.rows for parts in data.splits.values() for part in parts.values()) == (
        442 if name == "sklearn" else ROWS
    )


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in ("sklearn", "python")])
def test_a_file_that_is_not_there_is_told_with_its_place_and_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^path: must be a readable .*there is no such file.*nowhere"):
        source(name, {"path": str(tmp_path / "nowhere.csv")}).load()
