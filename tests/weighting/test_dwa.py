"""Dynamic weight average: weights from the means of two epochs."""

import torch
from torch import Tensor

from mtl_search.weighting.dwa import Dwa


def started(temperature: float = 2.0) -> Dwa:
    weighting = Dwa(temperature)
    weighting.start(["a", "b"], "cpu")
    return weighting


def epoch(weighting: Dwa, *batches: list[float], present: Tensor | None = None) -> Tensor:
    for losses in batches:
        weights = weighting(torch.tensor(losses), present)
    weighting.end_epoch()
    return weights


def test_weights_are_the_softmax_of_the_last_two_epochs_ratios() -> None:
    weighting = started(temperature=1.5)
    assert epoch(weighting, [4.0, 1.0], [2.0, 1.0]).tolist() == [1, 1]
    assert epoch(weighting, [1.0, 0.5], [2.0, 0.5], [1.5, 0.5]).tolist() == [1, 1]
    ratios = torch.tensor([1.5 / 3.0, 0.5 / 1.0])
    torch.testing.assert_close(epoch(weighting, [0.3, 0.5]), 2 * (ratios / 1.5).softmax(0))
    ratios = torch.tensor([0.3 / 1.5, 0.5 / 0.5])
    torch.testing.assert_close(epoch(weighting, [1.0, 1.0]), 2 * (ratios / 1.5).softmax(0))


def test_batches_without_a_task_do_not_count_for_its_mean() -> None:
    absent = torch.tensor([True, False])
    plain, gaps = started(), started()
    for first, second in ((4.0, 2.0), (1.0, 1.5)):
        epoch(plain, [first, second])
        for losses, present in (([first, second], None), ([first, 0.0], absent)):
            gaps(torch.tensor(losses), present)
        gaps.end_epoch()
    assert torch.equal(plain(torch.ones(2)), gaps(torch.ones(2)))


def test_epoch_without_a_task_leaves_its_ratio_as_it_was() -> None:
    weighting = started()
    epoch(weighting, [4.0, 2.0])
    epoch(weighting, [4.0, 1.0])
    before = weighting(torch.tensor([0.0, 0.0]))
    weighting = started()
    epoch(weighting, [4.0, 2.0])
    epoch(weighting, [4.0, 1.0])
    weighting(torch.tensor([4.0, 0.0]), torch.tensor([True, False]))
    weighting.end_epoch()
    torch.testing.assert_close(weighting(torch.tensor([1.0, 1.0])), before)


def test_high_temperature_makes_the_weights_even() -> None:
    weighting = started(temperature=1e6)
    epoch(weighting, [1.0, 1.0])
    epoch(weighting, [0.1, 5.0])
    torch.testing.assert_close(weighting(torch.ones(2)), torch.ones(2), rtol=1e-4, atol=1e-4)
