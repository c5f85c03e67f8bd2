"""Splitting: a transformers encoder as ordered blocks, found by watching it, with no code for any architecture.

What comes of it is held against the model's own forward pass, and refused where it differs. ``loading`` gives the
model, ``flow`` is what the blocks hand on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.encoders.blocks import (
    MASK,
    EncoderLayer,
    Pooler,
    Prelude,
    Tap,
    UnplainInputError,
    arguments_of,
    first_of,
    place,
    plain,
)
from mtl_search.models.encoders.description import EncoderDescription, describe
from mtl_search.models.encoders.flow import Flow
from mtl_search.models.encoders.loading import PLACE, check_complete, load_encoder
from mtl_search.models.encoders.split_encoder import SplitEncoder
from mtl_search.models.encoders.watching import (
    NotSplittableError,
    layer_lists,
    layers_at,
    watch,
    whole_encoder,
)
from mtl_search.models.modes import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE: Final = 1e-5
"""Largest difference of a hidden state between the blocks and the model, on the example."""
_MOST_TRIED_POSITIONS = 4096


def split_encoder(
    model: PreTrainedModel,
    layers: str | None = None,
    example: Mapping[str, Tensor] | None = None,
    at: str = PLACE,
) -> SplitEncoder:
    """Cut an encoder into blocks.

    Args:
        model: The encoder, with the attention that it will run with; it is copied.
        layers: Path of the list of its layers, e.g. ``encoder.layer``, or of one module that runs them all; found if
            not given.
        example: Two rows or more to try it on, one of them padded where there is a mask; made if not given.
        at: Key path of the encoder in the study file.

    Raises:
        ConfigError: It cannot be cut so that the blocks do what the model does; the reason stands there.
    """
    description = describe(model.config, type(model))
    if getattr(model.config, "is_encoder_decoder", False):
        rule = "must be an encoder or a decoder alone, not one with the other"
        raise ConfigError([Problem(at, rule, description.kind)])
    try:
        trials = _Trials.of(model, description.example() if example is None else example)
    except NotSplittableError as error:
        raise ConfigError([Problem(at, f"must be an encoder: {error}", description.kind)]) from error
    if layers is not None:
        try:
            return _cut(model, layers, trials)
        except NotSplittableError as error:
            rule = f"must name the list of the encoder's layers, or the one module that runs them: {error}"
            raise ConfigError([Problem(f"{at}.layers", rule, layers)]) from error
    reason = None
    for path in layer_lists(model, description.layers):
        try:
            return _cut(model, path, trials)
        except NotSplittableError as error:
            reason = reason or str(error)
    reason = reason or f"it has no list of {description.layers} layers of one kind"
    with evaluating(model):
        whole = whole_encoder(model, arguments_of(model, trials.batch))
    if whole is not None:
        try:
            return _cut(model, whole, trials, one_block=reason)
        except NotSplittableError as error:
            reason = f"{reason}; and {whole!r} is no block either: {error}"
    rule = f"must be an encoder whose layers can be told apart: {reason}; `layers` may name them, e.g. encoder.layer"
    raise ConfigError([Problem(at, rule, description.kind)])


def split_pretrained(
    folder: Path, layers: str | None = None, attention: str | None = None, at: str = PLACE
) -> SplitEncoder:
    """Load the encoder in a folder and cut it into blocks, all of whose parameters are in its files.

    Args:
        folder: Of the encoder, see ``loading.find_encoder``.
        layers: Path of the list of its layers; found if not given.
        attention: ``sdpa`` or ``eager``; what the library takes if not given.
        at: Key path of the encoder in the study file.

    Returns:
        The blocks. A pooler that the files lack does not pool.

    Raises:
        ConfigError: It cannot be loaded, lacks parameters, or cannot be cut.
    """
    loaded = load_encoder(folder, attention, at)
    split_up = split_encoder(loaded.model, layers, at=at)
    unused = {split_up.model_name(*where) for where in split_up.unused}
    pooler = split_up.pooler.model_state().keys()
    check_complete(loaded.missing, [name for name in split_up.model_state() if name not in {*unused, *pooler}], at)
    return replace(split_up, pools=split_up.pools and not pooler & set(loaded.missing))


def widest(prelude: Prelude, description: EncoderDescription) -> int:
    """How many tokens a row may have, found by trying; the stated number where that is very large or none.

    Args:
        prelude: The first block.
        description: What the configuration says.
    """
    stated = description.positions
    if "input_ids" not in description.inputs or not 0 < stated <= _MOST_TRIED_POSITIONS:
        return stated

    def fits(tokens: int) -> bool:
        ids = torch.full((1, tokens), 0 if description.padding else 1)
        try:
            with torch.no_grad():
                prelude({"input_ids": ids})
        except (IndexError, RuntimeError, ValueError):
            return False
        return True

    low, high = 0, stated  # low fits, and more than high does not
    if fits(stated):
        return stated
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@torch.no_grad()
def _cut(
    model: PreTrainedModel,
    path: str,
    trials: _Trials,
    one_block: str | None = None,
) -> SplitEncoder:
    shell: PreTrainedModel = copy.deepcopy(model)
    shell.train(False)
    seen = watch(shell, path, arguments_of(shell, trials.batch))
    layers = layers_at(shell, path)
    blocks = [EncoderLayer(layer, index) for index, (_, layer) in enumerate(layers)]
    blocks[-1].norms.extend(seen.norms.values())
    for (layer_path, layer), output in zip(layers, seen.layer_outputs, strict=True):
        shell.set_submodule(layer_path, Tap(layer, output))
    for other in (*seen.norms, *seen.pooler):
        shell.set_submodule(other, nn.Identity())
    prelude = Prelude(shell, [layer_path for layer_path, _ in layers])
    names: list[tuple[tuple[str, str], ...]] = [(("shell.", ""),)]
    names += [(("layer.", f"{layer_path}."),) for layer_path, _ in layers]
    names[-1] += tuple((f"norms.{number}.", f"{norm}.") for number, norm in enumerate(seen.norms))
    all_blocks = (prelude, *blocks)
    _check_separate(all_blocks)
    try:
        trials.learn_rows(prelude)
        difference = trials.difference(all_blocks)
    except NotSplittableError:
        raise
    except Exception as error:  # the model's own code, which finds other modules than it was written for
        raise NotSplittableError(f"it does not run without its layers ({_short(error)})") from error
    if not difference <= TOLERANCE:
        raise NotSplittableError(f"layer by layer its hidden states differ by {difference:.2g}")
    unused = _freeze_unused(all_blocks, trials.batch)
    pooler = Pooler(seen.pooler)
    for block in (*all_blocks, pooler):
        block.train(model.training)
    return SplitEncoder(
        blocks=all_blocks,
        names=tuple(names),
        pooler=pooler,
        pools=trials.is_pooled_by(pooler),
        unused=unused,
        model_class=type(model),
        config=copy.deepcopy(model.config),
        description=describe(model.config, type(model)),
        difference=difference,
        one_block=one_block,
    )


@dataclass(frozen=True)
class _Trials:
    """Batches and what the whole model makes of them.

    Attributes:
        batch: Two rows or more, one of them padded where there is a mask.
        full: The same without padding; None for a model without a mask.
        output: The model's hidden states for the first.
        pooled: What the model calls its pooled output, if it has one.
        full_output: The model's hidden states for the second.
    """

    batch: dict[str, Tensor]
    full: dict[str, Tensor] | None
    output: Tensor
    pooled: Tensor | None
    full_output: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(cls, model: PreTrainedModel, batch: Mapping[str, Tensor]) -> _Trials:
        """Run the whole model on the batch, and on the batch without padding.

        Raises:
            NotSplittableError: The model does not run on it.
        """
        takes = arguments_of(model, batch)
        given = {name: value for name, value in batch.items() if name in takes}
        full = {**given, MASK: torch.ones_like(given[MASK])} if MASK in given else None
        try:
            with evaluating(model):
                outputs = model(**arguments_of(model, given))
                output, pooled = first_of(outputs), getattr(outputs, "pooler_output", None)
                full_output = None if full is None else first_of(model(**arguments_of(model, full)))
        except Exception as error:  # a model may raise anything on a batch that does not suit it
            raise NotSplittableError(f"it cannot run on {', '.join(given)} alone ({_short(error)})") from error
        if not isinstance(output, Tensor) or output.ndim != 3:
            raise NotSplittableError("its first output must be hidden states (rows, tokens, width)")
        return cls(given, full, output, pooled, full_output)

    def learn_rows(self, prelude: Prelude) -> None:
        """Tell the prelude which tensors have rows, and whether padding changes what layers are given.

        Raises:
            NotSplittableError: A layer is given something whose rows cannot be told.
        """
        rows = len(self.output)
        once, twice = _leaves(prelude, self.batch), _leaves(prelude, _repeated(self.batch))
        if once.keys() != twice.keys():
            raise NotSplittableError("with more rows its layers are given other things")
        by_row = set()
        for where, leaf in once.items():
            other = twice[where]
            if not isinstance(leaf, Tensor) or not isinstance(other, Tensor):
                if leaf is not other and leaf != other:
                    raise NotSplittableError(f"a layer is given a value that depends on the rows, at {where}")
            elif leaf.shape != other.shape:
                if leaf.shape != (rows, *other.shape[1:]) or len(other) != 2 * rows:
                    raise NotSplittableError(
                        f"a layer is given a tensor {tuple(leaf.shape)} for {rows} rows, at {where}"
                    )
                by_row.add(where)
        prelude.by_row = frozenset(by_row)
        if self.full is not None:
            full = _leaves(prelude, self.full)
            prelude.steady = _forms(full) == _forms(once)

    def difference(self, blocks: Sequence[nn.Module]) -> float:
        """Largest difference between blocks and model: the batch, the batch without padding, some rows of it twice."""
        prelude, *layers = blocks
        flow = prelude(self.batch)
        if flow.mask is not None and flow.mask.shape != flow.hidden.shape[:2]:
            raise NotSplittableError("its layers must be given as many positions as there are tokens")
        found = [_largest(_through(layers, flow), self.output)]
        if self.full is not None and self.full_output is not None:
            found.append(_largest(_through(layers, prelude(self.full)), self.full_output))
        chosen = torch.tensor([len(self.output), 1])
        some = prelude(_repeated(self.batch)).select(chosen)
        found.append(_largest(_through(layers, some), self.output[:2]))
        return max(found)

    def is_pooled_by(self, pooler: Pooler) -> bool:
        """Whether a pooler gives the model's pooled output."""
        if self.pooled is None:
            return False
        try:
            with evaluating(pooler):
                return _largest(pooler(self.output), self.pooled) <= TOLERANCE
        except (RuntimeError, TypeError, AttributeError):  # its parts do not follow on each other
            return False


