"""Ray Data's tasks give a worker the very windows that it would pick itself, however long it takes for each."""

import time
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.util import placement_group, remove_placement_group

from mtl_search.data.streaming import read_rows_here
from mtl_search.pool.row_reader import read_rows_ahead

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("cluster")]


@pytest.mark.parametrize("window", [64, 1000])
def test_windows_come_in_their_order_and_to_the_byte(window: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rng.integers(0, 255, (3000, 12), dtype=np.uint8).tofile(tmp_path / "rows.bin")
    rows = rng.permutation(3000)[:2500]
    there = read_rows_ahead(str(tmp_path / "rows.bin"), 12, rows, window)
    for number, expected in enumerate(read_rows_here(str(tmp_path / "rows.bin"), 12, rows, window)):
        np.testing.assert_array_equal(next(there), expected)
        time.sleep(0.5 if number == 2 else 0)  # what is ahead waits
    assert next(there, None) is None


def test_an_epoch_that_ends_early_leaves_nothing_behind(tmp_path: Path) -> None:
    np.zeros((4000, 8), np.uint8).tofile(tmp_path / "rows.bin")
    for _ in range(2):
        windows = read_rows_ahead(str(tmp_path / "rows.bin"), 8, np.arange(4000), 100)
        assert next(windows).shape == (100, 8)
        windows.close()


def test_windows_come_where_workers_and_trials_have_every_cpu(tmp_path: Path) -> None:
    np.arange(4000, dtype=np.int64).tofile(tmp_path / "rows.bin")
    taken = placement_group([{"CPU": ray.available_resources()["CPU"]}])  # type: ignore[no-untyped-call]
    try:
        assert taken.wait(30)
        (window,) = read_rows_ahead(str(tmp_path / "rows.bin"), 8, np.array([7, 3999, 0]), 100)
        assert window.view(np.int64)[:, 0].tolist() == [7, 3999, 0]
    finally:
        remove_placement_group(taken)
