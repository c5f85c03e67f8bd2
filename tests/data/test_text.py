"""Free text: hashed alike in training and serving, sparse until the batch; and data sets that are rows of one file."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.batching import DeviceSplit
from mtl_search.data.inputs import HeldInputs
from mtl_search.data.sparse import SparseFeatures, SparseRows
from mtl_search.data.study_data import Split, StudyData, load_data
from mtl_search.errors import DataError
from mtl_search.input_kinds.encoding import encode
from mtl_search.input_kinds.preparation import Preparation
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.calibration import Calibration
from mtl_search.training.evaluation import evaluate
from mtl_search.training.workspace import Workload, Workspace

WORDS = ["a", "the", "good", "bad", "fine", "awful", "film", "book", "plot", "lead", "not", "very", "dull", "grand"]
POSITIVE = {"kind": "binary", "target": "positive"}


def reviews(rows: int = 80, seed: int = 0) -> pd.DataFrame:
    """Texts of two domains in given splits; one in ten is missing."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 30))) for _ in range(rows)]
    frame = pd.DataFrame({"text": texts, "stars": rng.integers(1, 6, rows), "shop": rng.choice(["n", "s"], rows)})
    frame["text"] = frame["text"].where(frame.index % 10 != 3, None)
    frame["domain"] = np.where(frame.index % 4 == 0, "book", "film")
    frame["split"] = np.where(frame.index % 5 == 2, "test", "train")
    frame["positive"] = frame.index % 3 % 2
    return frame


@pytest.fixture
def file(tmp_path: Path) -> str:
    reviews().to_parquet(tmp_path / "reviews.parquet")
    return str(tmp_path / "reviews.parquet")


def load(table: dict[str, Any] | None = None, tasks: dict[str, Any] | None = None, **sources: Any) -> StudyData:
    data = {"source": {"table": table}} if table else {"sources": {n: {"table": t} for n, t in sources.items()}}
    configs = {name: TaskConfig.model_validate(task) for name, task in (tasks or {"positive": POSITIVE}).items()}
    return load_data(DataConfig.model_validate(data), configs, 0)


def problems(table: dict[str, Any] | None = None, tasks: dict[str, Any] | None = None, **sources: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(table, tasks, **sources)
    return [str(problem) for problem in caught.value.problems]


def test_features_are_numbers_then_categories_then_the_hashes_of_each_text(file: str) -> None:
    table = {"path": file, "text": ["text", "domain"], "text_features": 64, "ngrams": 3, "exclude": ["split"]}
    data = load(table)
    part = data.splits["train"]["main"]
    raw = reviews()
    hasher = HashingVectorizer(n_features=64, ngram_range=(1, 3), dtype=np.float32)
    assert data.preparation.feature_shape == (1 + 2 + 2 * 64,)
    split = DeviceSplit(data.splits["train"], data.preparation, data.tasks, "cpu")
    features = split.inputs["main"][0 : part.rows].single
    sample = raw.loc[[index for index in raw.index if raw.text[index] == data.sample["text"][0]]].iloc[:1]
    assert features[0, 0] == pytest.approx(
        (sample.stars.item() - data.preparation.to_dict()["means"][0]) / data.preparation.to_dict()["scales"][0]
    )
    assert features[0, 1:3].tolist() == [sample["shop"].item() == "n", sample["shop"].item() == "s"]
    wanted = [hasher.transform(sample[name].tolist()).toarray() for name in ("text", "domain")]
    np.testing.assert_allclose(features[:1, 3:], np.concatenate(wanted, axis=1), rtol=1e-6)


def test_a_served_text_is_hashed_as_a_training_text_was(file: str) -> None:
    data = load({"path": file, "text": ["text"], "inputs": ["text", "stars"], "text_features": 128})
    preparation = Preparation(json.loads(json.dumps(data.preparation.to_dict())))
    assert preparation.spec == data.preparation.spec
    assert list(data.sample) == ["stars", "text"]
    served = encode(json.loads(json.dumps(data.sample)), preparation.spec)
    assert [part.dtype for part in served] == [np.float32, np.int64, np.float32]
    trained = DeviceSplit(data.splits["train"], data.preparation, data.tasks, "cpu").inputs["main"][:].single[:5]
    assert torch.equal(preparation(*map(torch.from_numpy, served))["table"], trained)


def test_a_missing_text_is_an_empty_one_and_nothing_is_fitted() -> None:
    spec = {"kind": "table", "numeric": [], "categorical": {}, "missing": "error"}
    spec["text"] = {"columns": ["t"], "features": 32, "ngrams": 1}
    *_, text = encode({"t": ["Unheard OF", None, float("nan"), "", "None", "unheard of"]}, spec)
    assert text.shape == (6, 32)
    assert not text[1:5].any()
    assert np.linalg.norm(text[0]) == pytest.approx(1)
    assert text[0].tolist() == text[5].tolist()
    assert [part.shape for part in encode({"t": []}, spec)] == [(0, 0), (0, 0), (0, 32)]
    with pytest.raises(ValueError, match="column 't': must be given"):
        encode({"x": ["a"]}, spec)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 2), st.integers(1, 7), st.integers(0, 2**31 - 1), st.booleans(), st.data())
