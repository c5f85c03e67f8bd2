"""Where gradients are taken, against gradients taken by hand; and the pairs that are refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_workloads import EVERY_KIND, data_of, step_of, two_data_sets, workload_of, workspace_of
from torch import Tensor

from mtl_search.balancing.balancer import BALANCERS, BalancedLosses
from mtl_search.balancing.gradient_location import SharedParts, gradient_location
from mtl_search.balancing.look_ahead import LookAheadProbe
from mtl_search.errors import ConfigError
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.training.pairings import Pairs
from mtl_search.training.workspace import Workspace
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS
from mtl_search.weighting.base import GradientLocation, Weighting
from mtl_search.weighting.look_ahead import LookAhead

TASKS = ("digit", "odd", "ink")
TREE = {"groups": [["digit", "ink"], ["odd"]], "until": 2}
SHARINGS = {
    "hard": Component("hard"),
    "half": Component("hard", {"depth": 1}),
    "tree": Component("tree", TREE),
    "experts": Component("experts", {"count": 2, "private": 1}),
    "cross_stitch": Component("cross_stitch"),
    "adapters": Component("adapters", {"rank": 2, "depth": 1}),
}


def first_batch(step: Any) -> tuple[Any, Any]:
    return next(iter(step._batches(1)))


class Given(Weighting):
    """Weights that are not the tasks' own, whatever the gradients."""

    places = ("representation", "shared")

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        return torch.tensor([0.5, 2.0, 1.0])[: len(losses)]


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return workspace_of(data_of({task: EVERY_KIND[task] for task in TASKS}))


def gradients_at(
    place: GradientLocation, workspace: Workspace, sharing: Component, weighting: Weighting
) -> tuple[MultiTaskModel, BalancedLosses]:
    model = workspace.model(TASKS, sharing)
    step = step_of(workspace, model, Schedule(batch_size=64))
    weighting.start(TASKS, "cpu")
    batch, stats = next(iter(step._batches(1)))
    balancer = BALANCERS[place](model, weighting, step._losses, DistributedContext())
    return model, balancer.backward(batch, model, stats)


@pytest.mark.parametrize("place", ["representation", "shared"])
@pytest.mark.parametrize("name", SHARINGS)
def test_shared_parameters_get_the_weighted_sum_and_others_their_own_gradient(
    place: GradientLocation, name: str, workspace: Workspace
) -> None:
    model, balanced = gradients_at(place, workspace, SHARINGS[name], Given())
    plain = workspace.model(TASKS, SHARINGS[name])
    step = step_of(workspace, plain, Schedule(batch_size=64))
    batch, facts = first_batch(step)
    losses = step._losses(plain, batch) * facts.shares
    torch.testing.assert_close(balanced.losses, losses.detach())
    weights = torch.tensor([0.5, 2.0, 1.0])
    names = dict(plain.named_parameters())
    weighted = dict(zip(names, torch.autograd.grad(losses @ weights, names.values(), retain_graph=True), strict=True))
    summed = dict(zip(names, torch.autograd.grad(losses.sum(), names.values()), strict=True))
    shared = {id(parameter) for parameter in model.shared_parameters()}
    for key, parameter in model.named_parameters():
        if name == "adapters" and place == "representation" and key.startswith("blocks.1"):
            expected = summed[key]  # above the boundary the trunk has every task's own way through it
        else:
            expected = weighted[key] if id(parameter) in shared else summed[key]
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", ["hard", "half", "tree", "experts"])
def test_gramian_at_all_shared_parameters_is_that_of_the_jacobian(name: str, workspace: Workspace) -> None:
    model, balanced = gradients_at("shared", workspace, SHARINGS[name], Given())
    step = step_of(workspace, model, Schedule(batch_size=64))
    batch, facts = first_batch(step)
    rows = [
        torch.cat(
            [
                torch.zeros_like(p).flatten() if g is None else g.flatten()
                for p, g in zip(model.shared_parameters(), grads, strict=True)
            ]
        )
        for loss in step._losses(model, batch) * facts.shares
        for grads in [torch.autograd.grad(loss, model.shared_parameters(), retain_graph=True, allow_unused=True)]
    ]
    jacobian = torch.stack(rows)
    torch.testing.assert_close(balanced.gramian, jacobian @ jacobian.T, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["hard", "half", "tree", "cross_stitch"])
