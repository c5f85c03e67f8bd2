"""A trained model grows by tasks, whatever its sharing: old outputs stay the same to the last bit, new parts learn."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from grown_models import MLP, NEW, NORMED, OLD, SHARINGS, extend, iris, rows, trained

from mtl_search.data.sparse import SparseRows
from mtl_search.data.study_data import Split
from mtl_search.data.trained_schema import TrainedSchema
from mtl_search.errors import ConfigError, DataError
from mtl_search.extension import EXTENSIONS
from mtl_search.extension.base import ExtensionData
from mtl_search.extension.comparison import compare_tasks, moved_outputs
from mtl_search.extension.frozen import Frozen
from mtl_search.extension.lwf import Lwf
from mtl_search.extension.soft_targets import HOME, concatenate_data, soft_target_data
from mtl_search.models.branching import extend_state
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.control import NoControl


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost such small networks more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_frozen_extension_of_any_sharing_leaves_every_old_bit(sharing: str, tmp_path: Path) -> None:
    _, model, old, data = extend(Frozen(like="petal"), tmp_path, sharing, epochs=10)
    with torch.inference_mode():
        before, after = old(rows(data)), model(rows(data))
    assert all(torch.equal(before[task], after[task]) for task in before)
    assert set(moved_outputs(old, model, data, torch.device("cpu")).values()) == {0.0}
    figures = compare_tasks({"before": old, "after": model}, data, torch.device("cpu"))
    assert figures["petal"]["test"]["before"] == figures["petal"]["test"]["after"]
    assert figures["length"]["validation"]["after"] < figures["length"]["validation"]["trivial"]


@pytest.mark.parametrize("backbone", [MLP, NORMED], ids=["mlp", "batch norm"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_own_copies_start_from_the_stated_task_and_train_alone(depth: int, backbone: Component, tmp_path: Path) -> None:
    method = Frozen(like="petal", depth=depth)
    _, model, old, data = extend(method, tmp_path, "hard", backbone)
    with torch.inference_mode():
        before, after = old(rows(data)), model(rows(data))
    assert all(torch.equal(before[task], after[task]) for task in before)
    state = model.state_dict()
    for name, value in old.state_dict().items():
        assert torch.equal(state[name], value)
    own = [name for name in state if name not in old.state_dict() and name.startswith("blocks.")]
    assert {int(name.split(".")[1]) for name in own} == set(range(depth, 3))
    again = extend(method, tmp_path / "again", "hard", backbone, epochs=1)[1].state_dict()
    assert own == [name for name in again if name in own]
    assert all(not torch.equal(state[name], again[name]) for name in own if name.endswith("weight"))


def test_extension_is_the_same_every_time(tmp_path: Path) -> None:
    for method in (Frozen(like="kind", depth=1), Lwf(like="kind", warm_up=2)):
        torch.manual_seed(5)
        first = extend(method, tmp_path / f"{type(method).__name__}1")[1].state_dict()
        torch.manual_seed(6)
        second = extend(method, tmp_path / f"{type(method).__name__}2")[1].state_dict()
        assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("sharing", SHARINGS)
def test_old_outputs_as_targets_hold_the_old_tasks(sharing: str, tmp_path: Path) -> None:
    drift = {}
    for strength in (0.0, 1.0):
        _, model, old, data = extend(Lwf(strength=strength, warm_up=2, like="petal"), tmp_path / str(strength), sharing)
        drift[strength] = sum(moved_outputs(old, model, data, torch.device("cpu")).values())
    assert drift[1.0] < drift[0.0]


def test_a_model_grows_again_and_is_built_from_plain_data(tmp_path: Path) -> None:
    grown, model, _, data = extend(Frozen(like="kind", depth=1), tmp_path)
    later = replace(data.tasks[2], name="later", dataset="third")
    task_branches = Frozen(like="length", depth=2).task_branches(model, ("later",), "x")
    twice = grown.grown([later], task_branches)
    third = twice.model().eval()
    third.load_state_dict(extend_state(third, model.state_dict(), task_branches))
    assert str(third.plan) == "kind+petal+length+later > kind+petal | length+later > kind | petal | length | later"
    with torch.inference_mode():
        before, after = model(rows(data)), third(rows(data))
    assert all(torch.equal(before[task], after[task]) for task in before)


def test_targets_are_what_the_paper_says(tmp_path: Path) -> None:
    grown, _model, old, data = extend(Lwf(warm_up=1, like="petal"), tmp_path, epochs=1)
    extension_data = ExtensionData(
        data, tuple(NEW), Schedule(), 0, DistributedContext(), tmp_path, lambda stage: NoControl()
    )
    tasks, splits = soft_target_data(grown.tasks, old, extension_data, temperature=2.0)
    assert [task.dataset for task in tasks] == [HOME] * 3
    with torch.no_grad():
        raw = old(splits["train"].inputs[HOME][:])
    # Li & Hoiem: y^(1/T) / sum y^(1/T), which is the softmax of the logits over T.
    powers = raw["kind"].softmax(1).sqrt()
    torch.testing.assert_close(splits["train"].targets["kind"], powers / powers.sum(1, keepdim=True))
    torch.testing.assert_close(splits["train"].targets["petal"], raw["petal"])
    said = old(splits["validation"].inputs[HOME][:])["kind"].argmax(1)
    assert torch.equal(splits["validation"].targets["kind"], said)
    logits = (raw["kind"] / 2).requires_grad_()
    kind = next(task for task in tasks if task.name == "kind")
    kind.behaviour.loss_sum(kind, logits, splits["train"].targets["kind"], None).backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-6, rtol=0)


def test_rows_of_all_new_tasks_are_joined_and_labels_stay_with_their_rows() -> None:
    def part(first: float, count: int) -> Split:
        text = SparseRows(np.arange(count + 1), np.arange(count, dtype=np.int32), np.full(count, first, np.float32), 9)
        values = np.arange(count, dtype=np.float32) + first
        return Split((values[:, None],), {}, {}, text)

    data = iris(OLD | NEW)
    own, other = part(1.0, 2), part(10.0, 3)
    own.targets["kind"], own.masks["kind"] = np.array([1, 2]), np.array([True, False])
    other.targets["length"], other.masks["length"] = np.ones(3, np.float32), np.ones(3, bool)
    kind, _, length = data.tasks
    data = replace(
        data, tasks=(kind, replace(length, dataset="other")), splits={"train": {"main": own, "other": other}}
    )
    joined = concatenate_data(
        ExtensionData(data, ("kind", "length"), Schedule(), 0, DistributedContext(), Path(), lambda _: NoControl()),
        "train",
    )
    assert joined.encoded[0][:, 0].tolist() == [1, 2, 10, 11, 12]
    assert joined.targets["kind"].tolist() == [1, 2, 0, 0, 0]
    assert joined.masks["kind"].tolist() == [True, False, False, False, False]
    assert joined.masks["length"].tolist() == [False, False, True, True, True]
    assert joined.text is not None
    assert joined.text.starts.tolist() == [0, 1, 2, 3, 4, 5]
    assert joined.text.columns.tolist() == [0, 1, 0, 1, 2]
    assert joined.text.values.tolist() == [1, 1, 10, 10, 10]


def test_labels_that_the_models_task_lacks_are_told() -> None:
    data = iris(OLD)
    known = TrainedSchema(data.preparation, {task.name: task for task in data.tasks})
    wrong = {"kind": {"kind": "classification", "target": "petal width (cm)"}}
    with pytest.raises(
        DataError, match=r"tasks\.kind\.target: must not hold labels in test that the model's task does"
    ):
        iris(wrong | NEW, known)


def test_nothing_of_the_model_is_fitted_anew() -> None:
    data = iris(OLD)
    known = TrainedSchema(data.preparation, {task.name: task for task in data.tasks})
    later = iris({"petal": {"kind": "regression", "target": "petal length (cm)"}} | NEW, known)
    petal, length = later.tasks
    assert later.preparation is data.preparation
    assert (petal.center, petal.scale) == (data.tasks[1].center, data.tasks[1].scale)
    part = later.splits["train"]["main"]
    back = part.targets["petal"] * petal.scale + petal.center
    np.testing.assert_allclose(back, part.targets["length"] * length.scale + length.center, rtol=1e-5)


@pytest.mark.parametrize(
    ("sharing", "params", "told"),
    [
        ("hard", {"depth": 4}, r"m\.depth: must be at most the model's 3 blocks, got 4"),
        ("cross_stitch", {"like": "kind", "depth": 1}, r"m\.depth: must be left out: the sharing of this model"),
        ("hard", {}, r"m\.like: must name the old task whose way .* \(choices: kind, petal\)"),
        ("hard", {"like": "kin"}, r"m\.like: must name a task of the model, got 'kin' \(choices: kind, petal\)"),
        ("hard", {"like": {"lenght": "kind"}}, r"m\.like\.lenght: must be a new task, got 'lenght' \(choices: length"),
    ],
)
@pytest.mark.parametrize("name", EXTENSIONS)
def test_what_the_model_cannot_give_is_told(name: str, sharing: str, params: dict[str, object], told: str) -> None:
    _, _, old = trained(sharing)
    with pytest.raises(ConfigError, match=told):
        EXTENSIONS[name](**params).task_branches(old, tuple(NEW), "m")
