"""Rows that stay on disk: the same splits, tasks, preparation, key, batches and bits as rows in memory."""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.batching import BatchPlan, DeviceSplit
from mtl_search.data.records import RecordFile
from mtl_search.data.streaming import StreamedInputs
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.errors import DataError, StudyError

ROWS = 1000
TASKS: dict[str, dict[str, Any]] = {
    "kind": {"kind": "classification", "target": "kind"},
    "size": {"kind": "regression", "target": "size", "metric": "rmse"},
}


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def frame(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Numbers with gaps, whole numbers, words with gaps, truths with gaps: what pandas turns into several dtypes."""
    rng = np.random.default_rng(seed)
    colour = rng.choice(["red", "green", "blue"], rows).astype(object)
    colour[rng.random(rows) < 0.1] = None
    yes = rng.choice([True, False], rows).astype(object)
    yes[rows // 2 :][:3] = None
    height = rng.normal(5.0, 2.0, rows)
    height[rng.random(rows) < 0.2] = np.nan
    columns = {
        "height": height,
        "age": rng.integers(0, 90, rows),
        "narrow": rng.normal(size=rows).astype(np.float32),
        "colour": colour,
        "yes": yes,
        "zone": rng.integers(1, 5, rows),
        "kind": rng.choice(["a", "b", "c"], rows, p=[0.5, 0.3, 0.2]),
        "size": np.where(rng.random(rows) < 0.1, np.nan, height + rng.normal(size=rows)),
        "part": rng.choice(["train", "validation", "test"], rows, p=[0.6, 0.2, 0.2]),
        "site": rng.choice(["x", "y"], rows),
    }
    return pd.DataFrame(columns)


def table(path: Path, data: pd.DataFrame | pa.Table | None = None, rows_per_group: int = 130) -> str:
    found = frame() if data is None else data
    made = found if isinstance(found, pa.Table) else pa.Table.from_pandas(found)
    pq.write_table(made, path, row_group_size=rows_per_group)
    return str(path)


def load(source: dict[str, Any], *, stream: bool, tasks: dict[str, Any] | None = None, **data: Any) -> StudyData:
    config = DataConfig.model_validate({"source": source, "stream": stream, **data})
    return load_data(config, {n: TaskConfig.model_validate(t) for n, t in (tasks or TASKS).items()}, seed=3)


def both(tasks: dict[str, Any] | None = None, **params: Any) -> tuple[StudyData, StudyData]:
    return load({"table": params}, stream=False, tasks=tasks), load({"table": params}, stream=True, tasks=tasks)


def inputs(data: StudyData, split: str = "train") -> Any:
    return DeviceSplit(data.splits[split], data.preparation, data.all_tasks, "cpu").inputs["main"]


def same(memory: StudyData, disk: StudyData) -> None:
    assert disk.preparation.to_dict() == memory.preparation.to_dict()
    assert disk.tasks == memory.tasks
    assert disk.describe() == memory.describe()
    assert repr(disk.sample) == repr(memory.sample)  # a gap is NaN, which equals nothing
    assert disk.key == memory.key
    for split, parts in memory.splits.items():
        streamed = inputs(disk, split)
        assert isinstance(streamed, StreamedInputs)
        assert torch.equal(streamed[0 : len(streamed)].single, inputs(memory, split)[:].single)
        for task in memory.tasks:
            for mine, theirs in zip(
                (parts["main"].targets, parts["main"].masks),
                (disk.splits[split]["main"].targets, disk.splits[split]["main"].masks),
                strict=True,
            ):
                np.testing.assert_array_equal(mine[task.name], theirs[task.name])


CASES: dict[str, dict[str, Any]] = {
    "cut by us": {"exclude": ["part", "site"], "categorical": ["zone"]},
    "cut by a column": {"split_by": "part", "exclude": ["site"]},
    "some rows": {"where": {"site": "x"}, "exclude": ["part"]},
    "numbers alone": {"inputs": ["age", "narrow"], "missing": "error"},
    "words alone": {"inputs": ["colour", "yes"]},
}


@pytest.mark.parametrize("case", CASES)
def test_a_streamed_study_is_the_one_in_memory(case: str, tmp_path: Path) -> None:
    same(*both(path=table(tmp_path / "t.parquet"), **{"missing": "impute", **CASES[case]}))


def test_numbers_far_from_zero_stream_in_float64(tmp_path: Path) -> None:
    since = 1_700_000_000_000 + np.arange(ROWS) * 7919 % 600_000
    path = table(tmp_path / "t.parquet", frame().assign(since=since))
    memory, disk = both(path=path, missing="impute", inputs=["height", "since", "colour"])
    same(memory, disk)
    assert disk.preparation.spec["dtype"] == "float64"
    assert len(inputs(disk)[0:ROWS].single[:, 1].unique()) == len(inputs(disk))


def test_every_split_may_have_its_own_file(tmp_path: Path) -> None:
    files = {split: table(tmp_path / f"{split}.parquet", frame(300, n)) for n, split in enumerate(["train", "test"])}
    same(*both(**files, missing="impute"))


def test_a_folder_of_files_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "many.parquet"
    folder.mkdir()
    for number in range(3):
        table(folder / f"{number}.parquet", frame(200, number))
    same(*both(path=str(folder), missing="impute"))


def test_a_folder_may_name_a_column(tmp_path: Path) -> None:
    for place in ("east", "west"):
        folder = tmp_path / "many.parquet" / f"place={place}"
        folder.mkdir(parents=True)
        table(folder / "0.parquet", frame(200, len(place) + ord(place[0])))
    memory, disk = both(path=str(tmp_path / "many.parquet"), missing="impute")
    assert disk.sample["place"] == ["east"] * 5
    same(memory, disk)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int16()])
def test_a_column_of_vectors_streams(kind: pa.DataType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = pa.array((rng.normal(size=ROWS * 6) * 50).astype(np.int64)).cast(kind)
    for x in (
        pa.FixedSizeListArray.from_arrays(values, 6),
        pa.ListArray.from_arrays(range(0, ROWS * 6 + 1, 6), values),
    ):
        made = pa.table({"x": x, "kind": rng.choice(["a", "b"], ROWS), "size": rng.normal(size=ROWS)})
        same(*both(path=table(tmp_path / "t.parquet", made)))


def test_an_index_that_pandas_wrote_is_no_input(tmp_path: Path) -> None:
    indexed = frame().set_index("age")
    memory, disk = both(path=table(tmp_path / "t.parquet", indexed), missing="impute")
    assert "age" not in disk.sample
    same(memory, disk)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyData, StudyData]:
    return both(path=table(tmp_path_factory.mktemp("pair") / "t.parquet"), missing="impute")


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(2, 400),
    world=st.integers(1, 3),
    seed=st.integers(0, 99),
    window=st.sampled_from([1, 1000, 30_000, 1 << 24]),
)
def test_batches_have_the_bits_of_memory_in_any_order(
    pair: tuple[StudyData, StudyData], batch: int, world: int, seed: int, window: int
) -> None:
    held, streamed = map(inputs, pair)
    masks = {"kind": torch.ones(len(held), dtype=torch.bool)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtl_search.data.streaming.WINDOW_BYTES", window)
        for rank in range(world):
            plan = BatchPlan({"main": len(held)}, masks, {"kind": "main"}, batch, 1.0, seed, rank, world)
            for epoch in (1, 2):
                there, here = plan.epoch(epoch, [streamed]), plan.epoch(epoch, [held])
                for ours, theirs in zip(there, here, strict=True):
                    assert theirs.read is None
                    assert ours.read is not None
                    assert torch.equal(ours.rows[0], theirs.rows[0])
                    assert torch.equal(ours.read[0].single, held.select(theirs.rows[0]).single)
                    assert ours.counts == theirs.counts


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.integers(0, 600), max_size=50), start=st.integers(0, 700), length=st.integers(0, 700))
def test_any_rows_can_be_picked(pair: tuple[StudyData, StudyData], rows: list[int], start: int, length: int) -> None:
    held, streamed = map(inputs, pair)
    picked = torch.tensor(rows, dtype=torch.int64)
    assert torch.equal(streamed.select(picked).single, held.select(picked).single)
    assert torch.equal(streamed[start : start + length].single, held[start : start + length].single)


def test_no_input_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    from mtl_search.data.sources.parquet_rows import ParquetRows

    original = ParquetRows.__getitem__
    monkeypatch.setattr(ParquetRows, "__getitem__", lambda self, name: asked.append(name) or original(self, name))
    data = load({"table": {"path": table(tmp_path / "t.parquet"), "missing": "impute"}}, stream=True)
    inputs(data)
    assert set(asked) <= {"kind", "size"}


def test_record_file_is_shared_while_it_is_used_and_gone_after(tmp_path: Path) -> None:
    data = load({"table": {"path": table(tmp_path / "t.parquet"), "missing": "impute"}}, stream=True)
    first, second = inputs(data), inputs(data)
    assert len(list(tmp_path.glob("mtl_search_records*/*/rows.bin"))) == 1
    del first
    assert math.isfinite(float(second[0:1].single.sum()))
    del second
    assert not list(tmp_path.glob("mtl_search_records*/*/rows.bin"))


def test_processes_that_need_one_file_at_once_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One writes it, the other finds it; each goes on holding it."""
    tables = [table(tmp_path / f"{number}.parquet", frame(seed=number)) for number in range(30)]
    found = [load({"table": {"path": path, "missing": "impute"}}, stream=True) for path in tables]
    parts = [part for data in found if (part := data.splits["train"]["main"].stream) is not None]
    held: list[list[RecordFile]] = [[], []]
    both_there = threading.Barrier(2)

    def need_all(own: list[RecordFile]) -> None:
        for part in parts:
            both_there.wait(60)
            own.append(RecordFile(part))

    threads = [threading.Thread(target=need_all, args=(own,), daemon=True) for own in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [len(own) for own in held] == [len(parts)] * 2
    assert all(one.path == other.path for one, other in zip(*held, strict=True))


def test_tables_that_change_under_a_study_are_noticed(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet")
    data = load({"table": {"path": path, "missing": "impute"}}, stream=True)
    table(tmp_path / "t.parquet", frame(ROWS, 1))
    with pytest.raises(StudyError, match="have changed since"):
        inputs(data)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"sklearn": {"name": "iris"}}, "must be a table of Parquet files"),
        ({"table": {"path": "t.csv"}}, "must end as Parquet does"),
        ({"table": {"path": "t.parquet", "text": ["colour"]}}, "must be empty where data.stream"),
        ({"table": {"path": "missing.parquet"}}, "there is no such file"),
        ({"table": {"path": "t.parquet", "inputs": ["height"]}}, "must hold a number in every row"),
        ({"table": {"path": "t.parquet", "inputs": ["nope"]}}, "must name columns"),
    ],
)
def test_what_cannot_stream_is_said(
    source: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "t.parquet")
    frame().to_csv("t.csv")
    with pytest.raises(DataError, match=message):
        load(source, stream=True)


@pytest.mark.parametrize("spoil", ["gap", "infinity", "words", "many words"])
def test_problems_are_those_of_rows_in_memory(spoil: str, tmp_path: Path) -> None:
    data = frame(2000)
    data["height"] = np.arange(2000.0)
    if spoil == "gap":
        data.loc[1700, "height"] = np.nan
    elif spoil == "infinity":
        data.loc[1700, "height"] = 1e300
    elif spoil == "words":
        data["height"] = ["?" if n == 1700 else str(n) for n in range(2000)]
    else:
        data["height"] = [f"w{n}" for n in range(2000)]
    path = table(tmp_path / "t.parquet", data)
    said = []
    for stream in (False, True):
        with pytest.raises(DataError) as caught:
            load({"table": {"path": path, "inputs": ["height"]}}, stream=stream)
        said.append(str(caught.value))
    assert said[0] == said[1]
