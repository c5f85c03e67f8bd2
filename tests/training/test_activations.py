"""Activations: the store's tiers, what moves down and what stays."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

from mtl_search.config.study_config import ActivationsConfig
from mtl_search.training.activations import Activations, RowsElsewhere

CPU = torch.device("cpu")
HALF = (1 << 19) // 4
"""Numbers in half a MiB."""


def store_of(host: int, disk: int) -> Activations:
    return Activations(ActivationsConfig(host_mib=host, disk_mib=disk), CPU)


def put(store: Activations, key: str, value: float, numbers: int = HALF) -> bool:
    made = store.make(key, [(numbers // 2, 2)], torch.float32)
    for tensor in made or ():
        tensor.fill_(value)
    return made is not None


def value(store: Activations, key: str) -> float | None:
    found = store.get(key)
    return None if found is None else float(found[0].mean())


def test_what_was_used_least_recently_moves_down_and_then_out_with_its_values() -> None:
    store = store_of(1, 1)
    for number, key in enumerate("abcd"):
        store.release()
        assert put(store, key, number)
    assert store.held() == [1 << 20, 1 << 20]
    assert [value(store, key) for key in "abcd"] == [0, 1, 2, 3]
    store.release()
    assert value(store, "b") == 1
    assert put(store, "e", 4)
    # Room in memory for e is made by c, for c on disk by a; b, though on disk for longer, was used later.
    assert [value(store, key) for key in "abcde"] == [None, 1, 2, 3, 4]


def test_what_is_in_use_stays_where_it_is() -> None:
    store = store_of(1, 1)
    assert all(put(store, key, number) for number, key in enumerate("abcd", 1))
    assert not put(store, "e", 5)
    assert [value(store, key) for key in "abcde"] == [1, 2, 3, 4, None]
    store.release()
    assert put(store, "e", 5)


def test_what_is_larger_than_a_tier_goes_to_the_next_and_moves_nothing() -> None:
    store = store_of(1, 2)
    assert put(store, "small", 1)
    store.release()
    assert put(store, "large", 2, 3 * HALF)
    assert store.held() == [1 << 19, 3 << 19]
    assert not put(store, "huge", 3, 9 * HALF)
    assert [value(store, key) for key in ("small", "large")] == [1, 2]


def test_without_a_budget_nothing_is_kept() -> None:
    store = store_of(0, 0)
    assert not store.has_room
    assert not put(store, "a", 1)


def test_files_have_no_name_once_they_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So nothing is left behind, however the process ends.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = store_of(0, 1)
    assert put(store, "a", 7)
    assert store.held() == [0, 1 << 19]
    assert list(tmp_path.iterdir()) == []
    assert value(store, "a") == 7


def test_a_full_disk_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not put(store_of(0, 1), "a", 7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_several_tensors_of_any_type_keep_their_bits_on_the_way_down(dtype: torch.dtype) -> None:
    store = store_of(1, 1)
    made = store.make("a", [(3, 4), (0, 4), (5, 4)], dtype)
    assert made is not None
    wanted = [torch.randn(tensor.shape).to(dtype) for tensor in made]
    for tensor, bits in zip(made, wanted, strict=True):
        tensor.copy_(bits)
    store.release()
    assert put(store, "b", 1, 2 * HALF)
    assert store.held()[1] > 0
    found = store.get("a")
    assert found is not None
    assert all(torch.equal(tensor, bits) for tensor, bits in zip(found, wanted, strict=True))


def test_a_warning_is_given_once(caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(1, 1)
    for _ in range(3):
        store.log_usage("no room")
    assert caplog.text.count("no room") == 1


def test_distant_rows_are_taken_as_from_a_tensor() -> None:
    rows = torch.randn(5, 3)
    distant = RowsElsewhere(rows, CPU)
    assert torch.equal(distant.index_select(0, torch.tensor([4, 0])), rows[[4, 0]])
    assert torch.equal(distant[1:3], rows[1:3])
