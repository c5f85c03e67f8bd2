"""Learned and learned_gate: the merged model as a function of coefficients, and what training makes of these."""

from collections.abc import Iterator, Mapping
from math import log

import pytest
import torch
from test_apply import BASE, DEEP, SEPARATE, SHAPE, TREE, model, single, states
from test_apply import TASKS as REGRESSIONS
from torch import Tensor

from mtl_search.data.inputs import Inputs
from mtl_search.errors import ConfigError
from mtl_search.fusion import FUSIONS
from mtl_search.fusion.apply import fuse
from mtl_search.fusion.learned_gate import LearnedGate
from mtl_search.fusion.learning import FoldedFusion, FusionBatch, LearningFusion
from mtl_search.fusion.mean import Mean
from mtl_search.fusion.merged import MergedModel
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.task_kinds import TASK_KINDS

LEARNING = [kind for kind in FUSIONS.values() if issubclass(kind, LearningFusion)]


@pytest.fixture
def singles() -> dict[str, dict[str, Tensor]]:
    torch.manual_seed(1)
    return states({task.name: single(task, 0.3) for task in REGRESSIONS})


def merged(singles: dict[str, dict[str, Tensor]], plan: SharingPlan) -> MergedModel:
    made = model(plan)
    made.load_state_dict(fuse(singles, BASE, made, Mean()))
    return MergedModel(made.eval(), singles, BASE)


def epoch(number: int) -> Iterator[FusionBatch]:
    """Every task is to answer 0."""
    generator = torch.Generator().manual_seed(number)
    for _ in range(5):
        x = torch.randn(16, *SHAPE, generator=generator)
        yield FusionBatch(Inputs({"x": x}), (16,), squares)


def squares(outputs: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([output.square().mean() for output in outputs.values()])


def loss_of(made: MultiTaskModel) -> float:
    with torch.no_grad():
        return float(torch.stack([squares(made(each.inputs)).mean() for each in epoch(99)]).mean())


@pytest.mark.parametrize("plan", [DEEP, TREE])
def test_merged_model_is_the_one_that_is_fused_by_the_same_coefficients(
    singles: dict[str, dict[str, Tensor]], plan: SharingPlan
) -> None:
    made, x = merged(singles, plan), torch.randn(5, *SHAPE)
    coefficients = torch.rand(len(made.mean()))
    fusion = FoldedFusion(made.by_share(coefficients))
    folded = model(plan).eval()
    folded.load_state_dict(fuse(singles, BASE, folded, fusion))
    torch.testing.assert_close(made.outputs(coefficients, x, ()), folded(x))
    torch.testing.assert_close(made.outputs(made.mean(), x, ()), made.model(x))
    assert [share for share, _ in made.by_share(coefficients).items()] == list(made.shares)


def test_there_is_a_coefficient_for_each_task_of_each_shared_copy(singles: dict[str, dict[str, Tensor]]) -> None:
    everyone = ("a", "c", "type")
    assert list(merged(singles, TREE).shares) == [(0, everyone), (1, ("a", "c"))]
    assert merged(singles, TREE).mean().tolist() == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
    assert not len(merged(singles, SEPARATE).mean())


@pytest.mark.parametrize("kind", LEARNING)
@pytest.mark.parametrize("plan", [DEEP, TREE])
def test_learned_coefficients_lower_the_loss(
    kind: type[LearningFusion], plan: SharingPlan, singles: dict[str, dict[str, Tensor]]
) -> None:
    made = merged(singles, plan)
    coefficients = kind(steps=60, lr=0.02).learn(made, epoch, seed=0)
    folded = model(plan)
    folded.load_state_dict(fuse(singles, BASE, folded, FoldedFusion(made.by_share(coefficients))))
    assert loss_of(folded) < 0.9 * loss_of(made.model)
    assert all(parameter.grad is None for parameter in made.model.parameters())


@pytest.mark.parametrize("kind", LEARNING)
def test_no_step_is_the_plain_average_and_seeds_decide(
    kind: type[LearningFusion], singles: dict[str, dict[str, Tensor]]
) -> None:
    made = merged(singles, DEEP)
    start = made.mean()
    nearly = kind(steps=1, lr=1e-9).learn(made, epoch, seed=0)
    torch.testing.assert_close(nearly, start)
    first, again = (kind(steps=5).learn(made, epoch, seed=3) for _ in range(2))
    assert torch.equal(first, again)


def test_the_gate_starts_from_its_seed(singles: dict[str, dict[str, Tensor]]) -> None:
    made = merged(singles, DEEP)
    first, other = (LearnedGate(steps=5).learn(made, epoch, seed) for seed in (1, 2))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", LEARNING)
def test_where_nothing_is_shared_there_is_nothing_to_learn(
    kind: type[LearningFusion], singles: dict[str, dict[str, Tensor]]
) -> None:
    assert kind().learn(merged(singles, SEPARATE), epoch, seed=0).shape == (0,)


@pytest.mark.parametrize("kind", LEARNING)
def test_entropy_is_refused_where_a_task_is_a_regression(
    kind: type[LearningFusion], singles: dict[str, dict[str, Tensor]]
) -> None:
    kind(signal="entropy").check_kinds(["classification", "binary", "multilabel"])
    kind(signal="labels").check_kinds(["regression"])
    with pytest.raises(ConfigError, match=r"fusion\.learned\w*\.signal: must be labels where a task is a regression"):
        kind(signal="entropy").check_kinds(["binary", "regression"])
    with pytest.raises(ConfigError, match="must be labels"):
        kind(signal="entropy").learn(merged(singles, DEEP), epoch, seed=0)


def test_entropy_against_closed_forms() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, 1.0]]).log()
    assert TASK_KINDS["classification"].mean_entropy(logits).item() == pytest.approx((1.5 * log(2) + log(3)) / 2)
    chances = torch.tensor([0.1, 0.5, 1.0 - 1e-9], dtype=torch.float64)
    wanted = (-0.1 * log(0.1) - 0.9 * log(0.9) + log(2) + 0.0) / 3
    assert TASK_KINDS["binary"].mean_entropy(chances.logit()).item() == pytest.approx(wanted, abs=1e-5)
    assert TASK_KINDS["multilabel"].mean_entropy(chances[:2].logit()[None]).item() == pytest.approx(
        wanted * 3 / 2, abs=1e-5
    )
    assert TASK_KINDS["binary"].mean_entropy(torch.empty(0)).item() == 0
