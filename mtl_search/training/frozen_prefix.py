"""FrozenPrefix: blocks that hold still are run once over a split; training and validation go on from what they gave.

Stands between ``freezing``, which says how many leading blocks hold still, and the passes of ``step`` and
``evaluation``. Those begin after the prefix where its activations are kept (``activations``), with the same bits as if
they began at the input. A kernel's result for a row may depend on how many rows there are, so activations are computed
in batches of the very shape in which they are used: for training, that of this rank's part of a batch; for validation,
the passes of an evaluation. That a row then does not depend on its place and its companions is tried out on random
batches, and where it does (or where a block draws random numbers in training, as dropout does) nothing is kept.

Inputs of a split never change: there is no augmentation. A random transform of inputs would have to switch this off.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mtl_search.data.inputs import Inputs, InputSource
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import content_key
from mtl_search.training.activations import Activations, Kept, RowsElsewhere
from mtl_search.training.evaluation import ForwardPasses, Sliceable, passes_of, slices_of


def random_states(device: torch.device) -> list[Tensor]:
    """States of torch's default generators on the CPU and on a device."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    return [torch.get_rng_state(), torch.get_device_module(device).get_rng_state(*_of(device))]


def set_random_states(device: torch.device, states: Sequence[Tensor]) -> None:
    """Go back to what ``random_states`` gave."""
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], *_of(device))


