"""Arrays in .npz files: images, vectors and their labels, read without running anything that the files hold."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import fsspec
import numpy as np

from mtl_search.data.sources.base import SPLITS, Source, why_unreadable
from mtl_search.data.sources.files import Files
from mtl_search.errors import DataError, Problem

_UNREADABLE = (OSError, EOFError, zlib.error, ImportError, ValueError, zipfile.BadZipFile)


class ArraysSource(Source):
    """The arrays of an .npz file as columns, or a file per split.

    Arrays named ``x_train``, ``y_train``, ``x_test``, … are the columns ``x`` and ``y`` of the given splits; where no
    name ends so, all arrays are columns of one set of rows. ``y:0`` names the first column of a two-axis array.

    Args:
        path: The file with all rows, relative to the working folder, or a URL that fsspec opens; or name the splits'
            own files instead.
        inputs: The array that the backbone sees (n, …), or several arrays (n,).
        train: File with the training rows.
        validation: File with the validation rows; cut from the training rows if not given.
        test: File with the test rows; cut from the training rows if not given.
        split_by: Array (n,) that says which split a row is of: "train", "validation" or "test".
    """

    def __init__(
        self,
        path: str | None = None,
        inputs: str | list[str] = "x",
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        split_by: str | None = None,
    ) -> None:
        super().__init__([inputs] if isinstance(inputs, str) else inputs)
        self._files = Files(path, {"train": train, "validation": validation, "test": test}, {}, split_by)

    def _load(self) -> Mapping[str, Any]:
        if problems := list(self._files.contradictions()):
            raise DataError(problems)
        splits = self._files.read(_read_arrays)
        whole = splits["train"] if self._files.whole is not None and self._files.split_by is None else {}
        return _by_name(whole) or splits


def _read_arrays(path: str, place: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name.

    Raises:
        DataError: It is no readable .npz file.
    """
    try:
        with fsspec.open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError([Problem(place, "must be an .npz file of named arrays", path)])
            # An object array would be a pickle, which numpy refuses here.
            arrays = {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise DataError([Problem(place, f"must be a readable .npz file ({why_unreadable(error)})", path)]) from error
    return {name: array for name, array in arrays.items() if array.ndim}  # a single value is no column


def _by_name(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The splits that the arrays' names tell; none where no name ends as that of training rows does."""
    splits: dict[str, dict[str, np.ndarray]] = {}
    if any(name.endswith("_train") for name in arrays):
        for name, array in arrays.items():
            column, _, split = name.rpartition("_")
            if split in SPLITS and column:
                splits.setdefault(split, {})[column] = array
    return splits
