"""Parameters of losses, weights of labels and weights of rows: against PyTorch, scikit-learn and rows given twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from mtl_search.balancing.losses import loss_sum
from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.batching import Batch, BatchContents, BatchPlan, DeviceSplit
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.data.task import Task
from mtl_search.errors import DataError
from mtl_search.input_kinds.encoding import input_columns
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.training.evaluation import evaluate
from mtl_search.training.metrics import metric_for
from mtl_search.training.workspace import Workload, Workspace

CASES = [(kind, loss) for kind, behaviour in TASK_KINDS.items() for loss in behaviour.losses]
ROWS = 60


def task_of(kind: str, loss: str, **changes: Any) -> Task:
    return replace(Task("t", kind, "main", (), 0.0, 1.0, loss, Component("unused"), "y"), **changes)


def example(kind: str, rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Raw outputs, targets and mask of one task."""
    generator = torch.Generator().manual_seed(seed)
    many = kind in ("classification", "multilabel", "ordinal")
    raw = 2 * torch.randn((rows, 3) if many else (rows,), generator=generator)
    if kind in ("classification", "ordinal"):
        targets = torch.randint(3, (rows,), generator=generator)
    elif kind in ("regression", "count"):
        targets = torch.randint(5, (rows,), generator=generator).float()
    else:
        targets = torch.randint(2, raw.shape, generator=generator).float()
    return raw, targets, torch.rand(targets.shape, generator=generator) < 0.7


