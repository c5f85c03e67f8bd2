"""Data sets of ``results.py``: for each a study file's values, and the functions that such a study names.

The sets that have to be brought along lie in a folder of their own under the folder given (``results.py`` lists them);
the others come with scikit-learn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import channels_last, nn

Values = dict[str, Any]
Columns = dict[str, np.ndarray]
Pair = tuple[int, int]
QUICK = (1, 1)
DOMAINS = (
    *("MR", "apparel", "baby", "books", "camera_photo", "dvd", "electronics", "health_personal_care", "imdb"),
    *("kitchen_housewares", "magazines", "music", "software", "sports_outdoors", "toys_games", "video"),
)


@dataclass(frozen=True)
class Set:
    """A data set of the benchmark.

    Attributes:
        about: What it is, for the table's caption.
        study: Folder with the data, seed and whether to be quick -> a study file's values.
        counts: Numbers of tasks for which a step's time is taken, in place of comparing every method.
    """

    about: str
    study: Callable[[Path, int, bool], Values]
    counts: tuple[int, ...] = ()


def study_of(
    name: str, data: Values, tasks: Values, backbone: Values, seed: int, epochs: Pair, batches: Pair
) -> Values:
    """A study file's values; epochs and batch sizes: of a single-task model, of a joint one.

    Single-task models train until more of it helps them little: what joint training then adds is not its epochs.
    """
    schedule = {"optimizer": {"adamw": {"lr": 1e-3}}, "decay": "cosine"}
    stages = {
        stage: {**schedule, "epochs": length, "batch_size": rows}
        for stage, length, rows in zip(("single_task", "joint"), epochs, batches, strict=True)
    }
    parts = {"name": name, "data": data, "tasks": tasks, "backbone": backbone, "space": stages}
    return {**parts, "search": {"trials": 2}, "seed": seed}


def multi_fashion_and_mnist(folder: Path, seed: int, quick: bool) -> Values:
    params = {"path": str(folder / "multi_fashion_and_mnist/data.npz"), "seed": seed, "rows": 1000 if quick else 6000}
    tasks = {name: {"kind": "classification", "target": name} for name in ("left", "right")}
    data = {"source": {"python": {"function": "real_sets:overlaid_images", "params": params, "inputs": ["x"]}}}
    backbone = {"python": {"function": "real_sets:lenet"}}
    return study_of("multi_fashion_and_mnist", data, tasks, backbone, seed, QUICK if quick else (25, 12), (256, 256))


def overlaid_images(path: str, seed: int, rows: int) -> dict[str, Columns]:
    """Some of the training images, half as many others to validate, and all test images."""
    with np.load(path) as file:
        order = np.random.default_rng(seed).permutation(len(file["x_train"]))
        parts = {"train": order[:rows], "validation": order[rows : rows + rows // 2], "test": slice(None)}
        given = {split: "test" if split == "test" else "train" for split in parts}
        return {
            split: {
                "x": file[f"x_{given[split]}"][chosen],
                "left": file[f"y_{given[split]}"][chosen, 0],
                "right": file[f"y_{given[split]}"][chosen, 1],
            }
            for split, chosen in parts.items()
        }


def lenet(input_shape: tuple[int, ...]) -> list[nn.Module]:
    """LeNet in three blocks, for images of 28 by 28."""
    first, second = nn.Conv2d(input_shape[0], 10, 5), nn.Conv2d(10, 20, 5)
    # Pooling takes a third of the time where channels come last.
    for layer in (first, second):
        layer.to(memory_format=channels_last)
    return [
        nn.Sequential(first, nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(second, nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(320, 50), nn.ReLU()),
    ]


def fdu_mtl(folder: Path, seed: int, quick: bool) -> Values:
    table = {"path": str(folder / "fdu_mtl/reviews.parquet"), "text": ["text"], "split_by": "split"}
    features = {"text_features": 1024 if quick else 4096}
    data = {
        "sources": {name: {"table": {**table, **features, "where": {"domain": name}}} for name in DOMAINS},
        "split": {"validation": 0.2},
    }
    tasks = {name: {"kind": "binary", "target": "positive", "data": name} for name in DOMAINS}
    backbone = {"mlp": {"width": 64, "depth": 2, "dropout": 0.5}}
    return study_of("fdu_mtl", data, tasks, backbone, seed, QUICK if quick else (8, 2), (16, 256))


def tox21(folder: Path, seed: int, quick: bool) -> Values:
    data = {"source": {"arrays": {"path": str(folder / "tox21/data.npz")}}, "split": {"validation": 0.1, "test": 0.1}}
    tasks = {f"assay_{i + 1}": {"kind": "binary", "target": f"y:{i}", "metric": "auroc"} for i in range(12)}
    backbone = {"mlp": {"width": 256, "depth": 2, "dropout": 0.5}}
    return study_of("tox21", data, tasks, backbone, seed, QUICK if quick else (10, 10), (64, 64))


def school(folder: Path, seed: int, quick: bool) -> Values:
    path = str(folder / "school/school.npz")
    names = {f"school_{number}": number for number in np.unique(read_arrays(path)["task"]).tolist()}
    function = {"function": "real_sets:one_school", "inputs": ["x"]}
    data = {
        "sources": {name: {"python": {**function, "params": {"path": path, "number": i}}} for name, i in names.items()},
        "split": {"validation": 0.25, "test": 0.25},
    }
    tasks = {name: {"kind": "regression", "target": "y", "data": name} for name in names}
    return study_of(
        "school", data, tasks, {"mlp": {"width": 64, "depth": 2}}, seed, QUICK if quick else (20, 20), (8, 278)
    )


def one_school(path: str, number: int) -> dict[str, Columns]:
    arrays = read_arrays(path)
    own = arrays["task"] == number
    return {"train": {"x": arrays["x"][own], "y": arrays["y"][own]}}


@lru_cache(maxsize=1)
def read_arrays(path: str) -> Columns:
    with np.load(path) as file:
        return dict(file)


def two_digits(folder: Path, seed: int, quick: bool) -> Values:
    del folder
    tasks = {name: {"kind": "classification", "target": name} for name in ("left", "right")}
    function = {"function": "real_sets:overlaid_digits", "params": {"seed": seed}, "inputs": ["x"]}
    backbone = {"mlp": {"width": 64, "depth": 2}}
    return study_of(
        "two_digits", {"source": {"python": function}}, tasks, backbone, seed, (2, 2) if quick else (30, 10), (64, 64)
    )


def overlaid_digits(seed: int) -> dict[str, Columns]:
    """Pairs of digits, the second three pixels below and to the right of the first; no image is in two splits."""
    from sklearn.datasets import load_digits

    bunch, random, splits = load_digits(), np.random.default_rng(seed), {}
    parts = np.split(random.permutation(len(bunch.target)), [1000, 1400])
    for split, rows, own in zip(("train", "validation", "test"), (1000, 300, 300), parts, strict=True):
        left, right = random.choice(own, rows), random.choice(own, rows)
        x = np.zeros((rows, 11, 11))
        x[:, :8, :8] = bunch.images[left]
        x[:, 3:, 3:] = np.maximum(x[:, 3:, 3:], bunch.images[right])
        splits[split] = {"x": x, "left": bunch.target[left], "right": bunch.target[right]}
    return splits


def digit_pairs(folder: Path, seed: int, quick: bool) -> Values:
    del folder
    pairs = {f"digits_{one}_{one + 1}": one for one in range(0, 10, 2)}
    function = {"function": "real_sets:digit_pair", "inputs": ["x"]}
    data = {
        "sources": {name: {"python": {**function, "params": {"one": one}}} for name, one in pairs.items()},
        "split": {"validation": 0.3, "test": 0.3},
    }
    tasks = {name: {"kind": "binary", "target": "y", "data": name} for name in pairs}
    return study_of(
        "digit_pairs", data, tasks, {"mlp": {"width": 32, "depth": 2}}, seed, (2, 2) if quick else (30, 10), (16, 80)
    )


def digit_pair(one: int) -> dict[str, Columns]:
    """The upper halves of one digit and the next."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    own = np.isin(bunch.target, (one, one + 1))
    return {"train": {"x": bunch.data[own, :32], "y": bunch.target[own]}}


SETS = {
    "multi_fashion_and_mnist": Set(
        "a digit and a garment in one image; 6,000 training images drawn anew for every seed, LeNet",
        multi_fashion_and_mnist,
    ),
    "fdu_mtl": Set("reviews in 16 domains, a data set each; 4,096 hashed words and word pairs, MLP", fdu_mtl),
    "tox21": Set("12 assays, labels missing in part; MLP on fingerprints", tox21, (3, 6, 12)),
    "school": Set("139 schools, a data set each; MLP", school, (12, 35, 70, 139)),
    "two_digits": Set("two handwritten digits overlaid; MLP", two_digits),
    "digit_pairs": Set("one digit or the next, by the upper half of the image, a data set each; MLP", digit_pairs),
}
README_SETS = ("multi_fashion_and_mnist", "fdu_mtl")
QUICK_SETS = ("two_digits", "digit_pairs")
"""What everybody has."""
