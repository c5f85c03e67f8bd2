"""Regmean: layers merged so that they give what each task's layer gives on that task's own inputs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.data.inputs import Inputs
from mtl_search.fusion.base import Site, State, mean_tensors
from mtl_search.fusion.measuring import MeasuringFusion, measured_facts
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Fraction, PositiveInt

_INPUTS, _GRAM = ".inputs", ".gram"
_PASS = 32
"""Rows of one forward pass: the patches of an image's convolutions take much room."""
_RIDGE = 1e-6
"""Pull towards the mean, relative to the mean of the Grams' diagonals: it decides for inputs that are always 0."""


class RegMean(MeasuringFusion):
    """RegMean: the least-squares solution (sum of G_t)^-1 (sum of G_t W_t) for linear and 2d convolution layers.

    G_t is the Gram matrix of the layer's inputs in the single-task model of task t, averaged over training rows (which
    that model has seen) and positions, with its off-diagonal entries times ``shrink``; W_t is the layer's weight,
    inputs by outputs. A convolution is a linear layer on patches. All other tensors are averaged: biases, norms, layers
    with groups, with padding other than zeros or given as a word, and layers whose own forward pass is not called.

    Where ``rows`` of all tasks together are hardly more than the inputs (thousands of hashed words), the solution fits
    those rows and grows large: take more rows, or a smaller ``shrink``.

    Cost: one forward pass per row, once per single-task model, and per fusion a linear system of the size of each
    layer's inputs.

    Paper: Jin et al., Dataless Knowledge Fusion by Merging Weights of Language Models, ICLR 2023, https://arxiv.org/abs/2212.09849

    Args:
        rows: Training rows that each single-task model is measured on.
        shrink: Factor of the off-diagonal entries (alpha in the paper); 0 weighs inputs one by one, 1 shrinks nothing.
    """

    def __init__(self, rows: PositiveInt = 256, shrink: Fraction = 0.9) -> None:
        super().__init__(rows)
        self.shrink = shrink

    def measure(self, model: MultiTaskModel, rows: Inputs, seed: int) -> dict[str, Tensor]:
        """Inputs of every layer, scaled so that their Gram is a mean; the Gram itself where that is smaller.

        ``<weight>.inputs`` (positions, inputs) or ``<weight>.gram`` (inputs, inputs).
        """
        layers = model.blocks.named_modules(prefix="blocks")
        gauges = {f"{place}.weight": (layer, _Gauge()) for place, layer in layers if _is_plain_layer(layer)}
        handles = [layer.register_forward_pre_hook(gauge) for layer, gauge in gauges.values()]
        try:
            with torch.no_grad():
                for start in range(0, len(rows), _PASS):
                    model(rows[start : start + _PASS])
        finally:
            for handle in handles:
                handle.remove()
        return {f"{name}{form}": fact for name, (_, gauge) in gauges.items() for form, fact in gauge.facts().items()}

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        facts = measured_facts(at)
        if not all(f"{at.tensor}{_GRAM}" in known or f"{at.tensor}{_INPUTS}" in known for known in facts):
            return mean_tensors(values)
        weights = [value.flatten(1).T for value in values]
        total, right = base.new_zeros(()), base.new_zeros(())
        for known, weight in zip(facts, weights, strict=True):
            gram = _gram(known, at.tensor, base.dtype)
            gram = self.shrink * gram + (1 - self.shrink) * gram.diagonal().diag()
            total, right = total + gram, right + gram @ weight
        ridge = _RIDGE * total.diagonal().mean()
        if not ridge:
            return mean_tensors(values)
        total.diagonal().add_(ridge)
        solved = torch.cholesky_solve(right + ridge * mean_tensors(weights), torch.linalg.cholesky(total))
        return solved.T.reshape(base.shape)


def _is_plain_layer(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def _patches(layer: nn.Module, x: Tensor) -> Tensor:
    """The inputs of a layer as rows, one for each position: (positions, inputs)."""
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)
        unfolded = functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        return unfolded.transpose(1, 2).flatten(0, 1)
    return x.flatten(0, -2)


def _gram(facts: State, tensor: str, dtype: torch.dtype) -> Tensor:
    """The Gram matrix of a layer's inputs, (inputs, inputs)."""
    if f"{tensor}{_GRAM}" in facts:
        return facts[f"{tensor}{_GRAM}"].to(dtype)
    inputs = facts[f"{tensor}{_INPUTS}"].to(dtype)
    return inputs.T @ inputs


class _Gauge:
    """Takes down the inputs of one layer: themselves, until there are more positions than inputs, then their Gram."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._gram: Tensor | None = None
        self._positions = 0

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        rows = _patches(layer, inputs[0].detach())
        self._positions += len(rows)
        self._parts.append(rows)
        if self._gram is not None or self._positions > rows.shape[1]:
            doubles = torch.cat(self._parts).double()
            # In double precision, as a file too: rounding would make a Gram of few positions indefinite.
            self._gram = doubles.T @ doubles + (0.0 if self._gram is None else self._gram)
            self._parts = []

    def facts(self) -> dict[str, Tensor]:
        """What was taken down, for a mean over positions."""
        if self._gram is not None:
            return {_GRAM: self._gram / self._positions}
        return {_INPUTS: torch.cat(self._parts) / self._positions**0.5} if self._parts else {}
