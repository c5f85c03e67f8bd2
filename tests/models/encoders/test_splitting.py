"""Any encoder as blocks: what they do is what the model does, under the model's names, refused where it is not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tiny_encoders import CONFIGS, IMAGES, LAYERS, ONE_BLOCK, WITHOUT_SDPA, batch_for, split, tiny, tokens_of
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel

from mtl_search.errors import ConfigError
from mtl_search.models.encoders.blocks import EncoderLayer
from mtl_search.models.encoders.flow import Flow
from mtl_search.models.encoders.split_encoder import SplitEncoder
from mtl_search.models.encoders.splitting import split_encoder, widest

ALL = sorted(CONFIGS)
TEXTS = sorted(set(CONFIGS) - IMAGES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def hidden_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch).last_hidden_state


def gradients(split_up: SplitEncoder, batch: dict[str, Tensor], checkpointed: bool = False) -> dict[str, Tensor]:
    """By the model's names, the gradients of a sum over tokens."""
    blocks = [copy.deepcopy(block).requires_grad_() for block in split_up.blocks]
    flow = blocks[0](batch)
    for block in blocks[1:]:
        flow = checkpoint(block, flow, use_reentrant=False) if checkpointed else block(flow)
    (tokens_of(batch, flow.hidden) * ramp(flow.hidden)).sum().backward()
    return {
        split_up.model_name(number, name): parameter.grad
        for number, block in enumerate(blocks)
        for name, parameter in block.named_parameters()
        if parameter.grad is not None
    }


def ramp(hidden: Tensor) -> Tensor:
    return torch.linspace(-1, 1, hidden.shape[-1])


@pytest.mark.parametrize(
    ("name", "attention"),
    [(name, kind) for name in ALL for kind in ("sdpa", "eager") if kind == "eager" or name not in WITHOUT_SDPA],
)
def test_blocks_are_the_model_to_the_bit(name: str, attention: str) -> None:
    model = tiny(name, attention)
    before = copy.deepcopy(model.state_dict())
    split_up = split_encoder(model)
    assert split_up.difference == 0.0
    assert len(split_up.blocks) == (2 if name in ONE_BLOCK else LAYERS + 1)
    assert (split_up.one_block is not None) == (name in ONE_BLOCK)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with torch.no_grad():
        for rows, tokens, padded in ((5, 9, True), (3, 4, False), (1, 5, False), (2, 1, False)):
            batch = batch_for(name, rows, tokens, padded)
            wanted, given = hidden_of(model, batch), split_up.run(batch).hidden
            torch.testing.assert_close(tokens_of(batch, given), tokens_of(batch, wanted), rtol=0, atol=1e-5)
            if padded:
                assert torch.equal(given, wanted)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_the_model(name: str) -> None:
    model, split_up = split(name)
    batch = batch_for(name)
    whole = copy.deepcopy(model)
    hidden = hidden_of(whole, batch)
    (tokens_of(batch, hidden) * ramp(hidden)).sum().backward()
    wanted = {key: value.grad for key, value in whole.named_parameters() if value.grad is not None}
    for checkpointed in (False, True):
        given = gradients(split_up, batch, checkpointed)
        assert given.keys() == wanted.keys()
        for key, gradient in given.items():
            scale = max(wanted[key].abs().max().item(), 1.0)
            torch.testing.assert_close(gradient, wanted[key], rtol=0, atol=1e-6 * scale, msg=key)


@pytest.mark.parametrize("name", ALL)
def test_names_go_both_ways(name: str) -> None:
    model, split_up = split(name)
    state = model.state_dict()
    made = split_up.model_state()
    assert made.keys() == state.keys()
    assert all(torch.equal(made[key], value) for key, value in state.items())
    for key in state:
        where = split_up.block_name(key)
        assert (where is None) == key.startswith(tuple(f"{path}." for path in split_up.pooler.paths))
        assert where is None or split_up.model_name(*where) == key
    blocks = copy.deepcopy(split_up.blocks)
    for block, part in zip(blocks, split_up.block_states(state), strict=True):
        block.load_state_dict(part)


@pytest.mark.parametrize("name", ALL)
def test_trained_blocks_are_saved_by_the_library(name: str, tmp_path: Path) -> None:
    _, split_up = split(name)
    blocks = copy.deepcopy(split_up.blocks)
    with torch.no_grad():
        for block in blocks:
            for parameter in block.parameters():
                parameter.add_(0.01)
    model = split_up.to_model(blocks)
    model.save_pretrained(tmp_path)
    loaded, notes = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    batch = batch_for(name)
    with torch.no_grad():
        given = split_up.run(batch, blocks).hidden
        torch.testing.assert_close(
            tokens_of(batch, hidden_of(loaded, batch)), tokens_of(batch, given), rtol=0, atol=1e-6
        )


