"""Watching a model: which of its modules are its layers, and what happens between them and after them.

``splitting`` cuts a model where this says, and holds the blocks against the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl_search.models.encoders.blocks import UnplainInputError, first_of, without_hidden


class NotSplittableError(ValueError):
    """A model cannot be cut at these modules; the text says why."""


@dataclass(frozen=True)
class Watched:
    """One forward pass of a model, seen at its layers.

    Attributes:
        output: The model's hidden states (n, t, d).
        layer_outputs: What each layer gave.
        norms: By path, the modules that made the output of the last layer's hidden states, in order.
        pooler: By path, the modules that ran after the output was made.
    """

    output: Tensor
    layer_outputs: tuple[Any, ...]
    norms: dict[str, nn.Module]
    pooler: dict[str, nn.Module]


@dataclass
class _Call:
    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None


@dataclass
class _Log:
    """What hooks note: calls of layers, and of outermost modules after the last layer."""

    last: nn.Module
    layers: list[_Call] = field(default_factory=list)
    after: list[_Call] = field(default_factory=list)
    depth: int = 0

    def begin_layer(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.layers.append(_Call(path, module, args, kwargs))

    def begin_other(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.layers and self.layers[-1].module is self.last and self.layers[-1].output is not None:
            self.depth += 1
            if self.depth == 1:
                self.after.append(_Call(path, module, args, kwargs))

    def end_other(self, output: Any) -> None:
        if self.depth:
            self.depth -= 1
            if self.depth == 0:
                self.after[-1].output = output

    def end_layer(self, output: Any) -> None:
        self.layers[-1].output = output


def layer_lists(model: nn.Module, depth: int) -> Iterator[str]:
    """Paths of lists of so many modules of one class, the outermost first."""
    found = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and len({type(item) for item in module}) == 1
    ]
    yield from sorted(found, key=lambda path: path.count("."))


def layers_at(model: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    """The modules at a path: the items of a list, or the module alone.

    Raises:
        NotSplittableError: The model has nothing there.
    """
    try:
        found = model.get_submodule(path)
    except AttributeError as error:
        raise NotSplittableError(f"it has no module {path!r}") from error
    if not isinstance(found, nn.ModuleList):
        return [(path, found)]
    if not len(found):
        raise NotSplittableError(f"the list {path!r} is empty")
    return [(f"{path}.{index}", layer) for index, layer in enumerate(found)]


def watch(model: nn.Module, path: str, batch: Mapping[str, Any]) -> Watched:
    """Run a model once, and look at the layers at a path.

    Args:
        model: In evaluation.
        path: Of the list of layers, or of one module that runs all of them.
        batch: The model's inputs by name.

    Raises:
        NotSplittableError: The layers do not run once each in order, or hand on more than hidden states.
    """
    layers = layers_at(model, path)
    log = _Log(layers[-1][1])
    with torch.no_grad():
        output = _run_with_hooks(model, layers, log, batch)
    numbers = {id(layer): number for number, (_, layer) in enumerate(layers)}
    if [numbers[id(call.module)] for call in log.layers] != list(range(len(layers))):
        ran = ", ".join(str(numbers[id(call.module)]) for call in log.layers[:20])
        raise NotSplittableError(f"the layers of {path!r} must run once each, in order; they ran as [{ran}]")
    try:
        hidden = [without_hidden(call.args, call.kwargs)[0] for call in log.layers]
    except UnplainInputError as error:
        raise NotSplittableError(str(error)) from error
    _check_chain(log.layers, hidden)
    norms, pooler = _tail(log.after, _hidden_of(log.layers[-1]), output)
    return Watched(output, tuple(call.output for call in log.layers), norms, pooler)


def whole_encoder(model: nn.Module, batch: Mapping[str, Any]) -> str | None:
    """Path of the module that turns embeddings into the output by itself, such as ``encoder``; None if there is none.

    It holds most of the model's parameters beside tables of embeddings.

    Args:
        model: In evaluation.
        batch: The model's inputs by name.
    """
    calls: list[_Call] = []

    def end(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            calls.append(_Call(path, module, args, kwargs, output))

        return hook

    hooks = [
        module.register_forward_hook(end(path), with_kwargs=True) for path, module in model.named_modules() if path
    ]
    try:
        with torch.no_grad():
            output = first_of(model(**batch))
    finally:
        for hook in hooks:
            hook.remove()
    paths = [call.path for call in calls]
    most = _size(model) / 2
    found = [
        call.path
        for call in calls
        if paths.count(call.path) == 1 and _takes_hidden(call) and _gives(call, output) and _size(call.module) > most
    ]
    return found[-1] if found else None  # an outer module ends after those that it holds


def _run_with_hooks(
    model: nn.Module, layers: list[tuple[str, nn.Module]], log: _Log, batch: Mapping[str, Any]
) -> Tensor:
    inside = {id(part) for _, layer in layers for part in layer.modules()}
    hooks = []

    def begins(path: str, note: Callable[..., None]) -> Callable[..., None]:
        return lambda module, args, kwargs: note(path, module, args, kwargs)

    for path, layer in {id(layer): (path, layer) for path, layer in layers}.values():
        hooks.append(layer.register_forward_pre_hook(begins(path, log.begin_layer), with_kwargs=True))
        hooks.append(layer.register_forward_hook(lambda module, args, output: log.end_layer(output)))
    for path, module in model.named_modules():
        if path and id(module) not in inside:
            hooks.append(module.register_forward_pre_hook(begins(path, log.begin_other), with_kwargs=True))
            hooks.append(module.register_forward_hook(lambda module, args, output: log.end_other(output)))
    try:
        output = first_of(model(**batch))
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor):
        raise NotSplittableError("its first output must be hidden states")
    return output


def _check_chain(calls: list[_Call], hidden: list[Tensor]) -> None:
    """Each layer must be given what the one before gave, and nothing else of earlier layers."""
    earlier: set[int] = set()
    for number, call in enumerate(calls):
        given = [leaf for leaf in pytree.tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Tensor)]
        if number and not _same(hidden[number], _hidden_of(calls[number - 1])):
            raise NotSplittableError(f"between layers {number - 1} and {number} the hidden states are changed")
        if any(id(leaf) in earlier and leaf is not hidden[number] for leaf in given):
            raise NotSplittableError(f"layer {number} is given more of earlier layers than hidden states")
        earlier |= {id(leaf) for leaf in pytree.tree_leaves(_plain_output(call.output)) if isinstance(leaf, Tensor)}


def _tail(after: list[_Call], last: Tensor, output: Tensor) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    norms: dict[str, nn.Module] = {}
    pooler: dict[str, nn.Module] = {}
    for call in after:
        given = [leaf for leaf in pytree.tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Tensor)]
        on_the_way = not _same(last, output) and len(given) == 1 and _same(given[0], last)
        if on_the_way and isinstance(call.output, Tensor) and call.output.shape[:2] == output.shape[:2]:
            norms[call.path] = call.module
            last = call.output
        else:
            pooler[call.path] = call.module
    if not _same(last, output):
        raise NotSplittableError("after its layers the hidden states go through more than norms")
    return norms, pooler


def _hidden_of(call: _Call) -> Tensor:
    hidden = first_of(call.output)
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        raise NotSplittableError(f"the layer {call.path!r} must give hidden states (rows, tokens, width) first")
    return hidden


def _plain_output(output: Any) -> Any:
    return list(output.values()) if isinstance(output, Mapping) else output


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one, seen twice: the same numbers at the same place in memory."""
    return one is other or (one.data_ptr() == other.data_ptr() and one.numel() == other.numel())


def _takes_hidden(call: _Call) -> bool:
    try:
        without_hidden(call.args, call.kwargs)
    except UnplainInputError:
        return False
    return True


def _size(module: nn.Module) -> int:
    """Number of parameters beside tables of embeddings."""
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    return sum(parameter.numel() for parameter in module.parameters() if id(parameter) not in tables)


def _gives(call: _Call, output: Tensor) -> bool:
    given = first_of(call.output)
    return isinstance(given, Tensor) and _same(given, output)
