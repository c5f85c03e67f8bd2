"""Encoders of many architectures, tiny and drawn at random, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from mtl_search.models.encoders.split_encoder import SplitEncoder
from mtl_search.models.encoders.splitting import split_encoder

VOCABULARY, WIDTH, LAYERS = 60, 16, 2
PADDING = 1


def _config(kind: str, **also: Any) -> Callable[[], PretrainedConfig]:
    stated = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 32,
        "pad_token_id": PADDING,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    return lambda: getattr(transformers, kind)(**{**stated, **also})


def _images(kind: str) -> Callable[[], PretrainedConfig]:
    stated = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
    return lambda: getattr(transformers, kind)(**stated, image_size=8, patch_size=4)


_RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_DEBERTA_V3 = {
    "position_buckets": 8,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": _config("BertConfig"),
    "roberta": _config("RobertaConfig"),
    "xlm_roberta": _config("XLMRobertaConfig"),
    "xlm_roberta_xl": _config("XLMRobertaXLConfig"),
    "camembert": _config("CamembertConfig"),
    "electra": _config("ElectraConfig", embedding_size=12),
    "distilbert": _config("DistilBertConfig", dim=WIDTH, n_layers=LAYERS, n_heads=2, hidden_dim=24),
    "modernbert": _config(
        "ModernBertConfig", global_attn_every_n_layers=2, local_attention=4, cls_token_id=2, sep_token_id=3
    ),
    "deberta": _config("DebertaConfig", **_RELATIVE),
    "deberta_v3": _config("DebertaV2Config", **_RELATIVE, **_DEBERTA_V3),
    "mpnet": _config("MPNetConfig"),
    "nomic_bert": _config("NomicBertConfig"),
    "albert": _config("AlbertConfig", embedding_size=12),
    "gpt2": _config("GPT2Config", n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_positions=32),
    "llama": _config("LlamaConfig"),
    "qwen2": _config(
        "Qwen2Config", num_key_value_heads=1, sliding_window=4, use_sliding_window=True, max_window_layers=1
    ),
    "vit": _images("ViTConfig"),
    "deit": _images("DeiTConfig"),
    "dinov2": _images("Dinov2Config"),
}
ONE_BLOCK = {"albert"}
IMAGES = {"vit", "deit", "dinov2"}
WITHOUT_SDPA = {"deberta", "deberta_v3", "mpnet"}
OTHER_CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "deberta_v2_convolution": _config("DebertaV2Config", **_RELATIVE, conv_kernel_size=3, conv_act="gelu"),
    "roformer": _config("RoFormerConfig", embedding_size=WIDTH),
    "xlnet": lambda: transformers.XLNetConfig(
        d_model=WIDTH, n_layer=LAYERS, n_head=2, d_inner=24, vocab_size=VOCABULARY
    ),
    "bloom": lambda: transformers.BloomConfig(hidden_size=WIDTH, n_layer=LAYERS, n_head=2, vocab_size=VOCABULARY),
    "t5": lambda: transformers.T5Config(
        d_model=WIDTH, d_kv=8, num_layers=LAYERS, num_heads=2, d_ff=24, vocab_size=VOCABULARY, is_encoder_decoder=False
    ),
    "bart": _config("BartConfig", d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS, is_encoder_decoder=True),
    "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1], image_size=32),
}


def tiny(name: str, attention: str | None = None) -> PreTrainedModel:
    """A model in evaluation, its parameters drawn from a seed of its own."""
    config = {**CONFIGS, **OTHER_CONFIGS}[name]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(name))
        if name == "t5":
            return transformers.T5EncoderModel(config).eval()
        model = transformers.AutoModel.from_config(config, attn_implementation=attention)
        for parameter in model.parameters():  # norms and biases that are not drawn would hide a mistake
            nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else nn.init.uniform_(parameter, 0.2, 0.8)
    return model.eval()


@cache
def split(name: str) -> tuple[PreTrainedModel, SplitEncoder]:
    """A model and its blocks, which no test changes."""
    model = tiny(name)
    return model, split_encoder(model)


def batch_for(name: str, rows: int = 5, tokens: int = 9, padded: bool = True, seed: int = 0) -> dict[str, Tensor]:
    """Rows of several lengths, the first one full; of images no row is padded."""
    generator = torch.Generator().manual_seed(seed)
    if name in IMAGES:
        return {"pixel_values": torch.randn(rows, 3, 8, 8, generator=generator)}
    lengths = torch.tensor([max(tokens - 2 * row, 1) if padded else tokens for row in range(rows)])
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids = torch.randint(4, VOCABULARY, (rows, tokens), generator=generator)
    batch = {"input_ids": torch.where(mask == 1, ids, PADDING), "attention_mask": mask}
    if name in ("bert", "electra", "nomic_bert", "albert"):
        batch["token_type_ids"] = torch.randint(0, 2, (rows, tokens), generator=generator) * mask
    return batch


def tokens_of(batch: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """The hidden states of tokens alone (tokens, d): what a model makes of padding means nothing."""
    mask = batch.get("attention_mask")
    return hidden.flatten(0, 1) if mask is None else hidden[mask == 1]
