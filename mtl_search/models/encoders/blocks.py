"""The blocks of a pretrained encoder: a prelude, which makes a flow of a batch, and one block for each layer.

``splitting`` cuts a model into them; ``models.multitask`` copies them as a sharing plan says.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl_search.models.encoders.flow import Flow, LayerInputs, SideLayout

MASK: Final = "attention_mask"
"""The name that transformers gives to the mask of tokens."""
_PLAIN = (bool, int, float, str, torch.dtype, torch.device, torch.SymInt, torch.SymFloat, torch.SymBool)


class UnplainInputError(TypeError):
    """A layer is given something that is neither a tensor nor a plain value, such as a cache."""


class Tap(nn.Module):
    """Stands in a layer's place in the prelude: notes what it is given, and hands the hidden states on.

    Args:
        layer: The layer, whose plain attributes the model may read (the kind of attention, say).
        output: What the layer gave in the model: the hidden states, or a tuple or mapping that begins with them.
    """

    def __init__(self, layer: nn.Module, output: object) -> None:
        super().__init__()
        for name, value in vars(layer).items():
            if not name.startswith("_") and not isinstance(value, nn.Module | Tensor | types.MethodType):
                self.__dict__.setdefault(name, value)
        self._form = pytree.tree_map(lambda leaf: ... if isinstance(leaf, Tensor) else leaf, output)
        self._given: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The hidden states in the form in which the layer would give its own, in place of all that it gave."""
        self._given = (args, kwargs)
        hidden, _, _ = without_hidden(args, kwargs)
        return pytree.tree_map(lambda leaf: hidden if leaf is ... else leaf, self._form)

    def taken(self) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
        """The hidden states of the last pass, and further arguments; the tap forgets them."""
        if self._given is None:
            raise RuntimeError("the model did not come to one of its layers")
        given, self._given = self._given, None
        return without_hidden(*given)


