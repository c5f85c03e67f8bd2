"""ResNet: residual convolutions with group norm, for images of any size and number of channels."""

from typing import Annotated

from annotated_types import Interval
from torch import Tensor, nn

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.backbones.base import Backbone
from mtl_search.recipe import Count, ProperFraction

_SMALLEST_GROUP = 4


class ResNet(Backbone):
    """Residual network: a stem, then residual blocks; (n, C, H, W) -> (n, width * 2**(stages - 1)).

    Group norm stands in for batch norm: rows never influence each other, so single-task models fuse without statistics
    to estimate again, and a worker's share of a batch may be of any size. Each stage after the first doubles the
    channels and halves the image (never below one pixel). The last block averages over the image.

    Paper: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385

    Args:
        width: Channels of the stem and the first stage.
        stages: Number of resolutions.
        blocks_per_stage: Residual blocks at each resolution; each is one block of the sharing plan.
        dropout: Share of activations dropped inside each residual block while training.
    """

    def __init__(
        self,
        width: Annotated[int, Interval(ge=_SMALLEST_GROUP, le=2**24)] = 16,
        stages: Annotated[int, Interval(ge=1, le=16)] = 3,
        blocks_per_stage: Count = 1,
        dropout: ProperFraction = 0.0,
    ) -> None:
        self.width = width
        self.stages = stages
        self.blocks_per_stage = blocks_per_stage
        self.dropout = dropout

    def _blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        if len(input_shape) != 3:
            raise ConfigError([Problem("backbone.resnet", "needs images (channels, height, width)", input_shape)])
        stem = nn.Conv2d(input_shape[0], self.width, 3, padding=1, bias=False)
        built: list[nn.Module] = [nn.Sequential(stem, _norm(self.width), nn.ReLU())]
        channels = self.width
        for stage in range(self.stages):
            for index in range(self.blocks_per_stage):
                grow = stage > 0 and index == 0
                last = stage == self.stages - 1 and index == self.blocks_per_stage - 1
                built.append(_Residual(channels, channels * (2 if grow else 1), self.dropout, pool=last))
                channels *= 2 if grow else 1
        return built


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; halves the image where it doubles the channels."""

    def __init__(self, inputs: int, outputs: int, dropout: float, pool: bool) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = _norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = _norm(outputs)
        self.activation = nn.ReLU()
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout else nn.Identity()
        self.shortcut: nn.Module = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs))
        )
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.activation(self.norm1(self.conv1(x))))
        y = self.activation(self.norm2(self.conv2(y)) + self.shortcut(x))
        return y.mean((2, 3)) if self.pool else y


def _norm(channels: int) -> nn.GroupNorm:
    # At least four channels a group: with one, a 1x1 image would be normalised to zero.
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0 and channels // g >= _SMALLEST_GROUP)
    return nn.GroupNorm(groups, channels)
