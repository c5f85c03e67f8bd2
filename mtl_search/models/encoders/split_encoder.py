"""SplitEncoder: the blocks of an encoder, and the way back from them to a model of the library.

``splitting`` makes it. State dicts go both ways by name, so that fused and trained blocks are saved by transformers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mtl_search.models.encoders.blocks import Pooler
from mtl_search.models.encoders.description import EncoderDescription
from mtl_search.models.encoders.flow import Flow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class SplitEncoder:
    """An encoder as blocks, and the names that its tensors have in the model.

    Attributes:
        blocks: The prelude and the layers in order. They share no tensor. The norms after the last layer are in it.
        names: For each block, which prefix of a tensor's name stands for which in the model.
        pooler: What the model makes of its output; it is in no block.
        pools: Whether the pooler gives what the model calls its pooled output.
        unused: The number of a block and the name in it of every parameter that no output depends on, such as that of
            a token for masked pretraining. They are frozen: a parameter without a gradient stops training on several
            workers.
        model_class: The model's class.
        config: The model's configuration.
        description: What the configuration says.
        difference: Largest difference between the blocks and the model on the example.
        one_block: Why the layers are one block, where they are.
    """

    blocks: tuple[nn.Module, ...]
    names: tuple[tuple[tuple[str, str], ...], ...]
    pooler: Pooler
    pools: bool
    unused: tuple[tuple[int, str], ...]
    model_class: type[PreTrainedModel]
    config: Any
    description: EncoderDescription
    difference: float
    one_block: str | None = None

    def model_name(self, block: int, name: str) -> str:
        """A tensor's name in the model.

        Args:
            block: The block's number, from 0.
            name: The tensor's name in the block.

        Raises:
            KeyError: The block has no tensor of that name.
        """
        for own, theirs in self.names[block]:
            if name.startswith(own):
                return theirs + name.removeprefix(own)
        raise KeyError(f"block {block} has no tensor {name!r}")

    def block_name(self, name: str) -> tuple[int, str] | None:
        """The block, from 0, and the name in it of a tensor of the model; None for one of the pooler.

        Args:
            name: The tensor's name in the model.
        """
        if any(name.startswith(f"{path}.") for path in self.pooler.paths):
            return None
        fits = [
            (len(theirs), block, own + name.removeprefix(theirs))
            for block, prefixes in enumerate(self.names)
            for own, theirs in prefixes
            if name.startswith(theirs)
        ]
        _, block, inner = max(fits)  # the prelude has all that no other block has
        return block, inner

    def model_state(self, blocks: Sequence[nn.Module] | None = None, pooler: Pooler | None = None) -> dict[str, Tensor]:
        """The model's state dict.

        Args:
            blocks: Blocks with other parameters, such as trained copies; the encoder's own if not given.
            pooler: A pooler with other parameters; the encoder's own if not given.
        """
        state: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks if blocks is None else blocks):
            state |= {self.model_name(number, name): value for name, value in block.state_dict().items()}
        return state | (self.pooler if pooler is None else pooler).model_state()

    def block_states(self, state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """A state dict of the model as one for each block; the pooler's part is left out.

        Args:
            state: Tensors by their names in the model.
        """
        found: list[dict[str, Tensor]] = [{} for _ in self.blocks]
        for name, value in state.items():
            where = self.block_name(name)
            if where is not None:
                found[where[0]][where[1]] = value
        return found

    def to_model(self, blocks: Sequence[nn.Module] | None = None, pooler: Pooler | None = None) -> PreTrainedModel:
        """A model of the library with the parameters of these blocks, which saves itself under its own names.

        Args:
            blocks: Blocks with other parameters, such as trained copies; the encoder's own if not given.
            pooler: A pooler with other parameters; the encoder's own if not given.
        """
        state = self.model_state(blocks, pooler)
        floating = next(value.dtype for value in state.values() if value.is_floating_point())
        make: Callable[..., PreTrainedModel] = self.model_class._from_config
        with torch.random.fork_rng(devices=[]):  # its first parameters are drawn and thrown away
            model = make(copy.deepcopy(self.config), dtype=floating)
        model.load_state_dict(state)
        model.train(False)
        return model

    def run(self, batch: Mapping[str, Tensor], blocks: Sequence[nn.Module] | None = None) -> Flow:
        """All blocks, one after the other.

        Args:
            batch: The model's inputs by name.
            blocks: Blocks with other parameters; the encoder's own if not given.
        """
        flow: Any = batch
        for block in self.blocks if blocks is None else blocks:
            flow = block(flow)
        if not isinstance(flow, Flow):
            raise TypeError("the last block must give a flow")
        return flow
