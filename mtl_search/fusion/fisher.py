"""Fisher: an average in which every parameter of every model counts by what the model's predictions owe to it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_search.data.inputs import Inputs
from mtl_search.fusion.base import Fusion, Site, add_tensors, weighted_sum
from mtl_search.fusion.coefficients import Coefficients
from mtl_search.fusion.measuring import MeasuringFusion, measured_facts
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import PerTask, PositiveInt
from mtl_search.variants.building import Equal


class Fisher(MeasuringFusion):
    """Fisher-weighted average: sum of c_t F_t theta_t over sum of c_t F_t, parameter by parameter.

    F_t is the diagonal of the Fisher information of the single-task model: the mean over training rows (which that
    model has seen) of the squared gradient of log p(y | x), with y drawn from the model's own p(. | x), one for each
    row. A regression stands for a Gaussian of unit variance in the scaled unit, over which the expectation is taken
    exactly. Where all F_t are 0, and for tensors that are no parameters, it is the mean weighted by c_t.

    Cost: one forward and backward pass per row, once per single-task model.

    Paper: Matena and Raffel, Merging Models with Fisher-Weighted Averaging, NeurIPS 2022, https://arxiv.org/abs/2111.09832

    Args:
        rows: Training rows that each single-task model is measured on.
        coefficients: What each task counts (lambda in the paper), as those of ``weighted``.

    Raises:
        ConfigError: A coefficient is negative or no number.
    """

    def __init__(self, rows: PositiveInt = 256, coefficients: PerTask = 1.0) -> None:
        super().__init__(rows)
        self.coefficients = Coefficients(coefficients, "fusion.fisher.coefficients")

    def check(self, tasks: Sequence[str]) -> None:
        """Whether every coefficient belongs to a task of the study.

        Raises:
            ConfigError: One does not.
        """
        self.coefficients.check(tasks)

    def measure(self, model: MultiTaskModel, rows: Inputs, seed: int) -> dict[str, Tensor]:
        """Diagonal Fisher information of the parameters of the blocks, named as those."""
        (task,) = model.tasks
        blocks = model.blocks.named_parameters(prefix="blocks")
        named = {name: parameter for name, parameter in blocks if parameter.requires_grad}
        sums = {name: torch.zeros_like(parameter, dtype=torch.float64) for name, parameter in named.items()}
        generator = torch.Generator().manual_seed(seed)
        for number in range(len(rows)):  # not vmap: a user's own block may be anything
            surprise = task.behaviour.surprisal(task, model(rows[number : number + 1])[task.name].float(), generator)
            grads = torch.autograd.grad(surprise, list(named.values()), allow_unused=True)
            for total, grad in zip(sums.values(), grads, strict=True):
                if grad is not None:
                    total += grad.double().square()
        return {name: (total / len(rows)).float() for name, total in sums.items()}

    def simpler(self, groups: Sequence[Sequence[str]]) -> Equal[Fusion] | None:
        """The same without coefficients, where the tasks of each group count alike."""
        return (Fisher, {"rows": self.rows}) if self.coefficients.even(groups) else None

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        shares = self.coefficients.of(tasks)
        plain = weighted_sum(values, shares)
        facts = measured_facts(at)
        if not all(at.tensor in state for state in facts):
            return plain
        weights = [share * state[at.tensor].to(base) for share, state in zip(shares, facts, strict=True)]
        whole = add_tensors(weights)
        total = add_tensors([weight * value for weight, value in zip(weights, values, strict=True)])
        return torch.where(whole > 0, total / whole, plain)
