"""What every backbone promises, over the family's dict."""

import pickle

import pytest
import torch
from torch import nn

from mtl_search.models.backbones import BACKBONES
from mtl_search.models.backbones.base import Backbone, output_shapes
from mtl_search.recipe import Component
from mtl_search.variants.building import build

SHAPES = [(5,), (1, 8, 8), (3, 7, 10), (2, 1, 1)]


def linear_blocks(input_shape: tuple[int, ...], width: int = 6) -> list[nn.Module]:
    size = torch.Size(input_shape).numel()
    return [nn.Sequential(nn.Flatten(), nn.Linear(size, width)), nn.Sequential(nn.Tanh(), nn.Linear(width, 4))]


EXAMPLES: dict[str, dict[str, object]] = {"python": {"function": f"{__name__}:linear_blocks", "params": {"width": 7}}}
CASES = [(name, shape) for name in BACKBONES for shape in SHAPES if (name, len(shape)) != ("resnet", 1)]


def backbone(name: str) -> Backbone:
    return build(BACKBONES, Component(name, EXAMPLES.get(name, {})))


def run(blocks: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    for block in blocks:
        x = block(x)
    return x


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_last_block_gives_rows_by_features(name: str, shape: tuple[int, ...]) -> None:
    blocks = backbone(name).blocks(shape)
    assert run(blocks, torch.randn(3, *shape)).shape == (3, *output_shapes(blocks, shape)[-1])


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_single_row_and_no_rows_pass_forward_and_backward(name: str, shape: tuple[int, ...]) -> None:
    blocks = nn.ModuleList(backbone(name).blocks(shape))
    for rows in (0, 1):
        blocks.zero_grad()
        out = run(list(blocks), torch.randn(rows, *shape))
        assert out.shape[0] == rows
        torch.autograd.backward(out.sum())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in blocks.parameters())


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_rows_do_not_influence_each_other(name: str, shape: tuple[int, ...]) -> None:
    blocks = backbone(name).blocks(shape)
    x = torch.randn(4, *shape)
    torch.testing.assert_close(run(blocks, x)[1:2], run(blocks, x[1:2]))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_blocks_are_fresh_each_time_and_come_from_the_global_seed(name: str, shape: tuple[int, ...]) -> None:
    made = backbone(name)
    torch.manual_seed(3)
    first = nn.ModuleList(made.blocks(shape))
    torch.manual_seed(3)
    second = nn.ModuleList(made.blocks(shape))
    third = nn.ModuleList(made.blocks(shape))
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(second.parameters(), third.parameters(), strict=True))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_feature_count_leaves_modes_and_statistics_alone(name: str, shape: tuple[int, ...]) -> None:
    blocks = nn.ModuleList([*backbone(name).blocks(shape), nn.LazyBatchNorm1d()])
    blocks[-1](torch.randn(3, output_shapes(list(blocks[:-1]), shape)[-1][0]))
    before = {key: value.clone() for key, value in blocks.state_dict().items()}
    output_shapes(list(blocks), shape)
    assert all(module.training for module in blocks.modules())
    assert all(torch.equal(before[key], value) for key, value in blocks.state_dict().items())


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_travels_between_processes(name: str) -> None:
    made = pickle.loads(pickle.dumps(backbone(name)))  # noqa: S301
    assert made.blocks((1, 8, 8))