def without_hidden(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """The hidden states among a layer's inputs, which are its first argument, and the inputs after them.

    Raises:
        UnplainInputError: The first input is not a tensor of hidden states (n, t, d).
    """
    rest = dict(kwargs)
    hidden = args[0] if args else rest.pop("hidden_states", None)
    if not isinstance(hidden, Tensor) or hidden.ndim != 3 or not hidden.is_floating_point():
        shown = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
        raise UnplainInputError(f"layers must be given hidden states (rows, tokens, width) first, got {shown}")
    return hidden, tuple(args[1:]), rest


def first_of(output: Any) -> Any:
    """The hidden states in what a layer or a model gives: the first of a tuple or a mapping."""
    if isinstance(output, Mapping):
        return next(iter(output.values()))
    return output[0] if isinstance(output, tuple) else output


class Prelude(nn.Module):
    """All before the first layer: the model itself, with taps in place of its layers.

    Running it makes embeddings, masks and positions by the model's own code. Parameters keep the model's names behind
    ``shell.``.

    Args:
        shell: The model, whose layers are taps and whose tail is the identity.
        taps: Paths of the taps.

    Attributes:
        by_row: Paths of the tensors among the layers' inputs that have a row for each row of the batch.
        steady: Whether layers are given the same things whatever is padded. Where they are not, a padded row is put to
            every batch and left out again, so that they are given the same things for all batches.
    """

    def __init__(self, shell: nn.Module, taps: Sequence[str]) -> None:
        super().__init__()
        self.shell = shell
        self.by_row: frozenset[str] = frozenset()
        self.steady = True
        self._taps = tuple(taps)

    def forward(self, batch: Mapping[str, Tensor]) -> Flow:
        """The flow into the first layer.

        Args:
            batch: The model's inputs by name, (n, ...) each: ``input_ids``, ``attention_mask`` (1 where there is a
                token), ``token_type_ids``, ``pixel_values``; what the model does not take is left out.
        """
        mask = batch.get(MASK)
        if not self.steady and mask is None:
            batch = {**batch, MASK: torch.ones_like(batch["input_ids"])}
        if torch.compiler.is_compiling():  # which makes the masks whatever is padded, and asks for no number of rows
            flow = self._flow(arguments_of(self.shell, batch))
        else:
            rows = len(next(iter(batch.values())))
            added = not self.steady or rows == 0
            flow = self._flow(arguments_of(self.shell, _with_padded_row(batch) if added else batch))
            flow = flow[:rows] if added else flow
        return flow if mask is None else Flow(flow.hidden, mask != 0, flow.side, flow.layout)

    def layer_inputs(self, arguments: Mapping[str, Any]) -> tuple[Tensor, list[tuple[tuple[Any, ...], dict[str, Any]]]]:
        """The hidden states into the first layer, and each layer's further inputs.

        Args:
            arguments: Of the model's forward pass, see ``arguments_of``.
        """
        taps = [self.shell.get_submodule(path) for path in self._taps]
        self.shell(**arguments)
        taken = [tap.taken() for tap in taps if isinstance(tap, Tap)]
        return taken[0][0], [(args, kwargs) for _, args, kwargs in taken]

    def _flow(self, arguments: Mapping[str, Any]) -> Flow:
        hidden, inputs = self.layer_inputs(arguments)
        numbers: dict[int, int] = {}  # of a tensor in ``side``, by its identity
        side: list[Tensor] = []
        by_row: list[bool] = []
        layers = []
        for layer, given in enumerate(inputs):
            leaves: list[int | tuple[Any, ...]] = []
            paths, spec = pytree.tree_flatten_with_path(given)
            for path, leaf in paths:
                if not isinstance(leaf, Tensor):
                    leaves.append((plain(leaf),))
                    continue
                if id(leaf) not in numbers:
                    numbers[id(leaf)] = len(side)
                    side.append(leaf)
                    by_row.append(place(layer, path) in self.by_row)
                leaves.append(numbers[id(leaf)])
            layers.append(LayerInputs(spec, tuple(leaves)))
        return Flow(hidden, None, tuple(side), SideLayout(tuple(layers), tuple(by_row)))


class EncoderLayer(nn.Module):
    """One layer of the encoder; the last one with the norms that follow it.

    Args:
        layer: The model's own layer.
        index: Its number, from 0.
        norms: What the model does with the hidden states of the last layer.
    """

    def __init__(self, layer: nn.Module, index: int, norms: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.layer = layer
        self.norms = nn.ModuleList(norms)
        self.index = index

    def forward(self, flow: Flow) -> Flow:
        """The flow with the layer's hidden states; a flow of no rows passes, and its gradients are zeros."""
        if not torch.compiler.is_compiling() and len(flow) == 0:
            return flow.with_hidden(self._run(_stand_in(flow))[:0])
        return flow.with_hidden(self._run(flow))

    def _run(self, flow: Flow) -> Tensor:
        args, kwargs = flow.layer_inputs(self.index)
        hidden: Tensor = first_of(self.layer(flow.hidden, *args, **kwargs))
        for norm in self.norms:
            hidden = norm(hidden)
        return hidden


class Pooler(nn.Module):
    """What a model makes of its output: modules one after the other, then the first position.

    Args:
        parts: The modules, by their path in the model.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.paths = tuple(parts)
        self.parts = nn.ModuleList(parts.values())

    def forward(self, hidden: Tensor) -> Tensor:
        """One vector for each row (n, d), from the hidden states (n, t, d) of the last block."""
        for part in self.parts:
            hidden = part(hidden)
        return hidden[:, 0] if hidden.ndim == 3 else hidden

    def model_state(self) -> dict[str, Tensor]:
        """The state dict under the model's names."""
        named = zip(self.paths, self.parts, strict=True)
        return {f"{path}.{name}": value for path, part in named for name, value in part.state_dict().items()}


def arguments_of(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """What of a batch a model's forward pass takes; a decoder is told to keep nothing for tokens to come."""
    takes = inspect.signature(model.forward).parameters
    given: dict[str, Any] = {name: value for name, value in batch.items() if name in takes}
    return {**given, "use_cache": False} if "use_cache" in takes else given


def place(layer: int, path: Sequence[Any]) -> str:
    """A name for a place in the inputs of a layer, e.g. ``3[1]['attention_mask']``."""
    return f"{layer}{pytree.keystr(tuple(path))}"


def plain(value: Any) -> Any:
    """The value itself.

    Raises:
        UnplainInputError: It is no plain value, so it cannot be part of a flow.
    """
    if value is None or isinstance(value, _PLAIN):
        return value
    raise UnplainInputError(f"layers must be given tensors and plain values, got {type(value).__name__}")


def _with_padded_row(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch with a row of zeros at the end, whose last position is padding."""
    longer = {name: torch.cat([value, value.new_zeros(1, *value.shape[1:])]) for name, value in batch.items()}
    if MASK in longer:
        longer[MASK][-1, :-1] = 1
    return longer


def _stand_in(flow: Flow) -> Flow:
    """One row in place of none: zeros, and nothing masked."""

    def row(tensor: Tensor) -> Tensor:
        return tensor.new_full((1, *tensor.shape[1:]), tensor.dtype == torch.bool)

    sides = zip(flow.side, flow.layout.by_row, strict=True)
    side = tuple(row(tensor) if by_row else tensor for tensor, by_row in sides)
    return Flow(row(flow.hidden), None, side, flow.layout)
