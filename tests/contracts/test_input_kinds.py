"""What every kind of input promises, over the family's dict."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared import Stated

from mtl_search import input_kinds
from mtl_search.data.input_columns import column_stats
from mtl_search.data.sources.parquet_rows import ChunkedColumn, ChunkedRows
from mtl_search.input_kinds import INPUT_KINDS, GivenColumn, InputKind, Part
from mtl_search.input_kinds.encoding import encode, parts_of, spec_of
from mtl_search.input_kinds.preparation import Preparation

ROWS = 40


def example(name: str) -> dict[str, np.ndarray]:
    """Sound columns of a kind, without gaps."""
    rng = np.random.default_rng(5)
    words = np.array(["red", "green", "blue"], dtype=object)
    return {
        "number": {"a": rng.normal(5, 3, ROWS), "b": rng.integers(0, 9, ROWS)},
        "category": {"a": words[rng.integers(0, 3, ROWS)], "b": words[rng.integers(1, 3, ROWS)]},
        "text": {"a": np.array([" ".join(words[rng.integers(0, 3, 4)]) for _ in range(ROWS)], dtype=object)},
        "vector": {"a": rng.normal(2, 1, (ROWS, 3)), "b": rng.normal(0, 9, (ROWS, 2))},
        "array": {"a": rng.normal(1, 2, (ROWS, 5, 4))},
    }[name]


@dataclass(frozen=True)
class FittedKind:
    name: str
    kind: InputKind
    columns: Mapping[str, np.ndarray]
    part: Part
    preparation: Preparation

    def sample(self, rows: slice = slice(0, 5)) -> dict[str, list[Any]]:
        return json.loads(json.dumps({name: values[rows].tolist() for name, values in self.columns.items()}))


def fit(name: str, parts: list[Mapping[str, np.ndarray]], **stated: Any) -> Preparation:
    return Preparation.fit(dict.fromkeys(parts[0], name), ChunkedRows(parts), Stated(**stated))


@pytest.fixture(params=INPUT_KINDS)
def fitted(request: pytest.FixtureRequest) -> FittedKind:
    name, columns = request.param, example(request.param)
    preparation = fit(name, [columns])
    kind = INPUT_KINDS[name]
    part = next(part for other, part in parts_of(preparation.to_dict()) if other is kind)
    return FittedKind(name, kind, columns, part, preparation)


def given(fitted: FittedKind, columns: Mapping[str, np.ndarray] | None = None) -> list[GivenColumn]:
    columns = fitted.columns if columns is None else columns
    listed = {kind.option: tuple(columns) * (kind is fitted.kind) for kind in INPUT_KINDS.values() if kind.option}
    stats = column_stats(columns, list(columns), listed["categorical"], listed["text"])
    stated = Stated(listed=listed)
    return [GivenColumn(stated, "train", name, seen, ChunkedColumn(columns, name)) for name, seen in stats.items()]


def test_the_last_kind_that_claims_a_column_is_its_own(fitted: FittedKind) -> None:
    for column in given(fitted):
        options = [option for option, names in column.dataset.listed.items() if column.name in names]
        alone = len(fitted.columns) == 1
        claiming = [name for name, kind in INPUT_KINDS.items() if kind.claims([column.stats], options, alone)]
        assert claiming[-1] == fitted.name


def test_sound_columns_have_no_fault(fitted: FittedKind) -> None:
    assert list(fitted.kind.check(given(fitted))) == []


def test_dates_are_refused_with_column_and_split(fitted: FittedKind) -> None:
    dates = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]").astype(object)
    faults = list(fitted.kind.check(given(fitted, {"when": dates})))
    assert faults
    assert all("column 'when', split train" in fault.rule for fault in faults)
    assert {fault.place.rpartition(".")[0] for fault in faults} == {"data.source.table"}


def test_a_part_comes_back_from_plain_json_and_knows_its_columns(fitted: FittedKind) -> None:
    plain = json.loads(json.dumps(fitted.preparation.to_dict(), allow_nan=False))
    own = next(part for kind, part in parts_of(plain) if kind is fitted.kind)
    assert own == fitted.part
    assert fitted.kind.columns(own) == list(fitted.columns)
    assert [column.name for column in fitted.kind.signature(own)] == list(fitted.columns)
    assert len(fitted.kind.describe(own)) == len(fitted.columns)


def test_what_encode_needs_is_all_but_what_was_fitted(fitted: FittedKind) -> None:
    spec = fitted.preparation.spec
    assert spec == spec_of(fitted.preparation.to_dict())
    own = next(part for kind, part in parts_of(spec) if kind is fitted.kind)
    assert not fitted.kind.fitted & own.keys()
    assert fitted.kind.row_of(own) == fitted.kind.row_of(fitted.part)


def test_encoded_rows_have_the_stated_dtype_and_shape_one_by_one_and_all_at_once(fitted: FittedKind) -> None:
    spec = fitted.preparation.spec
    place = [kind for kind, _ in parts_of(spec)].index(fitted.kind)
    whole = encode(fitted.columns, spec)[place]
    dtype, shape = fitted.kind.row_of(fitted.part)
    assert (whole.dtype, whole.shape) == (dtype, (ROWS, *shape))
    for row in (0, 7, ROWS - 1):
        one = encode({name: values[row : row + 1] for name, values in fitted.columns.items()}, spec)[place]
        np.testing.assert_array_equal(one[0], whole[row])
    assert len(encode({name: values[:0] for name, values in fitted.columns.items()}, spec)[place]) == 0


def test_json_values_encode_as_columns_do(fitted: FittedKind) -> None:
    spec = fitted.preparation.spec
    columns = {name: values[:5] for name, values in fitted.columns.items()}
    for one, other in zip(encode(fitted.sample(), spec), encode(columns, spec), strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_are_finite_numbers_of_the_stated_shape(fitted: FittedKind) -> None:
    encoded = [torch.from_numpy(values) for values in encode(fitted.columns, fitted.preparation.spec)]
    (features,) = fitted.preparation(*encoded).values()
    assert features.dtype == torch.float32
    assert features.shape == (ROWS, *fitted.preparation.feature_shape)
    assert features.isfinite().all()
    assert torch.equal(next(iter(fitted.preparation(*(each[3:9] for each in encoded)).values())), features[3:9])


def test_a_fit_is_the_same_to_the_bit_whether_rows_come_at_once_or_from_several_data_sets(fitted: FittedKind) -> None:
    parts = [{name: values[cut] for name, values in fitted.columns.items()} for cut in (slice(0, 13), slice(13, ROWS))]
    assert fit(fitted.name, parts).to_dict() == fitted.preparation.to_dict()


def test_rows_drawn_around_a_sample_can_be_encoded(fitted: FittedKind) -> None:
    for size in (1, 33):
        drawn = fitted.kind.draw(fitted.part, fitted.sample(), size, np.random.default_rng(2))
        assert list(drawn) == list(fitted.columns)
        (features,) = fitted.preparation(*map(torch.from_numpy, encode(drawn, fitted.preparation.spec))).values()
        assert len(features) == size
        assert features.isfinite().all()
        again = fitted.kind.draw(fitted.part, fitted.sample(), size, np.random.default_rng(2))
        assert again == drawn


def test_a_missing_column_is_named(fitted: FittedKind) -> None:
    with pytest.raises(ValueError, match=r"column 'a': must be given, got only 'other'"):
        encode({"other": [1]}, fitted.preparation.spec)


def test_columns_of_unequal_length_are_named(fitted: FittedKind) -> None:
    columns = {**fitted.columns, "a": fitted.columns["a"][:-1]}
    if len(columns) == 1:
        pytest.skip("one column has no other to differ from")
    with pytest.raises(ValueError, match=r"column 'b': must have 39 rows as 'a' has, got 40"):
        encode(columns, fitted.preparation.spec)


def test_a_copy_of_the_package_encodes_the_same_where_mtl_search_is_not_there(
    fitted: FittedKind, tmp_path: Path
) -> None:
    shutil.copytree(
        Path(input_kinds.__file__).parent, tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "given.json").write_text(json.dumps([fitted.sample(), fitted.preparation.spec]), encoding="utf-8")
    code = (
        "import json, sys; sys.modules['mtl_search'] = None; sys.path.insert(0, '.'); "
        "from copied.encoding import encode; "
        "found = encode(*json.load(open('given.json'))); print(json.dumps([part.tolist() for part in found])); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    wanted = [part.tolist() for part in encode(fitted.sample(), fitted.preparation.spec)]
    assert json.loads(done.stdout) == wanted
