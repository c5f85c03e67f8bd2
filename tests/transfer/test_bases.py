"""Bases: random parameters from a seed, and checkpoints read without running them."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mtl_search.errors import ConfigError
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.transfer.bases import BASES
from mtl_search.transfer.bases.checkpoint import CheckpointBase
from mtl_search.transfer.bases.python_base import PythonBase
from mtl_search.transfer.bases.random import RandomBase


def make_blocks() -> list[nn.Module]:
    return Mlp(width=4, depth=2).blocks((3,))


def state(seed: int = 0) -> dict[str, Tensor]:
    return RandomBase().state(make_blocks, seed)


def assert_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_random_base_depends_on_its_seed_alone_and_leaves_the_global_state() -> None:
    before = torch.random.get_rng_state()
    first = state(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert_identical(first, state(1))
    assert not torch.equal(first["0.linear.weight"], state(2)["0.linear.weight"])
    assert sorted(name.split(".")[0] for name in first if name.endswith("linear.weight")) == ["0", "1"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_checkpoint_gives_back_what_was_saved(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"base{suffix}"
    if suffix == ".pt":
        torch.save(nn.ModuleList(make_blocks()).state_dict(), path)
        wanted = torch.load(path, weights_only=True)
    else:
        wanted = state(5)
        save_file(wanted, path)
    assert_identical(CheckpointBase(str(path)).state(make_blocks, seed=0), dict(wanted))


def test_checkpoint_in_half_precision_takes_the_backbones_type(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    save_file({name: value.bfloat16() for name, value in state().items()}, path)
    assert {value.dtype for value in CheckpointBase(str(path)).state(make_blocks, 0).values()} == {torch.float32}


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_checkpoint_is_refused_without_running_it(tmp_path: Path, legacy: bool) -> None:
    path, trap = tmp_path / "base.pt", tmp_path / "sprung"
    content = {**state(), "extra": _Trap(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ConfigError, match=r"base\.checkpoint\.path: must hold tensors by name.*refused without running"
    ):
        CheckpointBase(str(path)).state(make_blocks, 0)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap works, so what kept it shut was the reading"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 broken zip", b"\x80\x02}q\x00."])
def test_damaged_checkpoint_is_refused_with_its_path(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"base{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"base\.checkpoint\.path: .*base"):
        CheckpointBase(str(path)).state(make_blocks, 0)


def test_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pt"):
        path = tmp_path / f"base{suffix}"
        save_file(state(), path) if suffix == ".safetensors" else torch.save(state(), path)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ConfigError, match="readable checkpoint"):
            CheckpointBase(str(path)).state(make_blocks, 0)


def test_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.pt"
    for content in (torch.zeros(3), {"epoch": 3}, [1, 2]):
        torch.save(content, path)
        with pytest.raises(ConfigError, match="must hold tensors by name"):
            CheckpointBase(str(path)).state(make_blocks, 0)


def test_every_misfit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    good = state()
    wrong = {
        **{name: value for name, value in good.items() if name != "0.linear.bias"},
        "2.linear.weight": torch.zeros(1),
        "0.linear.weight": torch.zeros(4, 9),
        "1.linear.bias": torch.full((4,), torch.nan),
        "1.norm.bias": torch.zeros(4, dtype=torch.int64),
    }
    save_file(wrong, path)
    with pytest.raises(ConfigError) as caught:
        CheckpointBase(str(path)).state(make_blocks, 0)
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    assert "lacks '0.linear.bias'" in text
    assert "has '2.linear.weight', which the backbone lacks" in text
    assert "'0.linear.weight' must have shape (4, 3), got (4, 9)" in text
    assert "'1.linear.bias' must have no NaN" in text
    assert "'1.norm.bias' must be torch.float32" in text


def test_missing_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"base\.checkpoint\.path: must be a file"):
        CheckpointBase(str(tmp_path / "absent.pt"))


# names in the file that are not the backbone's


def renamed(path: Path) -> Path:
    """A library's checkpoint: other names, and a head that is of no use."""
    named = {f"encoder.layer_{name}": value for name, value in state(5).items()}
    save_file({**named, "classifier.weight": torch.zeros(3)}, path / "library.safetensors")
    return path / "library.safetensors"


def test_checkpoint_of_a_library_is_read_through_a_key_map(tmp_path: Path) -> None:
    base = CheckpointBase(str(renamed(tmp_path)), {"encoder.layer_": ""}, ["classifier."])
    assert_identical(base.state(make_blocks, seed=0), state(5))


@pytest.mark.parametrize(
    ("keys", "ignore", "rule"),
    [
        ({"encoder.layer_": ""}, [], "has 'classifier.weight', which the backbone lacks"),
        (
            {"encoder.layer_": "", "decoder.": "2."},
            ["classifier."],
            "no name in the file begins with it, got 'decoder.'",
        ),
        ({"encoder.layer_": ""}, ["classifier.", "pooler."], "no name in the file begins with it, got 'pooler.'"),
        ({"encoder.layer_1.": "0.", "encoder.layer_": ""}, ["classifier."], "must not give two tensors the name"),
    ],
)
def test_every_name_in_a_checkpoint_is_used_or_listed(
    tmp_path: Path, keys: dict[str, str], ignore: list[str], rule: str
) -> None:
    with pytest.raises(ConfigError, match=rule):
        CheckpointBase(str(renamed(tmp_path)), keys, ignore).state(make_blocks, seed=0)


def library_blocks(scale: float) -> list[nn.Module]:
    blocks = make_blocks()
    for parameter in nn.ModuleList(blocks).parameters():
        nn.init.constant_(parameter, scale)
    return blocks


def library_tensors(scale: float) -> dict[str, Tensor]:
    return nn.ModuleList(library_blocks(scale)).state_dict()


@pytest.mark.parametrize("function", ["library_blocks", "library_tensors"])
def test_python_base_takes_a_librarys_modules_or_tensors(function: str) -> None:
    found = PythonBase(f"test_bases:{function}", {"scale": 0.5}).state(make_blocks, 0)
    assert found.keys() == state().keys()
    assert all((found[name] == 0.5).all() for name in found if "weight" in name or "bias" in name)


def test_python_base_that_gives_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="tensors by name, or a list of torch modules, got 'int'"):
        PythonBase("test_bases:three").state(make_blocks, 0)
    with pytest.raises(ConfigError, match="must have shape"):
        PythonBase("test_bases:wide").state(make_blocks, 0)


def three() -> int:
    return 3


def wide() -> list[nn.Module]:
    return Mlp(width=5, depth=2).blocks((3,))


def test_study_base_asks_for_the_earlier_model_by_name() -> None:
    base = BASES["study"](name="earlier")
    assert_identical(base.state(make_blocks, 0, {"earlier": state(5)}.__getitem__), state(5))
    with pytest.raises(ConfigError, match="must not need an earlier model here, got 'earlier'"):
        base.state(make_blocks, 0)
