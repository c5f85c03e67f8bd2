"""Fisher and RegMean: what they measure of a model, and how it enters the fusion, against the published formulas."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.fusion.base import Fusion, Site
from mtl_search.fusion.fisher import Fisher
from mtl_search.fusion.mean import Mean
from mtl_search.fusion.regmean import RegMean
from mtl_search.models.backbones.base import Backbone
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component


class Given(Backbone):
    """Blocks as the test wants them."""

    def __init__(self, *blocks: nn.Module) -> None:
        self.given = list(blocks)

    def _blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        return self.given


def single(kind: str, shape: tuple[int, ...], *blocks: nn.Module) -> MultiTaskModel:
    labels = ("a", "b", "c") if kind in ("classification", "multilabel") else ()
    losses = {"classification": "cross_entropy", "regression": "mse"}
    task = Task("t", kind, "main", labels, 0, 1, losses.get(kind, "bce"), Component("rmse"), "y")  # type: ignore[arg-type]
    return MultiTaskModel(Given(*blocks), shape, [task], SharingPlan.separate(["t"], len(blocks)), ["main"]).eval()


def fused(fusion: Fusion, values: list[Tensor], facts: list[dict[str, Tensor]]) -> Tensor:
    states = [{"w": value} for value in values]
    tasks = [f"t{i}" for i in range(len(values))]
    return fusion(states, tasks, {"w": torch.zeros_like(values[0])}, Site(facts=facts))["w"]


def test_fisher_weighs_every_parameter_by_its_information() -> None:
    values = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 6.0, 5.0])]
    facts = [{"w": torch.tensor([3.0, 0.0, 0.0])}, {"w": torch.tensor([1.0, 2.0, 0.0])}]
    assert fused(Fisher(), values, facts).tolist() == [1.5, 6.0, 4.0]
    assert fused(Fisher(coefficients={"t1": 3.0}), values, facts).tolist() == [2.0, 6.0, 4.5]


def test_fisher_averages_what_was_not_measured_and_refuses_to_go_without_facts() -> None:
    values = [torch.tensor([1.0]), torch.tensor([3.0])]
    assert fused(Fisher(), values, [{}, {}]).tolist() == [2.0]
    with pytest.raises(ValueError, match="needs facts"):
        fused(Fisher(), values, [])


def test_fisher_of_a_linear_regression_is_the_mean_of_squared_inputs() -> None:
    model = single("regression", (3,), nn.Linear(3, 1, bias=False))
    nn.init.constant_(model.get_parameter("heads.t.linear.weight"), 2.0)
    x = torch.randn(40, 3)
    facts = Fisher().measure(model, x, seed=0)
    assert set(facts) == {"blocks.0.0.weight"}
    torch.testing.assert_close(facts["blocks.0.0.weight"], 4 * x.square().mean(0, keepdim=True))


@pytest.mark.parametrize("kind", ["classification", "binary", "multilabel"])
def test_fisher_is_the_expectation_over_the_models_own_predictions(kind: str) -> None:
    torch.manual_seed(0)
    width = 1 if kind == "binary" else 3
    task = Task("t", kind, "main", tuple("abc"), 0.0, 1.0, "", Component("accuracy"), "y")
    raw = torch.randn(width, requires_grad=True)
    chances = raw.softmax(0) if kind == "classification" else raw.sigmoid()
    exact = chances.detach() * (1 - chances.detach())  # the diagonal of either distribution's Fisher information
    generator, total, draws = torch.Generator().manual_seed(1), torch.zeros(width), 3000
    for _ in range(draws):
        rows = raw if kind == "binary" else raw[None]
        (grad,) = torch.autograd.grad(task.behaviour.surprisal(task, rows, generator), raw)
        total += grad.square()
    torch.testing.assert_close(total / draws, exact, rtol=0.1, atol=0.01)


def test_what_fisher_draws_depends_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    model, x = single("classification", (3,), nn.Linear(3, 4)), torch.randn(10, 3)
    first, again, other = (Fisher().measure(model, x, seed)["blocks.0.0.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fisher_coefficients_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"fusion\.fisher\.coefficients\.a: must be 0 or more"):
        Fisher(coefficients={"a": -1.0})


def test_regmean_is_the_papers_least_squares_solution() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(50, 4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 3.0]) for _ in range(2)]
    weights = [torch.randn(3, 4, dtype=torch.float64) for _ in inputs]
    grams = [x.T @ x / len(x) for x in inputs]
    shrunk = [0.9 * gram + 0.1 * gram.diagonal().diag() for gram in grams]
    wanted = torch.linalg.solve(sum(shrunk), sum(g @ w.T for g, w in zip(shrunk, weights, strict=True))).T
    made = fused(RegMean(), weights, [{"w.gram": gram} for gram in grams])
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)
    # The same from the inputs themselves, and for one of each.
    raw = [{"w.inputs": x / len(x) ** 0.5} for x in inputs]
    torch.testing.assert_close(fused(RegMean(), weights, raw), made)
    torch.testing.assert_close(fused(RegMean(), weights, [raw[0], {"w.gram": grams[1]}]), made)


def test_regmean_without_shrinking_gives_each_tasks_outputs_where_their_inputs_are_apart() -> None:
    left, right = torch.eye(4, dtype=torch.float64)[:2], torch.eye(4, dtype=torch.float64)[2:]
    weights = [torch.randn(3, 4, dtype=torch.float64) for _ in range(2)]
    made = fused(RegMean(shrink=1.0), weights, [{"w.inputs": left}, {"w.inputs": right}])
    torch.testing.assert_close(made @ left.T, weights[0] @ left.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made @ right.T, weights[1] @ right.T, rtol=1e-4, atol=1e-5)


def test_regmean_averages_the_weights_of_inputs_that_are_always_zero() -> None:
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    weights = [torch.tensor([[1.0, 1.0]], dtype=torch.float64), torch.tensor([[3.0, 5.0]], dtype=torch.float64)]
    for facts in ([{"w.inputs": x}] * 2, [{"w.inputs": 0 * x}] * 2, [{}, {}]):
        torch.testing.assert_close(fused(RegMean(), weights, facts), fused(Mean(), weights, facts))


def test_regmean_measures_grams_of_linear_layers_and_of_the_patches_of_convolutions() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, (3, 2), stride=2, padding=1, bias=False)
    model = single("binary", (2, 5, 6), nn.Sequential(conv, nn.Flatten()), nn.Linear(36, 4))
    x = torch.randn(40, 2, 5, 6)
    facts = RegMean().measure(model, x, seed=0)
    assert set(facts) == {"blocks.0.0.0.weight.gram", "blocks.1.0.weight.gram"}
    hidden = conv(x).flatten(1)
    torch.testing.assert_close(facts["blocks.1.0.weight.gram"], (hidden.double().T @ hidden.double() / 40).detach())
    patches = functional.unfold(x, (3, 2), padding=1, stride=2).transpose(1, 2).flatten(0, 1).double()
    torch.testing.assert_close(facts["blocks.0.0.0.weight.gram"], patches.T @ patches / len(patches))
    outputs = conv(x).flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(patches.float() @ conv.weight.flatten(1).T, outputs)  # a convolution is linear on these


def test_regmean_keeps_the_inputs_where_they_are_fewer_than_their_gram() -> None:
    model = single("binary", (50,), nn.Linear(50, 4))
    x = torch.randn(8, 50)
    facts = RegMean().measure(model, x, seed=0)
    torch.testing.assert_close(facts["blocks.0.0.weight.inputs"], x / 8**0.5)


def test_regmean_leaves_out_layers_that_are_no_matrix_on_patches() -> None:
    grouped = nn.Conv2d(2, 4, 3, groups=2)
    reflecting = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    named = nn.Conv2d(4, 4, 3, padding="same")
    model = single("binary", (2, 6, 6), nn.Sequential(grouped, reflecting, named, nn.Flatten()))
    assert RegMean().measure(model, torch.randn(2, 2, 6, 6), seed=0) == {}


def test_facts_depend_on_the_rows_and_not_on_how_they_are_used() -> None:
    assert Fisher(64).facts_key == Fisher(64, coefficients={"a": 0.5}).facts_key != Fisher(65).facts_key
    assert RegMean(64, 0.5).facts_key == RegMean(64, 0.9).facts_key != Fisher(64).facts_key