def _of(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # there is one of these, and its functions take none


_Purpose = Literal["training", "validation", "calibration"]
_TRIALS = 2
"""Random batches on which what is kept is held against what the blocks give."""


class _Piece(NamedTuple):
    """A batch whose activations are to be kept: the rows of every data set, and where they go among those kept."""

    parts: list[Inputs]
    starts: list[int]


class FrozenPrefix:
    """The leading blocks of a model that hold still, and their activations.

    Args:
        model: Not wrapped.
        world: The group that trains together; every rank keeps activations of all rows that may come to it.
        store: Where they are kept.
    """

    def __init__(self, model: MultiTaskModel, world: DistributedContext, store: Activations) -> None:
        self._model, self._world, self._store = model, world, store
        self._keys: list[str] = []
        self._refused: set[str] = set()

    def hold(self, depth: int) -> None:
        """From now on, so many leading blocks hold still; a pass can leave out those that its sharing lets it."""
        self._store.release()
        depth = min(depth, self._model.coupling.skippable_blocks) if self._store.has_room else 0
        self._keys = _contents(self._model, depth)

    def training(self, inputs: Sequence[InputSource], rows: Sequence[int]) -> tuple[Sequence[Kept], int] | None:
        """What training passes begin with; to be asked for in every epoch, in training mode.

        Args:
            inputs: Of the training split, by data set of the model.
            rows: This rank's rows of each in a batch.

        Returns:
            Activations of all rows by data set, and after how many blocks; None where nothing is kept.
        """
        lengths = [len(part) if count else 0 for part, count in zip(inputs, rows, strict=True)]
        for key, depth in self._ways("training", rows) if any(rows) else ():
            kept = self._store.get(key)
            if kept is None:
                kept = self._fill(
                    key,
                    depth,
                    lengths,
                    _batches(inputs, rows, self._world.device),
                    partial(self._holds, depth, inputs, rows),
                )
            if kept is not None:
                return [self._near(part) for part in kept], depth
        return None

    def validation(self, inputs: Sequence[InputSource]) -> ForwardPasses:
        """The passes of an evaluation; to be asked for at every evaluation.

        Args:
            inputs: Of the split, by data set of the model.
        """
        return self._passes("validation", inputs, slices_of(inputs, self._world))

    def calibration(self, inputs: Sequence[Sliceable], slices: Sequence[Sequence[slice]]) -> ForwardPasses:
        """The passes of a calibration, over the same rows at every call.

        Args:
            inputs: Of some training rows, by data set of the model.
            slices: The rows of each pass.
        """
        return self._passes("calibration", inputs, slices)

    def _passes(
        self, purpose: _Purpose, inputs: Sequence[Sliceable], slices: Sequence[Sequence[slice]]
    ) -> ForwardPasses:
        """Passes in evaluation mode that begin after as many blocks as can be left out."""
        firsts = [own.start for own in slices[0]]
        lengths = [last.stop - first for last, first in zip(slices[-1], firsts, strict=True)]
        for key, depth in self._ways(purpose, [*lengths, len(slices)]):
            kept = self._store.get(key)
            if kept is None:
                with torch.no_grad(), evaluating(self._model):
                    kept = self._fill(key, depth, lengths, _pieces(inputs, slices))
            if kept is not None:
                near = [self._near(part) for part in kept]
                return ForwardPasses((_cut(near, cut, firsts) for cut in slices), depth)
        return passes_of(inputs, slices)

    def _ways(self, purpose: _Purpose, rows: Sequence[int]) -> Iterator[tuple[str, int]]:
        """Key and depth of what may be kept, the deepest first."""
        for depth in range(len(self._keys), 0, -1):
            key = content_key(purpose, self._keys[depth - 1], list(rows))
            if key not in self._refused:
                yield key, depth

    def _near(self, part: Tensor) -> Kept:
        return part if part.device == self._world.device else RowsElsewhere(part, self._world.device)

    def _run(self, parts: Sequence[Inputs], depth: int) -> Tensor:
        """What the first blocks give for a batch, in the very way of a training or evaluation pass."""
        with self._world.autocast():
            return self._model.run_prefix(Inputs.cat(parts), [len(part) for part in parts], depth)

    def _fill(
        self,
        key: str,
        depth: int,
        lengths: Sequence[int],
        pieces: Iterator[_Piece],
        holds: Callable[[Sequence[Tensor]], bool] | None = None,
    ) -> list[Tensor] | None:
        """Keep the activations of all pieces; None where they cannot be, or what is kept does not hold."""
        piece = next(pieces)
        out, fault = self._first(piece.parts, depth)
        kept = None if fault else self._store.make(key, [(rows, *out.shape[1:]) for rows in lengths], out.dtype)
        if kept is None:
            self._refuse(key, depth, fault or "resources.activations has no room for them")
            return None
        good = False
        try:
            _put(kept, out, piece)
            for piece in pieces:
                _put(kept, self._run(piece.parts, depth), piece)
            good = holds is None or holds(kept)
        finally:
            if not good:
                self._store.drop(key)
        if good:
            return kept
        self._refuse(key, depth, "what they give for a row depends on its place or companions in a batch")
        return None

    def _first(self, parts: Sequence[Inputs], depth: int) -> tuple[Tensor, str]:
        """The first batch's activations, and why they cannot be kept, if so; whatever a block did by it is undone."""
        device = self._world.device
        buffers = [buffer for copy in self._model.copies() if copy.block <= depth for buffer in copy.module.buffers()]
        before, random = [buffer.clone() for buffer in buffers], random_states(device)
        out = self._run(parts, depth)
        drawn = any(not torch.equal(a, b) for a, b in zip(random, random_states(device), strict=True))
        changed = any(not torch.equal(a, b) for a, b in zip(before, buffers, strict=True))
        set_random_states(device, random)
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        if drawn:
            return out, "a block draws random numbers in training, as dropout does"
        if changed:
            return out, "a block changes its buffers in every pass"
        if out.stride() != torch.empty(out.shape, device="meta").stride():
            return out, "a block gives a tensor that is not contiguous"
        return out, ""

    def _holds(self, depth: int, inputs: Sequence[InputSource], rows: Sequence[int], kept: Sequence[Tensor]) -> bool:
        """Whether random batches get the same bits from what is kept as from the blocks."""
        generator = torch.Generator().manual_seed(0)
        for _ in range(_TRIALS):
            picked = [
                torch.randint(len(part), (count,), generator=generator).to(self._world.device)
                for part, count in zip(inputs, rows, strict=True)
            ]
            now = self._run([part.select(own) for part, own in zip(inputs, picked, strict=True)], depth)
            then = [self._near(part).index_select(0, own) for part, own in zip(kept, picked, strict=True)]
            if not torch.equal(now, torch.cat(then)):
                return False
        return True

    def _refuse(self, key: str, depth: int, reason: str) -> None:
        self._refused.add(key)
        self._store.log_usage(f"activations after {depth} frozen blocks are not kept: {reason}")


def _contents(model: MultiTaskModel, depth: int) -> list[str]:
    """Content keys of the first block, the first two and so on: parameters, buffers, and whose rows go through them."""
    digest = hashlib.sha256(repr(model.datasets).encode())
    task_datasets = {task.name: task.dataset for task in model.tasks}
    keys = []
    copies = [copy for copy in model.copies() if copy.block <= depth]
    for copy, following in zip_longest(copies, copies[1:]):
        digest.update(repr(sorted({task_datasets[task] for task in copy.tasks})).encode())
        for name, value in (*copy.module.named_parameters(), *copy.module.named_buffers()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        if following is None or following.block > copy.block:
            keys.append(digest.hexdigest())
    return keys


def _batches(inputs: Sequence[InputSource], rows: Sequence[int], device: torch.device) -> Iterator[_Piece]:
    """All rows in batches of the same shape, going round where a data set comes to its end before another."""
    counts = [-(-len(part) // count) for part, count in zip(inputs, rows, strict=True) if count]
    for number in range(max(counts)):
        starts = [number * count for count in rows]
        picked = [
            torch.arange(start, start + count, device=device) % len(part)
            for part, start, count in zip(inputs, starts, rows, strict=True)
        ]
        yield _Piece([part.select(own) for part, own in zip(inputs, picked, strict=True)], starts)


def _pieces(inputs: Sequence[Sliceable], slices: Sequence[Sequence[slice]]) -> Iterator[_Piece]:
    """The passes of an evaluation."""
    for cut in slices:
        starts = [own.start - first.start for own, first in zip(cut, slices[0], strict=True)]
        yield _Piece([part[own] for part, own in zip(inputs, cut, strict=True)], starts)


def _cut(near: Sequence[Kept], cut: Sequence[slice], firsts: Sequence[int]) -> tuple[Tensor, list[int]]:
    """One pass of an evaluation, from activations that begin with this rank's first rows."""
    own = [slice(rows.start - first, rows.stop - first) for rows, first in zip(cut, firsts, strict=True)]
    # Copied also where it is one tensor: a block's own output would begin where memory is aligned, and kernels differ.
    return torch.cat([part[rows] for part, rows in zip(near, own, strict=True)]), [
        rows.stop - rows.start for rows in cut
    ]


def _put(kept: Sequence[Tensor], out: Tensor, piece: _Piece) -> None:
    """Write a batch's activations to their places, less what goes beyond the last."""
    for target, part, start in zip(
        kept, torch.split(out, [len(part) for part in piece.parts]), piece.starts, strict=True
    ):
        place = target[start : start + len(part)]
        place.copy_(part[: len(place)])
