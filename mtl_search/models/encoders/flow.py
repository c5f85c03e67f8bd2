"""Flow: what goes from block to block of a pretrained encoder, and how rows of it are picked, joined and pooled.

The prelude makes one of a batch (``blocks``), each layer replaces its hidden states, heads pool them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Pooling = Literal["mean", "first", "max", "last"]
POOLINGS: Final[tuple[Pooling, ...]] = get_args(Pooling)


@dataclass(frozen=True)
class LayerInputs:
    """How one layer's inputs beside the hidden states are put together.

    Attributes:
        spec: The structure of (args, kwargs).
        leaves: What stands in it: the number of a tensor in ``Flow.side``, or a plain value in a tuple of its own.
    """

    spec: pytree.TreeSpec
    leaves: tuple[int | tuple[Any], ...]


@dataclass(frozen=True)
class SideLayout:
    """Where the tensors of ``Flow.side`` belong.

    Attributes:
        layers: The inputs of each layer.
        by_row: For each tensor, whether its first axis is the rows; others are the same for all rows.
    """

    layers: tuple[LayerInputs, ...] = ()
    by_row: tuple[bool, ...] = ()


@dataclass(frozen=True, eq=False)
class Flow:
    """The hidden states of n rows of t tokens, and what the layers need beside them.

    It is a pytree: its leaves are ``hidden``, ``mask`` and the tensors of ``side``, each once.

    Attributes:
        hidden: Hidden states (n, t, d).
        mask: True where there is a token, (n, t); None where every position holds one.
        side: The tensors that the layers are given: attention masks, rotary or relative positions. A tensor that many
            layers are given stands here once.
        layout: Which layer is given which of them.
    """

    hidden: Tensor
    mask: Tensor | None
    side: tuple[Tensor, ...] = ()
    layout: SideLayout = SideLayout()

    def __len__(self) -> int:
        """Number of rows n."""
        return len(self.hidden)

    def __getitem__(self, rows: slice) -> Flow:
        """Rows from start to stop, as views."""
        return self._pick(lambda tensor: tensor[rows])

    def select(self, rows: Tensor) -> Flow:
        """Rows by number.

        Args:
            rows: Row numbers (m,) int64, on the device of the tensors.
        """
        return self._pick(lambda tensor: tensor.index_select(0, rows))

    def split(self, sizes: Sequence[int]) -> list[Flow]:
        """The rows of each data set, as views.

        Args:
            sizes: Rows of each data set, in order; their sum is n.

        Raises:
            ValueError: The sizes do not add up to the rows.
        """
        if sum(sizes) != len(self):
            raise ValueError(f"sizes must add up to {len(self)} rows, got {list(sizes)}")
        parts, start = [], 0
        for size in sizes:
            parts.append(self[start : start + size])
            start += size
        return parts

    @classmethod
    def cat(cls, flows: Sequence[Flow]) -> Flow:
        """The rows of several flows of one prelude and one width t, one after the other; of one alone itself.

        Raises:
            ValueError: The flows differ in width, in what their layers are given, or in what is the same for all rows.
        """
        first = flows[0]
        if len(flows) == 1:
            return first
        if any(flow.hidden.shape[1:] != first.hidden.shape[1:] for flow in flows):
            raise ValueError(f"flows must have one width, got {[tuple(flow.hidden.shape) for flow in flows]}")
        if any(flow.layout != first.layout for flow in flows):
            raise ValueError("flows must come from one prelude: their layers are given different things")
        side = []
        for number, by_row in enumerate(first.layout.by_row):
            tensors = [flow.side[number] for flow in flows]
            if not by_row and not all(_equal(tensors[0], tensor) for tensor in tensors[1:]):
                raise ValueError("flows must come from one prelude: what is the same for all rows differs")
            side.append(torch.cat(tensors) if by_row else tensors[0])
        return replace(first, hidden=torch.cat([flow.hidden for flow in flows]), mask=_joined(flows), side=tuple(side))

    def with_hidden(self, hidden: Tensor) -> Flow:
        """The same rows with other hidden states (n, t, d')."""
        return replace(self, hidden=hidden)

    def to(self, device: torch.device | str) -> Flow:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def detached(self) -> Flow:
        """The same, outside of the graph that made it."""
        return self._each(Tensor.detach)

    def gradient_leaves(self) -> tuple[Tensor, ...]:
        """The tensors through which gradients reach the blocks before: those that require one, each once."""
        given = {id(tensor): tensor for tensor in (self.hidden, *self.side)}
        return tuple(tensor for tensor in given.values() if tensor.requires_grad)

    def with_gradient_leaves(self, leaves: Sequence[Tensor]) -> Flow:
        """The same with other tensors in the places of ``gradient_leaves``, such as detached ones.

        Args:
            leaves: As many as there are, in their order.
        """
        new = {id(old): leaf for old, leaf in zip(self.gradient_leaves(), leaves, strict=True)}
        return self._each(lambda tensor: new.get(id(tensor), tensor))

    def cut(self) -> tuple[Flow, tuple[Tensor, ...]]:
        """The same on new leaves, at which the backward pass stops.

        Returns:
            The flow, and the leaves in the order of ``gradient_leaves``. The hidden states are among them always.
        """
        hidden = self.hidden.detach().requires_grad_()
        start = self if self.hidden.requires_grad else self.with_hidden(hidden)
        leaves = tuple(leaf.detach().requires_grad_() for leaf in start.gradient_leaves())
        return start.with_gradient_leaves(leaves), leaves

    def layer_inputs(self, layer: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a layer is given beside the hidden states: its further arguments and its keyword arguments.

        Args:
            layer: The layer's number, from 0.
        """
        inputs = self.layout.layers[layer]
        leaves = [self.side[leaf] if isinstance(leaf, int) else leaf[0] for leaf in inputs.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, inputs.spec)
        return tuple(args), dict(kwargs)

    def pooled(self, pooling: Pooling) -> Tensor:
        """One vector for each row, (n, d); see ``pool``."""
        return pool(self.hidden, self.mask, pooling)

    def _pick(self, pick: Callable[[Tensor], Tensor]) -> Flow:
        rows = zip(self.side, self.layout.by_row, strict=True)
        side = tuple(pick(tensor) if by_row else tensor for tensor, by_row in rows)
        mask = None if self.mask is None else pick(self.mask)
        return replace(self, hidden=pick(self.hidden), mask=mask, side=side)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Flow:
        mask = None if self.mask is None else change(self.mask)
        side = tuple(change(tensor) for tensor in self.side)
        return replace(self, hidden=change(self.hidden), mask=mask, side=side)


def pool(hidden: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """One vector for each row, of its tokens alone; zeros for a row without tokens.

    Args:
        hidden: Hidden states (n, t, d).
        mask: True where there is a token, (n, t); None where every position holds one.
        pooling: Mean or maximum of the tokens, the first token, or the last, which alone has seen all the others in
            a decoder.

    Returns:
        Vectors (n, d).
    """
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    there = mask.unsqueeze(2)
    if pooling == "mean":
        # Padding may hold anything, even no number: it is left out, not multiplied by zero.
        return hidden.masked_fill(~there, 0).sum(1) / there.sum(1).clamp(min=1)
    if pooling == "max":
        return hidden.masked_fill(~there, float("-inf")).amax(1).masked_fill(~mask.any(1, keepdim=True), 0)
    order = torch.arange(hidden.shape[1], device=hidden.device).expand(mask.shape)
    if pooling == "first":
        position = order.masked_fill(~mask, hidden.shape[1] - 1).amin(1)
    else:
        position = order.masked_fill(~mask, 0).amax(1)
    chosen = hidden.gather(1, position[:, None, None].expand(-1, 1, hidden.shape[2])).squeeze(1)
    return chosen.masked_fill(~mask.any(1, keepdim=True), 0)


def _joined(flows: Sequence[Flow]) -> Tensor | None:
    if all(flow.mask is None for flow in flows):
        return None
    masks = [
        torch.ones(flow.hidden.shape[:2], dtype=torch.bool, device=flow.hidden.device)
        if flow.mask is None
        else flow.mask
        for flow in flows
    ]
    return torch.cat(masks)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))


_Context = tuple[bool, SideLayout]


def _children(flow: Flow) -> tuple[list[Tensor], _Context]:
    mask = [] if flow.mask is None else [flow.mask]
    return [flow.hidden, *mask, *flow.side], (flow.mask is not None, flow.layout)


def _children_with_keys(flow: Flow) -> tuple[list[tuple[pytree.KeyEntry, Any]], _Context]:
    children, context = _children(flow)
    names: list[pytree.KeyEntry] = [pytree.GetAttrKey("hidden"), *([pytree.GetAttrKey("mask")] if context[0] else [])]
    names += [pytree.GetAttrKey(f"side_{number}") for number in range(len(flow.side))]
    return list(zip(names, children, strict=True)), context


def _of_children(children: Any, context: _Context) -> Flow:
    hidden, *others = children
    masked, layout = context
    return Flow(hidden, others[0] if masked else None, tuple(others[1:] if masked else others), layout)


def _context_as_json(context: _Context) -> str:
    masked, layout = context
    layers = [[pytree.treespec_dumps(layer.spec), list(layer.leaves)] for layer in layout.layers]
    return json.dumps({"masked": masked, "by_row": layout.by_row, "layers": layers})


def _context_of_json(text: str) -> _Context:
    read: Mapping[str, Any] = json.loads(text)
    layers = tuple(
        LayerInputs(
            pytree.treespec_loads(spec), tuple(leaf if isinstance(leaf, int) else tuple(leaf) for leaf in leaves)
        )
        for spec, leaves in read["layers"]
    )
    return read["masked"], SideLayout(layers, tuple(read["by_row"]))


pytree.register_pytree_node(
    Flow,
    _children,
    _of_children,
    serialized_type_name="mtl_search.models.encoders.flow.Flow",
    to_dumpable_context=_context_as_json,
    from_dumpable_context=_context_of_json,
    flatten_with_keys_fn=_children_with_keys,
)