def test_gramian_at_the_representation_is_that_of_the_gradients_there(name: str, workspace: Workspace) -> None:
    model, balanced = gradients_at("representation", workspace, SHARINGS[name], Given())
    step = step_of(workspace, model, Schedule(batch_size=64))
    batch, facts = first_batch(step)
    context = ForwardContext()
    losses = step._losses(model, batch, context) * facts.shares
    expected = torch.zeros(3, 3)
    boundaries = {id(b): b for way in context.boundaries.values() for b in way}
    for boundary in boundaries.values():
        inside = [any(b is boundary for b in context.boundaries[task]) for task in TASKS]
        rows = [
            torch.cat(
                [
                    torch.zeros_like(t).flatten() if g is None else g.flatten()
                    for t, g in zip(boundary, grads, strict=True)
                ]
            )
            * inside[number]
            for number, loss in enumerate(losses)
            for grads in [torch.autograd.grad(loss, boundary, retain_graph=True, allow_unused=True)]
        ]
        expected += torch.stack(rows) @ torch.stack(rows).T
    torch.testing.assert_close(balanced.gramian, expected, rtol=1e-4, atol=1e-9)


def test_measuring_beside_a_method_of_losses_changes_nothing_but_rounding(workspace: Workspace) -> None:
    found = []
    for measures in (False, True):
        model = workspace.model(TASKS, Component("hard"))
        weighting = build(WEIGHTINGS, Component("fixed", {"log_ratio": 1.0}))
        weighting.start(TASKS, "cpu")
        step = step_of(workspace, model, Schedule(batch_size=64))
        batch, facts = first_batch(step)
        balancing = BALANCERS["jacobian_free"](model, weighting, step._losses, DistributedContext())
        balancing.measures = measures  # type: ignore[attr-defined]
        balanced = balancing.backward(batch, model, facts)
        found.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)
    _, at = gradients_at("representation", workspace, Component("hard"), Given())
    assert balanced.gramian is not None
    torch.testing.assert_close(balanced.gramian, at.gramian, rtol=1e-4, atol=1e-9)


class Asked(LookAhead):
    """Keeps the derivative that it is told."""

    holdout = 0.3

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        self.primary = (0, 2)

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        return torch.tensor([1.0, 0.7, 1.3])

    def learn(self, derivative: Tensor) -> None:
        self.derivative = derivative