def mean_and_gradient(
    task: Task, raw: Tensor, targets: Tensor, mask: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The mean loss over labels, and its gradient with respect to the outputs."""
    outputs = raw.clone().requires_grad_()
    total = task.behaviour.loss_sum(task, outputs, targets, mask, weights)
    mean = total / (mask.sum() if weights is None else (weights * mask).sum())
    return mean.detach(), torch.autograd.grad(mean, outputs)[0]


@pytest.mark.parametrize(("kind", "loss"), CASES)
@given(row=st.integers(0, 7), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_a_weight_of_two_is_the_row_given_twice(kind: str, loss: str, row: int, seed: int) -> None:
    task, (raw, targets, mask) = task_of(kind, loss), example(kind, 8, seed)
    mask[0] = True
    weights = torch.ones(mask.shape)
    weights[row] = 2.0
    mean, gradient = mean_and_gradient(task, raw, targets, mask, weights)
    twice = torch.tensor([*range(8), row])
    wanted, of_copies = mean_and_gradient(task, raw[twice], targets[twice], mask[twice], None)
    torch.testing.assert_close(mean, wanted)
    torch.testing.assert_close(gradient, torch.zeros_like(raw).index_add(0, twice, of_copies))


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_no_weights_are_weights_of_one(kind: str, loss: str) -> None:
    task, (raw, targets, mask) = task_of(kind, loss), example(kind, 20)
    plain = mean_and_gradient(task, raw, targets, mask, None)
    ones = mean_and_gradient(task, raw, targets, mask, torch.ones(mask.shape))
    torch.testing.assert_close(plain, ones)


@pytest.mark.parametrize("kind", ["classification", "binary", "multilabel"])
def test_focal_loss_of_gamma_zero_is_cross_entropy(kind: str) -> None:
    raw, targets, mask = example(kind, 30)
    default = next(iter(TASK_KINDS[kind].losses))
    plain = mean_and_gradient(task_of(kind, default), raw, targets, mask, None)
    focal = mean_and_gradient(task_of(kind, "focal", loss_params={"gamma": 0.0}), raw, targets, mask, None)
    torch.testing.assert_close(plain, focal)


@pytest.mark.parametrize("kind", ["classification", "binary"])
@pytest.mark.parametrize("gamma", [0.3, 2.0, 5.0])
def test_focal_loss_is_finite_and_has_a_gradient_at_extreme_outputs(kind: str, gamma: float) -> None:
    raw = torch.tensor([[300.0, -300.0], [-300.0, 300.0], [0.0, 40.0]])
    raw = (raw if kind == "classification" else raw[:, 0]).requires_grad_()
    targets = torch.tensor([0, 0, 1] if kind == "classification" else [1.0, 1.0, 1.0])
    task = task_of(kind, "focal", loss_params={"gamma": gamma})
    total = task.behaviour.loss_sum(task, raw, targets, None)
    (gradient,) = torch.autograd.grad(total, raw)
    assert total.isfinite()
    assert gradient.isfinite().all()
    assert gradient[1].abs().max() == pytest.approx(1.0), "a row that is all wrong counts as with cross-entropy"
    assert gradient[0].abs().max() < 1e-6, "and one that is all right counts nothing"


def test_label_smoothing_is_that_of_torch() -> None:
    raw, targets, _ = example("classification", 12)
    task = task_of("classification", "cross_entropy", loss_params={"label_smoothing": 0.2})
    wanted = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum")(raw, targets)
    torch.testing.assert_close(task.behaviour.loss_sum(task, raw, targets, None), wanted)


def rows(**columns: Any) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS, 2))
    base = {
        "a": x[:, 0],
        "b": x[:, 1],
        "w": rng.integers(1, 5, ROWS).astype(float),
        "kind": np.array(["p", "q", "r"], dtype=object)[np.where(np.arange(ROWS) % 6, np.arange(ROWS) % 2, 2)],
        "yes": np.where(np.arange(ROWS) % 5 == 0, "yes", "no").astype(object),
        "y": x[:, 0] + rng.normal(size=ROWS),
        "u": (np.arange(ROWS) % 4 == 0).astype(float),
        "v": (np.arange(ROWS) % 3 > 0).astype(float),
    }
    base["kind"][7] = base["yes"][9] = None
    base["u"][4] = base["y"][2] = np.nan
    return {"train": {**base, **columns}}


held: dict[str, Any] = {}


def give() -> Any:
    return held["rows"]


def load(tasks: dict[str, Any], stream: Path | None = None, **columns: Any) -> StudyData:
    held["rows"] = rows(**columns)
    source: dict[str, Any] = {"python": {"function": f"{__name__}:give"}}
    if stream is not None:
        pd.DataFrame(held["rows"]["train"]).to_parquet(stream)
        source = {"table": {"path": str(stream)}}
    data = {"source": source, "stream": stream is not None}
    configs = {name: TaskConfig.model_validate(task) for name, task in tasks.items()}
    return load_data(DataConfig.model_validate(data), configs, 0)


EVERY: dict[str, Any] = {
    "kind": {"kind": "classification", "target": "kind", "class_weight": "balanced", "weight": "w"},
    "yes": {"kind": "binary", "target": "yes", "class_weight": {"yes": 4}, "loss": {"focal": {"gamma": 1.5}}},
    "y": {"kind": "regression", "target": "y", "weight": "w", "loss": "huber"},
    "uv": {"kind": "multilabel", "target": ["u", "v"], "class_weight": "balanced"},
}


def test_class_weights_are_those_of_scikit_learn() -> None:
    data = load(EVERY)
    tasks, part = {task.name: task for task in data.tasks}, data.splits["train"]["main"]
    codes, mask = part.targets["kind"], part.masks["kind"]
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=codes[mask])
    np.testing.assert_allclose(tasks["kind"].class_weights, wanted)
    assert tasks["yes"].class_weights == (1.0, 4.0)
    for column, label in enumerate("uv"):
        own = part.targets["uv"][:, column][part.masks["uv"][:, column]]
        wanted = compute_class_weight("balanced", classes=np.arange(2), y=own)
        np.testing.assert_allclose(np.reshape(tasks["uv"].class_weights, (2, 2))[:, column], wanted, err_msg=label)
    assert tasks["yes"].loss == "focal"
    assert tasks["yes"].loss_params == {"gamma": 1.5}
    assert all(Task.from_dict(task.to_dict()) == task for task in data.tasks)


def test_the_mean_loss_over_labels_is_torchs_with_class_weights() -> None:
    data = load(
        {name: {key: v for key, v in task.items() if key != "weight"} for name, task in EVERY.items()}, w=[1] * 60
    )
    split = DeviceSplit(data.splits["train"], data.preparation, data.tasks, "cpu")
    task = data.tasks[0]
    raw = torch.randn(split.sizes["main"], 3)
    mask, targets = split.masks["kind"], split.targets["kind"]
    total = task.behaviour.loss_sum(task, raw, targets, mask, split.weights["kind"])
    wanted = nn.CrossEntropyLoss(weight=torch.tensor(task.class_weights))(raw[mask], targets[mask])
    torch.testing.assert_close(total / split.counted("kind").sum(), wanted)


def test_a_label_of_a_multilabel_task_is_weighed_where_it_is_present() -> None:
    task = {"kind": "multilabel", "target": ["u", "v"], "class_weight": {"u": 5}}
    data = load({**EVERY, "uv": task})
    split = DeviceSplit(data.splits["train"], data.preparation, data.tasks, "cpu")
    fitted = data.tasks[3]
    raw, mask = torch.randn(split.sizes["main"], 2), split.masks["uv"]
    total = fitted.behaviour.loss_sum(fitted, raw, split.targets["uv"], mask, split.weights["uv"])
    each = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([5.0, 1.0]), reduction="none")(raw, split.targets["uv"])
    torch.testing.assert_close(total, each[mask].sum())


def test_weights_of_rows_travel_with_their_labels() -> None:
    data = load(EVERY)
    part = data.splits["train"]["main"]
    assert input_columns(data.preparation.spec) == ["a", "b"], "the column of weights is no input"
    assert set(part.weights) == {"kind", "yes", "uv"} | {"y"}
    assert all(not part.weights[task][~part.masks[task]].any() for task in part.weights)
    assert set(part.weights["y"][part.masks["y"]].tolist()) == {1.0, 2.0, 3.0, 4.0}
    split = DeviceSplit(data.splits["train"], data.preparation, data.tasks, "cpu")
    names = {task.name: task.dataset for task in data.tasks}
    plans = [
        BatchPlan(split.sizes, {name: split.counted(name) for name in names}, names, 16, seed=2, rank=rank, world=world)
        for world in (1, 2)
        for rank in range(world)
    ]
    contents = BatchContents.of(split, ["main"], data.tasks)
    raw = {"kind": 3, "yes": None, "y": None, "uv": 2}
    for whole, *parts in zip(*(plan.epoch(1) for plan in plans), strict=True):
        batch = Batch(whole, contents)
        assert all(part.counts == whole.counts for part in parts)
        outputs = {
            name: torch.randn((60, width) if width else (60,), generator=torch.Generator().manual_seed(0))
            for name, width in raw.items()
        }
        for task in data.tasks:
            weights = split.counted(task.name)[batch.rows[0]]
            assert batch.counts[task.name] == pytest.approx(float(weights.sum()))
            found = [
                loss_sum(task, {task.name: outputs[task.name][piece.rows[0]]}, piece)
                for piece in (batch, *(Batch(part, contents) for part in parts))
            ]
            torch.testing.assert_close(found[0], found[1] + found[2])


def test_a_streamed_study_has_the_same_weights(tmp_path: Path) -> None:
    tasks = {name: task for name, task in EVERY.items() if name != "uv"} | {
        "u": {"kind": "regression", "target": "u"},
        "v": {"kind": "regression", "target": "v", "weight": "w"},
    }
    streamed = load(tasks, tmp_path / "rows.parquet")
    held_here = load(tasks)
    for name in ("train", "validation", "test"):
        ours, theirs = (data.splits[name]["main"].weights for data in (streamed, held_here))
        assert ours.keys() == theirs.keys() == {"kind", "yes", "y", "v"}
        assert all(np.array_equal(ours[task], theirs[task]) for task in ours)


def test_the_loss_is_weighted_and_the_metric_is_not() -> None:
    tasks = {name: {**task, "metric": "accuracy"} if name == "yes" else task for name, task in EVERY.items()}
    weighted = load(tasks)
    plain = load({name: {k: v for k, v in task.items() if "weight" not in k} for name, task in tasks.items()})
    assert "w" in input_columns(plain.preparation.spec)
    assert weighted.key != plain.key
    workspace = Workspace(
        Workload.prepare(weighted, Component("mlp", {"width": 4, "depth": 1}), 0, "fp32"), DistributedContext()
    )
    model, split = workspace.model(["yes"], None), workspace.splits["validation"]
    task = weighted.tasks[1]
    found = evaluate(model, split, {"yes": metric_for(task)}, DistributedContext())["yes"]
    raw = model(split.inputs["main"][:])["yes"].detach()
    mask, targets = split.masks["yes"], split.targets["yes"]
    right = ((raw > 0) == (targets > 0))[mask].float().mean()
    assert found["metric"] == pytest.approx(float(right))
    weights = torch.where(targets > 0, 4.0, 1.0)[mask]
    each = task.behaviour.losses["focal"](gamma=1.5)(raw, targets, "none")[mask]
    assert found["loss"] == pytest.approx(float((weights * each).sum() / weights.sum()), rel=1e-5)


def changed(row: int, value: Any) -> list[Any]:
    values = rows()["train"]["w"].astype(object).tolist()
    values[row] = value
    return values


@pytest.mark.parametrize(
    ("task", "columns", "told"),
    [
        (
            {"weight": "w"},
            {"w": changed(3, -2.0)},
            "tasks.y.weight: must hold a number of at least 0 in every row with a label, in row 3 (from 0), got -2.0 "
            "(split train)",
        ),
        (
            {"weight": "w"},
            {"w": changed(5, None)},
            "tasks.y.weight: must hold a number of at least 0 in every row with a label, in row 5 (from 0), got nan "
            "(split train)",
        ),
        (
            {"weight": "w"},
            {"w": changed(5, "much")},
            "tasks.y.weight: must hold numbers, in row 5 (from 0), got 'much' (split train)",
        ),
        (
            {"weight": "w"},
            {"w": changed(5, 1e300)},
            "tasks.y.weight: must hold a number of at least 0 in every row with a label, in row 5 (from 0), "
            "got 1e+300 (split train)",
        ),
        (
            {"weight": "ww"},
            {},
            "tasks.y.weight: must name a column of single values of data set 'main' (split train), got 'ww' "
            "(choices: a, b, w, kind, yes, y, u, v)",
        ),
        (
            {"weight": "w"},
            {"w": [0.0] * ROWS},
            "tasks.y.weight: must be above 0 in a row of train that has a label, got 0",
        ),
        (
            {"kind": "classification", "target": "kind", "class_weight": {"p": 2, "x": 3}},
            {},
            "tasks.y.class_weight: must weigh labels of the training rows, got 'x' (choices: p, q, r)",
        ),
        (
            {"loss": {"huber": {"delta": 2}}},
            {},
            "tasks.y.loss.huber.delta: is not a parameter of huber",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_told(task: dict[str, Any], columns: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as caught:
        load({**EVERY, "y": {"kind": "regression", "target": "y", **task}}, **columns)
    assert told in [str(problem) for problem in caught.value.problems]


def test_a_row_without_a_label_needs_no_weight() -> None:
    tasks = {**EVERY, "kind": {"kind": "classification", "target": "kind"}}
    data = load(tasks, w=changed(2, None))  # where y has no label
    assert all(np.isfinite(split["main"].weights["y"]).all() for split in data.splits.values())


def test_what_is_at_its_default_is_not_stored() -> None:
    spelled = load({**EVERY, "yes": {"kind": "binary", "target": "yes", "loss": {"focal": {"gamma": 2.0}}}})
    named = load({**EVERY, "yes": {"kind": "binary", "target": "yes", "loss": "focal"}})
    assert spelled.key == named.key
    assert not {"loss_params", "class_weights"} & spelled.tasks[1].to_dict().keys()
    assert TaskConfig.model_validate({"kind": "binary", "target": "y", "loss": "bce"}).model_dump()["loss"] == "bce"