def test_making_a_model_draws_no_random_numbers() -> None:
    _, split_up = split("bert")
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    split_up.to_model()
    assert torch.equal(torch.rand(4), wanted)


@pytest.mark.parametrize("name", ALL)
def test_rows_of_a_flow_are_the_model_on_those_rows(name: str) -> None:
    _, split_up = split(name)
    prelude, *layers = split_up.blocks
    batch = batch_for(name)
    rows = torch.tensor([3, 0, 3])
    other = batch_for(name, 2, padded=False, seed=5)

    def through(flow: Flow) -> Tensor:
        for layer in layers:
            flow = layer(flow)
        return flow.hidden

    with torch.no_grad():
        flow, other_flow = prelude(batch), prelude(other)
        whole = through(flow)
        for part, wanted in (
            (flow[1:4], whole[1:4]),
            (flow.select(rows), whole[rows]),
            (flow[2:3], through(prelude({key: value[2:3] for key, value in batch.items()}))),
            (Flow.cat(flow.split([2, 0, 3])), whole),
            (Flow.cat([flow[4:], other_flow, flow[:1]]), torch.cat([whole[4:], through(other_flow), whole[:1]])),
        ):
            torch.testing.assert_close(through(part), wanted, rtol=0, atol=1e-5)
        parts = [through(part) for part in flow.split([2, 0, 3])]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_flow_of_no_rows_passes_and_gives_zeros_for_gradients(name: str) -> None:
    _, split_up = split(name)
    blocks = copy.deepcopy(split_up.blocks)
    flow = split_up.run({key: value[:0] for key, value in batch_for(name).items()}, blocks)
    assert flow.hidden.shape == (0, *split_up.run(batch_for(name)).hidden.shape[1:])
    flow.pooled("mean").sum().backward()
    for block in blocks:
        assert all(parameter.grad is None or not parameter.grad.any() for parameter in block.parameters())
    assert any(parameter.grad is not None for parameter in blocks[-1].parameters())


