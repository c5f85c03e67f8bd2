"""Description of an encoder: what its configuration says of sizes and inputs, and a padded batch to try it on."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")
"""What a batch may hold, by the names of transformers."""
_EXAMPLE_TOKENS = 6


@dataclass(frozen=True)
class EncoderDescription:
    """Sizes and inputs of an encoder.

    Attributes:
        kind: transformers' name of the architecture, e.g. ``bert``.
        hidden: Width of the hidden states.
        layers: Number of layers.
        positions: How many positions the configuration states, 0 if none. Some models use a few of them for
            themselves; ``splitting.widest`` says how many tokens a row may have.
        vocabulary: Rows of the table of word embeddings, 0 for images.
        token_types: How many texts of one row the model tells apart, 0 if it does not.
        padding: Number of the padding token, 0 if none is stated.
        inputs: Those of ``INPUTS`` that the model takes and that mean something to it.
        pixels: Shape of an image (channels, height, width), None for texts.
    """

    kind: str
    hidden: int
    layers: int
    positions: int
    vocabulary: int
    token_types: int
    padding: int
    inputs: tuple[str, ...]
    pixels: tuple[int, int, int] | None

    def example(self) -> dict[str, Tensor]:
        """A batch of two rows of other lengths, or of two images, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        if self.pixels is not None:
            return {"pixel_values": torch.randn(2, *self.pixels, generator=generator)}
        tokens = max(min(_EXAMPLE_TOKENS, self.positions or _EXAMPLE_TOKENS), 2)
        mask = torch.ones(2, tokens, dtype=torch.int64)
        mask[1, (tokens + 1) // 2 :] = 0
        ids = torch.randint(0, max(self.vocabulary - 1, 1), mask.shape, generator=generator)
        ids = ids + (ids >= self.padding)  # any number but that of padding
        batch = {"input_ids": torch.where(mask == 1, ids, self.padding), "attention_mask": mask}
        if self.token_types:
            types = torch.randint(0, self.token_types, mask.shape, generator=generator)
            batch["token_type_ids"] = types * mask
        return {name: value for name, value in batch.items() if name in self.inputs}


def describe(config: PretrainedConfig, model: type[PreTrainedModel] | None = None) -> EncoderDescription:
    """What a configuration says.

    Args:
        config: A configuration of transformers.
        model: The model's class; the one that transformers makes of the configuration if not given.

    Raises:
        KeyError: transformers has no model of this configuration.
    """
    made = _class_of(config) if model is None else model
    takes = inspect.signature(made.forward).parameters
    token_types = _number(config, "type_vocab_size")
    inputs = tuple(name for name in INPUTS if name in takes and (name != "token_type_ids" or token_types > 0))
    pixels = None
    if "pixel_values" in inputs and "input_ids" not in inputs:
        size = getattr(config, "image_size", None) or 224
        height, width = (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))
        pixels = (_number(config, "num_channels") or 3, height, width)
        inputs = ("pixel_values",)
    return EncoderDescription(
        kind=str(config.model_type),
        hidden=_number(config, "hidden_size"),
        layers=_number(config, "num_hidden_layers"),
        positions=_number(config, "max_position_embeddings"),
        vocabulary=_number(config, "vocab_size"),
        token_types=token_types if "token_type_ids" in inputs else 0,
        padding=_number(config, "pad_token_id"),
        inputs=inputs,
        pixels=pixels,
    )


def _class_of(config: PretrainedConfig) -> type[PreTrainedModel]:
    from transformers import MODEL_MAPPING

    found: Any = MODEL_MAPPING[type(config)]
    kind: type[PreTrainedModel] = found[0] if isinstance(found, tuple | list) else found
    return kind


def _number(config: PretrainedConfig, name: str) -> int:
    """A whole number of the configuration, 0 where it states none."""
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value >= 0 else 0
