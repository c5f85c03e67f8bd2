"""Arrays in an .npz file: images, vectors and their labels, read without running anything that the file holds."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import fsspec
import numpy as np

from mtl_search.data.sources.base import SPLITS, Source, why_unreadable
from mtl_search.errors import DataError, Problem

_UNREADABLE = (OSError, EOFError, zlib.error, ImportError, ValueError, zipfile.BadZipFile)


class ArraysSource(Source):
    """The arrays of an .npz file as columns.

    Arrays named ``x_train``, ``y_train``, ``x_test``, … are the columns ``x`` and ``y`` of the given splits; where no
    name ends so, all arrays are columns of one set of rows. ``y:0`` names the first column of a two-axis array.

    Args:
        path: The file, relative to the working folder, or a URL that fsspec opens.
        inputs: The array that the backbone sees (n, …), or several arrays (n,).
    """

    def __init__(self, path: str, inputs: str | list[str] = "x") -> None:
        super().__init__([inputs] if isinstance(inputs, str) else inputs)
        self._path = path

    def _load(self) -> Mapping[str, Any]:
        try:
            with fsspec.open(self._path, "rb") as file:
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise DataError([Problem("path", "must be an .npz file of named arrays", self._path)])
                # An object array would be a pickle, which numpy refuses here.
                arrays = {name: archive[name] for name in archive.files}
        except _UNREADABLE as error:
            reason = why_unreadable(error)
            raise DataError([Problem("path", f"must be a readable .npz file ({reason})", self._path)]) from error
        arrays = {name: array for name, array in arrays.items() if array.ndim}  # a single value is no column
        if not any(name.endswith("_train") for name in arrays):
            return {"train": arrays}
        splits: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            column, _, split = name.rpartition("_")
            if split in SPLITS and column:
                splits.setdefault(split, {})[column] = array
        return splits