def test_sparse_rows_are_picked_as_dense_ones_are(
    rows: int, before: int, width: int, seed: int, padded: bool, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    hashes = np.where(rng.random((rows, width)) < rng.random((rows, 1)) - 0.3, rng.normal(size=(rows, width)), 0)
    left = torch.from_numpy(rng.normal(size=(rows, before)).astype(np.float32))
    wanted = torch.cat([left, torch.from_numpy(hashes.astype(np.float32))], dim=1)
    held = SparseRows.of(csr_matrix(hashes))
    for array in (held.starts, held.columns, held.values):
        array.setflags(write=False)  # as arrays from Ray's object store are
    sparse = SparseFeatures(left, held, padded)
    assert len(sparse) == rows
    numbers = st.lists(st.integers(0, rows - 1), max_size=12) if rows else st.just([])
    picked = torch.tensor(data.draw(numbers), dtype=torch.long)
    assert torch.equal(sparse.index_select(0, picked), wanted.index_select(0, picked))
    start, stop = data.draw(st.integers(0, 10)), data.draw(st.integers(0, 10))
    assert torch.equal(sparse[start:stop], wanted[start:stop])


def dense(split: dict[str, Split], data: StudyData) -> dict[str, torch.Tensor]:
    parts = {name: (*part.encoded, csr(part.text).toarray()) for name, part in split.items()}
    return {name: data.preparation(*map(torch.from_numpy, part))["table"] for name, part in parts.items()}


def csr(text: SparseRows | None) -> csr_matrix:
    assert text is not None
    return csr_matrix((text.values, text.columns, text.starts), shape=(len(text.starts) - 1, text.width))


def blocks_with_batch_norm(input_shape: tuple[int, ...]) -> list[torch.nn.Module]:
    return [torch.nn.Sequential(torch.nn.Linear(input_shape[0], 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU())]


def test_a_worker_evaluates_and_calibrates_on_text_as_on_the_same_features_dense(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"path": file, "text": ["text"], "text_features": 50}
    tasks = {name: {**POSITIVE, "data": name} for name in ("film", "book")}
    data = load(None, tasks, **{name: {**table, "where": {"domain": name}, "split_by": "split"} for name in tasks})
    backbone = Component("python", {"function": "test_text:blocks_with_batch_norm"})
    workload = Workload.prepare(data, backbone, 0, "fp32")
    workspace = Workspace(workload, DistributedContext())
    model = workspace.model(list(tasks), Component("hard"))
    monkeypatch.setattr("mtl_search.training.evaluation.CHUNK", 5)
    found = evaluate(model, workspace.splits["validation"], workspace.metrics, DistributedContext())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Calibration(model, workspace.splits["train"], Schedule(batch_size=20), DistributedContext()).calibrate_all()
    calibrated = {name: value.clone() for name, value in model.state_dict().items()}
    assert calibrated["blocks.0.0.1.running_mean"].abs().min() > 0
    model.load_state_dict(before)
    for split in ("train", "validation"):
        full = dense(data.splits[split], data)
        workspace.splits[split].inputs = {name: HeldInputs({"table": values}) for name, values in full.items()}
    assert evaluate(model, workspace.splits["validation"], workspace.metrics, DistributedContext()) == found
    Calibration(model, workspace.splits["train"], Schedule(batch_size=20), DistributedContext()).calibrate_all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, calibrated[name])


def test_text_stays_sparse_where_it_is_kept(file: str) -> None:
    data = load({"path": file, "text": ["text"], "inputs": ["text"]})
    text = data.splits["train"]["main"].text
    assert text is not None
    assert text.width == 2**14
    held = text.starts.nbytes + text.columns.nbytes + text.values.nbytes
    assert held < 8 * (60 * len(text.starts)) < text.width * 4 * len(text.starts) / 100


def test_the_key_follows_the_words_of_a_text(tmp_path: Path) -> None:
    frame = reviews()
    keys = []
    for words in ("good film", "good film", "fine film"):
        frame.loc[0, "text"] = words
        frame.to_parquet(tmp_path / "reviews.parquet")
        keys.append(load({"path": str(tmp_path / "reviews.parquet"), "text": ["text"]}).key)
    assert keys[0] == keys[1] != keys[2]


def test_rows_of_one_file_make_a_data_set_per_value_and_given_splits(file: str) -> None:
    table = {"path": file, "text": ["text"], "text_features": 64, "split_by": "split"}
    tasks = {name: {**POSITIVE, "data": name} for name in ("film", "book")}
    data = load(None, tasks, **{name: {**table, "where": {"domain": name}} for name in tasks})
    raw = reviews()
    for name in tasks:
        own = raw[raw.domain == name]
        assert data.splits["test"][name].rows == (own.split == "test").sum()
        rest = (own.split == "train").sum()
        assert data.splits["train"][name].rows + data.splits["validation"][name].rows == rest
    assert list(data.sample) == ["stars", "shop", "text"]
    few = load({**table, "where": {"domain": "film", "stars": 5.0}, "split_by": None, "exclude": ["split"]})
    assert sum(parts["main"].rows for parts in few.splits.values()) == ((raw.domain == "film") & (raw.stars == 5)).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ["reveiw"]}, r"table\.text: must name input columns, got 'reveiw' \(choices: text, stars"),
        (
            {"text": ["stars"]},
            r"table\.text: must list columns that hold text \(column 'stars', split train\), got 'int64'",
        ),
        ({"categorical": ["text"]}, r"table\.text: must not list a column that is categorical too, got 'text'"),
        ({"text": ["text", "positive"]}, r"table\.text: must not list a task's target, got 'positive'"),
        ({"text": None, "text_features": 8}, r"table\.text_features: has no effect without 'text', got 8"),
        ({"text": None, "ngrams": 1}, r"table\.ngrams: has no effect without 'text', got 1"),
        ({"where": {"domian": "book"}}, r"table\.where: must name columns of the table .*'domian' \(choices: text"),
        ({"where": {"domain": "shoe"}}, r"table\.where: must leave at least one row .*got {'domain': 'shoe'}"),
        ({"split_by": "part"}, r"table\.split_by: must name columns of the table .*'part'"),
        (
            {"split_by": "domain"},
            r"table\.split_by: must name a column of splits' names, got 'book' \(choices: train, ",
        ),
        (
            {"split_by": "split", "exclude": ["split"]},
            r"table\.exclude: must not list a column of 'where' or 'split_by'",
        ),
        ({"where": {"domain": "book"}, "inputs": ["text", "domain"]}, r"table\.inputs: must not list a column of 'wh"),
    ],
)
def test_a_mistake_is_told_with_place_rule_and_value(file: str, change: dict[str, Any], message: str) -> None:
    found = problems({"path": file, "text": ["text"], **change})
    assert any(re.search(message, problem) for problem in found), found


def test_splits_of_their_own_files_cannot_be_named_by_a_column_too(file: str) -> None:
    (problem,) = problems({"train": file, "text": ["text"], "split_by": "split"})
    assert "split_by: has no effect where the splits have their own files, got 'split'" in problem


def test_all_data_sets_hash_their_text_alike(file: str) -> None:
    tasks = {name: {**POSITIVE, "data": name} for name in ("film", "book")}
    sources = {name: {"path": file, "text": ["text"]} for name in tasks}
    sources["book"] = {**sources["book"], "ngrams": 1}
    (problem,) = problems(None, tasks, **sources)
    assert "data.sources.book.table: must have the text_features and ngrams of data set 'film'" in problem


def test_a_column_of_text_that_is_not_listed_is_a_category_and_too_many_tell_where_text_goes(tmp_path: Path) -> None:
    rows = [f"{' '.join(WORDS)} {row}" for row in range(1200)]
    pd.DataFrame({"text": rows, "positive": [0, 1] * 600}).to_csv(tmp_path / "t.csv", index=False)
    (problem,) = problems({"path": str(tmp_path / "t.csv")})
    assert (
        "at most 1000 categories (column 'text', split train); a table takes free text in `text`, got 1200" in problem
    )
