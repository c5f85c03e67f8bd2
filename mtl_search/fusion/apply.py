"""fuse: the start of a multi-task model, from its sharing plan and the single-task models.

A worker calls it once per trial, between the artifacts of fine-tuning and the joint stage.
"""

from collections.abc import Mapping

from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.fusion.base import Fusion, State
from mtl_search.models.multitask import head_key
from mtl_search.models.sharing import SharingPlan


def fuse(singles: Mapping[str, State], base: State, plan: SharingPlan, fusion: Fusion) -> dict[str, Tensor]:
    """Fuse single-task models into the start of the plan's multi-task model.

    A block that several tasks share becomes the fusion of their copies; a block of one task, and every head, stays as
    fine-tuning left it.

    Args:
        singles: State of each task's single-task ``MultiTaskModel``.
        base: State of the backbone that all of them started from, keys ``{l}.<name>``.
        plan: Which tasks share which blocks.
        fusion: How parameters are fused.

    Returns:
        State of the ``MultiTaskModel`` of that plan, in tensors of its own.

    Raises:
        ConfigError: Tasks, states, plan and fusion do not fit each other.
    """
    if sorted(singles) != sorted(plan.tasks):
        raise ConfigError([Problem("sharing", "must plan for the single-task models", plan.tasks, tuple(singles))])
    fusion.check(plan.tasks)
    base_blocks = _by_block(base, "", plan.blocks)
    single_blocks = {task: _by_block(state, "blocks.", plan.blocks) for task, state in singles.items()}
    fused: dict[str, Tensor] = {}
    for block, groups in enumerate(plan.groups):
        for index, group in enumerate(groups):
            # A single-task model has one group per block, number 0.
            copies = [_within(single_blocks[task][block], "0.") for task in group]
            state = _owned(copies[0]) if len(group) == 1 else fusion(copies, group, base_blocks[block])
            fused |= {f"blocks.{block}.{index}.{name}": value for name, value in state.items()}
    for task in plan.tasks:
        prefix = f"heads.{head_key(task)}."
        fused |= {f"{prefix}{name}": value for name, value in _owned(_within(singles[task], prefix)).items()}
    return fused


def _by_block(state: State, prefix: str, blocks: int) -> list[dict[str, Tensor]]:
    """Split a state by block number; what does not start with the prefix is left out."""
    split: list[dict[str, Tensor]] = [{} for _ in range(blocks)]
    for name, value in _within(state, prefix).items():
        number, _, rest = name.partition(".")
        if int(number) >= blocks:
            raise ConfigError([Problem("sharing", f"must plan for block {int(number) + 1} of the backbone", blocks)])
        split[int(number)][rest] = value
    return split


def _within(state: State, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _owned(state: State) -> dict[str, Tensor]:
    # Single-task models are cached for later trials: training the fused model must not reach them.
    return {name: value.detach().clone() for name, value in state.items()}
