"""Batch norm's running statistics, estimated again."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from mtl_search.transfer.norms import has_batch_norm, recalibrate

Batch = tuple[Tensor, tuple[int, ...] | None]


class Net(nn.Module):
    """Takes rows and sizes, as the multi-task model does."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, sizes: tuple[int, ...] | None = None) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def batches(x: Tensor, sizes: list[int]) -> Iterator[Batch]:
    return ((part, None) for part in torch.split(x, sizes))


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_statistics_are_those_of_the_full_data_whatever_the_batches(shape: tuple[int, ...]) -> None:
    norm = nn.BatchNorm1d(3) if len(shape) == 1 else nn.BatchNorm2d(3)
    x = torch.randn(20, *shape) * torch.tensor([1.0, 5.0, 0.1]).view(3, *[1] * (len(shape) - 1)) + 1000
    recalibrate(Net(norm), batches(x, [9, 2, 0, 9]))
    flat = x.double().transpose(0, 1).flatten(1)
    found = norm.state_dict()
    torch.testing.assert_close(found["running_mean"].double(), flat.mean(1))
    # Float32 steps at a mean of 1000 are a two-thousandth of the smallest standard deviation.
    torch.testing.assert_close(found["running_var"].double(), flat.var(1), rtol=2e-3, atol=1e-6)
    assert norm.num_batches_tracked == 4


def test_deep_model_on_one_batch_evaluates_as_it_trains() -> None:
    net = Net(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4), nn.BatchNorm1d(4, momentum=None))
    x = torch.randn(5000, 3)
    recalibrate(net, [(x, None)])
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    trained = net.train()(x).detach()
    net.load_state_dict(statistics, strict=False)
    torch.testing.assert_close(net.eval()(x), trained, rtol=1e-2, atol=1e-3)


def test_old_statistics_leave_no_trace() -> None:
    first, second = Net(nn.BatchNorm1d(3)), Net(nn.BatchNorm1d(3))
    first.get_buffer("layers.0.running_mean").fill_(1e6)
    x = torch.randn(8, 3)
    for net in (first, second):
        recalibrate(net, [(x, None)])
    assert torch.equal(*(net.get_buffer("layers.0.running_mean") for net in (first, second)))


def test_dropout_is_off_and_modes_and_hooks_come_back() -> None:
    net = Net(nn.Dropout(0.9), nn.BatchNorm1d(3))
    net.layers[1].eval()
    x = torch.randn(50, 3)
    recalibrate(net, [(x, None)])
    torch.testing.assert_close(net.get_buffer("layers.1.running_mean"), x.mean(0))
    assert [module.training for module in net.modules()] == [True, True, True, False]
    assert not net.layers[1]._forward_pre_hooks


def test_norms_that_are_not_asked_for_or_not_reached_keep_their_statistics() -> None:
    net = Net(nn.BatchNorm1d(3, momentum=0.01), nn.BatchNorm1d(3, momentum=None))
    idle = nn.BatchNorm1d(3)
    net.add_module("idle", idle)
    idle.get_buffer("running_mean").fill_(7)
    first, second = net.layers[0], net.layers[1]
    assert isinstance(second, nn.BatchNorm1d)
    first.get_buffer("running_mean").fill_(5)
    x = torch.randn(50, 3) + 2
    recalibrate(net, [(x, None)], [second, idle])
    assert first.get_buffer("running_mean").tolist() == [5.0] * 3
    assert idle.get_buffer("running_mean").tolist() == [7.0] * 3
    assert (idle.momentum, second.momentum, int(second.get_buffer("num_batches_tracked"))) == (0.1, None, 1)
    torch.testing.assert_close(second.get_buffer("running_mean"), ((x - 5) / (1 + 1e-5) ** 0.5).mean(0))


def test_model_without_batch_norm_asks_for_no_batch() -> None:
    waiting = batches(torch.randn(4, 3), [4])
    recalibrate(Net(nn.Linear(3, 3), nn.LayerNorm(3), nn.BatchNorm1d(3, track_running_stats=False)), waiting)
    assert len(list(waiting)) == 1


def test_batch_norm_is_found_inside_blocks() -> None:
    assert has_batch_norm([nn.Linear(3, 3), nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)))])
    assert not has_batch_norm([nn.LayerNorm(3), nn.BatchNorm1d(3, track_running_stats=False)])
    assert not has_batch_norm([])
