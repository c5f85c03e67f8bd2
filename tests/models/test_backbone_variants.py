"""Single backbones: the ResNet's geometry, the user's function, and messages for networks that do not fit."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mtl_search.errors import ConfigError
from mtl_search.models.backbones.base import Backbone, output_shapes
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.backbones.python_backbone import PythonBackbone
from mtl_search.models.backbones.resnet import ResNet

KEPT: list[nn.Module] = [nn.Linear(3, 3)]


def kept_blocks(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return KEPT


def twice(input_shape: tuple[int, ...]) -> list[nn.Module]:
    layer = nn.Linear(3, 3)
    return [layer, nn.Sequential(nn.ReLU(), layer)]


def crashing(input_shape: tuple[int, ...], size: int) -> list[nn.Module]:
    raise KeyError("size of the moon")


def a_number(input_shape: tuple[int, ...]) -> int:
    return 3


def with_a_number(input_shape: tuple[int, ...]) -> list[object]:
    return [nn.Identity(), 3]


def nothing(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return []


def image_out(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Identity(), nn.Unflatten(1, (1, 3))]


class _Pair(nn.Module):
    def forward(self, x: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> object:
        return x[0] if isinstance(x, tuple) else (x, x)


def paired(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [_Pair(), _Pair()]


def turned(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Flatten(0), nn.Unflatten(0, (-1, 3))]


def mismatch(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Linear(3, 3), nn.Linear(4, 3)]


def user(function: Callable[..., object]) -> PythonBackbone:
    return PythonBackbone(f"{__name__}:{function.__name__}")


def sizes_along(backbone: Backbone, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    x, sizes = torch.randn(2, *shape), []
    for block in backbone.blocks(shape):
        x = block(x)
        sizes.append(tuple(x.shape[1:]))
    return sizes


def test_mlp_has_one_block_per_layer_and_flattens_images() -> None:
    assert sizes_along(Mlp(width=6, depth=2), (2, 3, 3)) == [(6,), (6,)]
    plain = nn.ModuleList(Mlp(width=6, depth=2, norm=False).blocks((4,)))
    assert sum(p.numel() for p in plain.parameters()) == 4 * 6 + 6 + 6 * 6 + 6


def test_resnet_doubles_channels_and_halves_the_image_down_to_one_pixel() -> None:
    backbone = ResNet(width=4, stages=4, blocks_per_stage=2)
    wanted = [(4, 5, 3)] * 3 + [(8, 3, 2)] * 2 + [(16, 2, 1)] * 2 + [(32, 1, 1), (32,)]
    assert sizes_along(backbone, (3, 5, 3)) == wanted


def test_dropout_is_off_outside_training() -> None:
    for backbone, shape in ((Mlp(dropout=0.5), (5,)), (ResNet(dropout=0.5), (1, 4, 4))):
        blocks = nn.Sequential(*backbone.blocks(shape))
        x = torch.randn(3, *shape)
        assert not torch.equal(blocks(x), blocks(x))
        blocks.eval()
        assert torch.equal(blocks(x), blocks(x))


def test_resnet_refuses_vectors() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.resnet: needs images \(channels, height, width\), got \(5,\)"):
        ResNet().blocks((5,))


def test_modules_a_function_keeps_are_copied() -> None:
    (block,) = user(kept_blocks).blocks((3,))
    assert block is not KEPT[0]
    assert not {id(p) for p in block.parameters()} & {id(p) for p in KEPT[0].parameters()}


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        (twice, "block 2 must not share"),
        (crashing, "crashing.*|missing 1 required"),
        (a_number, "must return a list of torch modules, got 3"),
        (with_a_number, "block 2 must be a torch module, got 3"),
        (nothing, "at least one block"),
    ],
)
def test_function_that_gives_no_separate_blocks_is_refused(function: Callable[..., object], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        user(function).blocks((3,))


def test_error_inside_a_users_function_reaches_the_user() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.python\.function.*size of the moon"):
        PythonBackbone(f"{__name__}:crashing", {"size": 1}).blocks((3,))


def test_function_that_cannot_be_found_is_refused_at_once() -> None:
    for name in ("no.such.module:f", f"{__name__}:absent", "no_colon", f"{__name__}:KEPT"):
        with pytest.raises(ConfigError, match=r"backbone\.python\.function"):
            PythonBackbone(name)


def test_block_that_cannot_take_its_input_is_named() -> None:
    with pytest.raises(ConfigError, match="block 2 must take"):
        output_shapes(user(mismatch).blocks((3,)), (3,))
    with pytest.raises(ConfigError, match=r"\(rows, features\) for 2 rows, got \(2, 1, 3\)"):
        output_shapes(user(image_out).blocks((3,)), (3,))


def test_blocks_hand_on_one_tensor_with_a_row_per_sample() -> None:
    assert output_shapes(ResNet(width=4, stages=2).blocks((1, 6, 6)), (1, 6, 6)) == [(4, 6, 6), (4, 6, 6), (8,)]
    for function in (turned, paired):
        with pytest.raises(ConfigError, match="block 1 must give one tensor with a row"):
            output_shapes(user(function).blocks((3,)), (3,))