class Pooled(nn.Module):
    """An encoder from a batch to vectors (n, d), as it is exported."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        flow = batch
        for block in self.blocks:
            flow = block(flow)
        return flow.pooled("mean")


@pytest.mark.parametrize("name", ALL)
def test_exported_program_takes_any_rows_and_tokens(name: str) -> None:
    _, split_up = split(name)
    module = Pooled(copy.deepcopy(split_up.blocks)).requires_grad_(False).eval()
    batch = batch_for(name, 3, 7)
    most = widest(split_up.blocks[0], split_up.description)
    axes = {0: torch.export.Dim("rows", min=1)}
    if name not in IMAGES:
        axes[1] = torch.export.Dim("tokens", min=1, max=most)
    shapes = {"batch": dict.fromkeys(batch, axes)}
    program = torch.export.export(module, (batch,), dynamic_shapes=shapes).module()
    for rows, tokens in ((1, 7), (6, 1), (2, 12)):
        other = batch_for(name, rows, tokens, seed=rows)
        with torch.no_grad():
            torch.testing.assert_close(program(other), module(other), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_copies_of_blocks_run_alone(name: str) -> None:
    model = tiny(name)
    split_up = split_encoder(model)
    batch = batch_for(name)
    with torch.no_grad():
        wanted = split_up.run(batch).hidden
        sent = pickle.loads(pickle.dumps(split_up.blocks))  # noqa: S301
        blocks = copy.deepcopy(split_up.blocks)
        for module in (model, *split_up.blocks):
            for parameter in module.parameters():
                parameter.zero_()
        for block in blocks:
            block.requires_grad_(False)
        first, second = split_up.run(batch, blocks).hidden, split_up.run(batch, blocks).hidden
        assert torch.equal(split_up.run(batch, sent).hidden, wanted)
    assert torch.equal(first, wanted)
    assert torch.equal(second, wanted)


@pytest.mark.parametrize("name", TEXTS)
def test_what_layers_are_given_does_not_depend_on_the_padding(name: str) -> None:
    # A kept prefix, and rows of several batches in one, need the same tensors for every batch.
    _, split_up = split(name)
    prelude = split_up.blocks[0]
    padded, full = prelude(batch_for(name)), prelude(batch_for(name, padded=False))
    unmasked = prelude({"input_ids": batch_for(name, padded=False)["input_ids"]})
    assert padded.layout == full.layout == unmasked.layout
    assert [tensor.shape for tensor in padded.side] == [tensor.shape for tensor in full.side]
    assert unmasked.mask is None
    assert len(full) == len(full.mask) == 5


@pytest.mark.parametrize(
    ("name", "tokens"), [("bert", 32), ("roberta", 30), ("mpnet", 30), ("gpt2", 32), ("llama", 32)]
)
def test_widest_row_is_found_by_trying(name: str, tokens: int) -> None:
    _, split_up = split(name)
    assert widest(split_up.blocks[0], split_up.description) == tokens


@pytest.mark.parametrize("path", [None, "encoder.layer", "encoder"])
def test_layers_may_be_named(path: str | None) -> None:
    model = tiny("bert")
    split_up = split_encoder(model, layers=path)
    assert len(split_up.blocks) == (2 if path == "encoder" else LAYERS + 1)
    batch = batch_for("bert")
    with torch.no_grad():
        assert torch.equal(split_up.run(batch).hidden, hidden_of(model, batch))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("encoder.layers", "it has no module 'encoder.layers'"),
        ("embeddings", "layers must be given hidden states (rows, tokens, width) first, got NoneType"),
        ("encoder.layer.0.attention", "after its layers the hidden states go through more than norms"),
        ("pooler", "must give hidden states (rows, tokens, width) first"),
    ],
)
def test_wrong_layers_are_refused(path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=r"^backbone\.transformers\.layers: must name the list") as caught:
        split_encoder(tiny("bert"), layers=path)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("t5", "layer 1 is given more of earlier layers than hidden states"),
        ("xlnet", "after its layers the hidden states go through more than norms"),
        ("bloom", "a layer is given a tensor (4, 1, 6) for 2 rows, at 0[1]['alibi']"),
        ("bart", "must be an encoder or a decoder alone, not one with the other"),
        ("convnext", "its first output must be hidden states (rows, tokens, width)"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_encoder(tiny(name))
    assert str(caught.value).startswith("backbone.transformers: must be an encoder")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"got '{name}'")


@pytest.mark.parametrize(
    ("name", "blocks", "reason"),
    [
        ("roformer", LAYERS + 1, None),
        ("deberta_v2_convolution", 2, "between layers 0 and 1 the hidden states are changed"),
        ("albert", 2, "it has no list of 2 layers of one kind"),
    ],
)
def test_layers_that_cannot_be_told_apart_are_one_block(name: str, blocks: int, reason: str | None) -> None:
    model = tiny(name)
    split_up = split_encoder(model)
    assert (len(split_up.blocks), split_up.one_block, split_up.difference) == (blocks, reason, 0.0)
    batch = batch_for("gpt2")
    with torch.no_grad():
        assert torch.equal(split_up.run(batch).hidden, hidden_of(model, batch))


def test_a_model_that_does_more_between_its_layers_is_refused() -> None:
    model = tiny("bert")
    layer = model.encoder.layer[1]
    model.encoder.layer[1] = model.encoder.layer[0]
    with pytest.raises(ConfigError, match=r"must run once each, in order; they ran as \[1, 1\]"):
        split_encoder(model, layers="encoder.layer")
    model.encoder.layer[1] = layer
    assert split_encoder(model).difference == 0.0


def test_norms_after_the_layers_belong_to_the_last_block_and_the_pooler_to_none() -> None:
    _, split_up = split("vit")
    assert split_up.pooler.paths == ("pooler",)
    assert [len(block.norms) for block in split_up.blocks[1:] if isinstance(block, EncoderLayer)] == [0, 1]
    assert split_up.block_name("layernorm.weight") == (LAYERS, "norms.0.weight")


POOLED = ["albert", "bert", "camembert", "deit", "dinov2", "mpnet", "roberta", "vit", "xlm_roberta", "xlm_roberta_xl"]


@pytest.mark.parametrize("name", ALL)
def test_the_pooler_is_that_of_the_model(name: str) -> None:
    model, split_up = split(name)
    batch = batch_for(name)
    assert split_up.pools == (name in POOLED)
    if split_up.pools:
        pooler = copy.deepcopy(split_up.pooler)
        with torch.no_grad():
            assert torch.equal(pooler(split_up.run(batch).hidden), model(**batch).pooler_output)
            for parameter in pooler.parameters():
                parameter.add_(0.1)
            wanted = pooler(split_up.run(batch).hidden)
            assert torch.equal(split_up.to_model(pooler=pooler)(**batch).pooler_output, wanted)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_that_is_not_frozen_gets_a_gradient(name: str) -> None:
    _, split_up = split(name)
    unused = [split_up.model_name(*where) for where in split_up.unused]
    assert unused == (["embeddings.mask_token"] if name == "dinov2" else [])
    blocks = copy.deepcopy(split_up.blocks)
    split_up.run(batch_for(name), blocks).pooled("mean").sum().backward()
    without = [name for block in blocks for name, value in block.named_parameters() if value.grad is None]
    assert without == [name for _, name in split_up.unused]