class Moved(torch.nn.Module):
    """A model with other parameters."""

    def __init__(self, model: MultiTaskModel, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self._call = lambda *given: torch.func.functional_call(model, parameters, given)

    def forward(self, *given: Any) -> Any:
        return self._call(*given)


def test_look_ahead_derivative_is_that_of_the_loss_after_one_step(workspace: Workspace) -> None:
    weighting, lr = Asked(), 0.1
    model = workspace.model(TASKS, Component("hard"))
    step = step_of(workspace, model, Schedule(batch_size=64), weighting)
    assert isinstance(step._measuring, LookAheadProbe)
    batch, facts = next(iter(step._batches(1)))
    balanced = step._balancing.backward(batch, model, facts)
    parameters = list(model.parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    step._measuring.begin(1)
    step._measuring.learn(batch, facts.shares, parameters, lr)
    assert all(torch.equal(parameter, before) for parameter, before in zip(parameters, kept, strict=True))

    step._measuring.begin(1)
    aside = next(step._measuring._batches)
    weights = balanced.weights.clone().requires_grad_()
    losses = step._losses(model, batch) * facts.shares
    grads = torch.autograd.grad((weights * losses).sum(), parameters, create_graph=True)
    names = [name for name, _ in model.named_parameters()]
    moved = {name: p - lr * g for name, p, g in zip(names, parameters, grads, strict=True)}
    counts = torch.tensor([max(aside.counts[task], 1) for task in TASKS])
    after = torch.stack([step._losses(Moved(model, moved), aside)[i] for i in (0, 2)])
    (after / counts[[0, 2]]).sum().backward()
    torch.testing.assert_close(weighting.derivative, weights.grad, rtol=0.02, atol=1e-4)


def test_rows_kept_aside_are_never_trained_on(workspace: Workspace) -> None:
    step = step_of(workspace, workspace.model(TASKS, Component("hard")), Schedule(batch_size=16), Asked())
    assert step._measuring is not None
    trained = torch.cat([batch.rows[0] for epoch in (1, 2) for batch, _ in step._batches(epoch)]).unique()
    step._measuring.begin(1)
    kept = torch.cat([next(step._measuring._batches).rows[0] for _ in range(20)]).unique()
    total = len(workspace.splits["train"].inputs["main"][:].single)
    assert not set(trained.tolist()) & set(kept.tolist())
    assert len(kept) == round(0.3 * total)


@pytest.mark.parametrize("weighting", ["uncertainty", "mgda", "graddrop"])
def test_half_precision_trains_alike_with_scaled_gradients(weighting: str) -> None:
    workload = workload_of(data_of({task: EVERY_KIND[task] for task in TASKS}))
    states = []
    for world in (DistributedContext(), DistributedContext(half=torch.float16)):
        workspace = Workspace(workload, world)
        model = workspace.model(TASKS, Component("hard", {"depth": 1}))
        schedule = Schedule(batch_size=32, optimizer=Component("sgd", {"lr": 0.02}), clip_norm=1.0)
        step = step_of(workspace, model, schedule, build(WEIGHTINGS, Component(weighting)))
        step.run_epoch(1, lambda _: 1.0)
        states.append(model.state_dict())
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0.03)
    assert step._scaler.get_scale() > 1
    assert step.state_dict()["scaler"]["scale"] == step._scaler.get_scale()


def common(sharing: Component, own_data: bool = False) -> SharedParts:
    workspace = workspace_of(two_data_sets() if own_data else data_of({task: EVERY_KIND[task] for task in TASKS}))
    return SharedParts.of(workspace.model(TASKS, sharing), TASKS)


def test_the_cheapest_place_that_fits_is_taken() -> None:
    mgda = build(WEIGHTINGS, Component("mgda"))
    assert gradient_location(mgda, common(SHARINGS["hard"])) == "representation"
    assert gradient_location(mgda, common(SHARINGS["hard"], own_data=True)) == "shared"
    assert (
        gradient_location(build(WEIGHTINGS, Component("gradnorm")), common(SHARINGS["hard"], True)) == "representation"
    )
    assert gradient_location(mgda, common(Component("adapters"))) == "shared"
    assert gradient_location(build(WEIGHTINGS, Component("dwa")), common(Component("none"))) == "jacobian_free"
    assert gradient_location(mgda, replace(common(SHARINGS["hard"]), tasks=1)) == "jacobian_free"


@pytest.mark.parametrize(
    ("sharing", "at", "own_data", "reason"),
    [
        ("none", "auto", False, "no parameter in common"),
        ("soft", "representation", False, "no representation in common"),
        ("adapters", "representation", False, "no representation in common"),
        ("hard", "representation", True, "stand on different samples"),
    ],
)
def test_pairs_that_make_no_sense_are_refused_with_the_reason(
    sharing: str, at: str, own_data: bool, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        gradient_location(build(WEIGHTINGS, Component("mgda", {"at": at})), common(Component(sharing), own_data))


def recipes(sharings: list[str], weightings: list[str]) -> list[Recipe]:
    empty = {"fusion": Component("mean"), "single_task": Schedule(), "joint": Schedule()}
    return [Recipe(sharing=Component(s), weighting=Component(w), **empty) for s in sharings for w in weightings]


def test_a_space_is_refused_where_a_variant_has_no_partner_in_it() -> None:
    pairs = Pairs(workload_of(data_of({task: EVERY_KIND[task] for task in TASKS})))
    assert pairs.problems(recipes(["hard", "none"], ["fixed", "mgda"])) == []
    (problem,) = pairs.problems(recipes(["none", "soft"], ["fixed", "mgda"]))
    assert problem.place == "space.weighting.mgda"
    assert "does not go with none: must be where" in problem.rule
    (problem,) = pairs.problems(recipes(["hard", "none"], ["upgrad", "mgda"]))
    assert problem.place == "space.sharing.none"
    assert pairs.refusal(*recipes(["none"], ["mgda"]))
    assert not pairs.refusal(*recipes(["tree"], ["mgda"]))