def _through(layers: Sequence[nn.Module], flow: Flow) -> Tensor:
    for layer in layers:
        flow = layer(flow)
    return flow.hidden


def _largest(hidden: Tensor, wanted: Tensor) -> float:
    if hidden.shape != wanted.shape:
        return float("inf")
    differences = torch.where(hidden.isnan() & wanted.isnan(), 0, (hidden - wanted).abs())
    return differences.nan_to_num(float("inf")).max().item()


def _leaves(prelude: Prelude, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """Everything that the layers are given beside the hidden states, by its place."""
    _, inputs = prelude.layer_inputs(arguments_of(prelude.shell, batch))
    try:
        return {
            place(layer, path): leaf if isinstance(leaf, Tensor) else plain(leaf)
            for layer, given in enumerate(inputs)
            for path, leaf in pytree.tree_flatten_with_path(given)[0]
        }
    except UnplainInputError as error:
        raise NotSplittableError(str(error)) from error


def _forms(leaves: Mapping[str, Any]) -> dict[str, Any]:
    return {where: tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for where, leaf in leaves.items()}


def _repeated(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat([value, value]) for name, value in batch.items()}


def _check_separate(blocks: Sequence[nn.Module]) -> None:
    owners: dict[int, int] = {}
    for number, block in enumerate(blocks):
        for tensor in (*block.parameters(), *block.buffers()):
            if owners.setdefault(id(tensor), number) != number:
                raise NotSplittableError(f"blocks {owners[id(tensor)]} and {number} would share a tensor")


def _freeze_unused(blocks: Sequence[nn.Module], batch: Mapping[str, Tensor]) -> tuple[tuple[int, str], ...]:
    """Freeze the parameters that the graph of the hidden states does not lead to, and name them."""
    prelude, *layers = blocks
    with torch.enable_grad():
        waiting = [_through(layers, prelude(batch)).grad_fn]
    seen, used = set(waiting), set()
    while waiting:
        node = waiting.pop()
        used.add(id(getattr(node, "variable", None)))
        following = {after for after, _ in node.next_functions if after is not None} - seen if node else set()
        seen |= following
        waiting.extend(following)
    unused = []
    for number, block in enumerate(blocks):
        for name, parameter in block.named_parameters():
            if parameter.requires_grad and id(parameter) not in used:
                parameter.requires_grad_(False)
                unused.append((number, name))
    return tuple(unused)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
