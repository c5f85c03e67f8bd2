"""Flows: a pytree whose rows are picked and joined, whose gradients are cut, whose tokens are pooled."""

from __future__ import annotations

import pytest
import torch
from tiny_encoders import batch_for, split
from torch import Tensor
from torch.func import functional_call
from torch.utils import _pytree as pytree

from mtl_search.models.encoders.flow import POOLINGS, Flow, pool


def flow_of(name: str, rows: int = 5) -> Flow:
    return split(name)[1].blocks[0](batch_for(name, rows))


@pytest.mark.parametrize("name", ["bert", "deberta_v3", "modernbert", "vit"])
def test_a_flow_is_a_pytree_that_holds_each_tensor_once(name: str) -> None:
    flow = flow_of(name)
    leaves, spec = pytree.tree_flatten(flow)
    assert len({id(leaf) for leaf in leaves}) == len(leaves)
    assert leaves[0] is flow.hidden
    back = pytree.tree_unflatten(leaves, spec)
    assert back.mask is flow.mask
    assert back.layout == flow.layout
    assert pytree.treespec_loads(pytree.treespec_dumps(spec)) == spec
    doubled = pytree.tree_map(lambda leaf: leaf * 2 if leaf.is_floating_point() else leaf, flow)
    assert torch.equal(doubled.hidden, flow.hidden * 2)
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(flow)[0]]
    assert paths == [
        ".hidden",
        *([".mask"] if flow.mask is not None else []),
        *[f".side_{i}" for i in range(len(flow.side))],
    ]


def test_functional_call_takes_a_flow() -> None:
    _, split_up = split("deberta_v3")
    flow, layer = flow_of("deberta_v3"), split_up.blocks[1]
    zeros = {key: torch.zeros_like(value) for key, value in layer.named_parameters()}
    assert torch.equal(functional_call(layer, dict(layer.named_parameters()), (flow,)).hidden, layer(flow).hidden)
    assert not functional_call(layer, zeros, (flow,)).hidden.any()


def test_only_tensors_with_rows_are_picked() -> None:
    flow = flow_of("modernbert")
    rotary = [tensor for tensor, by_row in zip(flow.side, flow.layout.by_row, strict=True) if not by_row]
    assert {len(tensor) for tensor in rotary} == {1}
    assert any(flow.layout.by_row)
    for rows in (1, 5):  # one row alone looks like what is the same for all rows
        part = flow[:rows]
        assert [len(t) for t, by_row in zip(part.side, part.layout.by_row, strict=True) if by_row] == [
            rows for by_row in part.layout.by_row if by_row
        ]
    assert all(any(part is tensor for part in flow[:1].side) for tensor in rotary)


def test_joined_flows_must_be_of_one_width_and_one_prelude() -> None:
    _, split_up = split("bert")
    prelude = split_up.blocks[0]
    with pytest.raises(ValueError, match="one width"):
        Flow.cat([flow_of("bert"), prelude(batch_for("bert", 2, tokens=4))])
    with pytest.raises(ValueError, match="one prelude: their layers"):
        Flow.cat([flow_of("bert"), flow_of("modernbert")])
    other = flow_of("deberta_v3")
    with pytest.raises(ValueError, match="one prelude: what is the same for all rows"):
        Flow.cat([other, pytree.tree_map(lambda leaf: leaf + 1 if leaf.is_floating_point() else leaf, other)])
    with pytest.raises(ValueError, match="add up to 5 rows"):
        other.split([2, 2])
    alone = flow_of("bert")
    assert Flow.cat([alone]) is alone


def test_joining_keeps_which_positions_are_tokens() -> None:
    _, split_up = split("bert")
    full = batch_for("bert", 2, padded=False)
    unmasked = split_up.blocks[0]({"input_ids": full["input_ids"]})
    joined = Flow.cat([flow_of("bert"), unmasked])
    assert joined.mask.dtype == torch.bool
    assert joined.mask.sum(1).tolist() == [9, 7, 5, 3, 1, 9, 9]
    assert Flow.cat([unmasked, unmasked]).mask is None


def test_a_cut_flow_leads_gradients_to_every_tensor_that_wants_one() -> None:
    # DeBERTa's relative embeddings are parameters of the prelude that its layers are given beside the hidden states.
    _, split_up = split("deberta_v3")
    prelude, *layers = split_up.blocks
    flow = prelude(batch_for("deberta_v3"))
    assert len(flow.gradient_leaves()) == 2
    cut, leaves = flow.cut()
    assert [leaf.is_leaf for leaf in leaves] == [True, True]
    out = cut
    for layer in layers:
        out = layer(out)
    out.pooled("mean").sum().backward()
    table = prelude.shell.encoder.rel_embeddings.weight
    table.grad = None
    torch.autograd.backward(flow.gradient_leaves(), [leaf.grad for leaf in leaves])
    through = table.grad.clone()
    table.grad = None
    for parameter in split_up.blocks[0].parameters():
        parameter.grad = None
    split_up.run(batch_for("deberta_v3")).pooled("mean").sum().backward()
    torch.testing.assert_close(through, table.grad)
    for block in split_up.blocks:
        block.zero_grad()
    with torch.no_grad():
        frozen = prelude(batch_for("deberta_v3"))
    start, alone = frozen.cut()
    assert frozen.gradient_leaves() == ()
    assert alone == (start.hidden,)
    assert not any(leaf.requires_grad for leaf in pytree.tree_leaves(flow.detached()))


def by_hand(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    rows = []
    for row, there in zip(hidden, mask, strict=True):
        tokens = row[there]
        rows.append(
            torch.zeros(hidden.shape[2])
            if not len(tokens)
            else {"mean": tokens.mean(0), "max": tokens.amax(0), "first": tokens[0], "last": tokens[-1]}[pooling]
        )
    return torch.stack(rows)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_over_tokens_alone(pooling: str) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(5, 6, 3, generator=generator) - 2
    mask = torch.tensor(
        [[1] * 6, [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0], [0] * 6], dtype=torch.bool
    )
    hidden[~mask] = float("nan")
    torch.testing.assert_close(pool(hidden, mask, pooling), by_hand(hidden, mask, pooling))
    full = torch.ones(1, 6, dtype=torch.bool)
    torch.testing.assert_close(pool(hidden[:1], None, pooling), by_hand(hidden[:1], full, pooling))
    assert pool(hidden[:0], mask[:0], pooling).shape == (0, 3)


def test_last_token_of_a_decoder_does_not_see_padding() -> None:
    _, split_up = split("gpt2")
    batch = batch_for("gpt2")
    with torch.no_grad():
        padded = split_up.run(batch).pooled("last")
        for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            alone = {key: value[row : row + 1, :length] for key, value in batch.items()}
            torch.testing.assert_close(split_up.run(alone).pooled("last"), padded[row : row + 1], rtol=0, atol=1e-5)
