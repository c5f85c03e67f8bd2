"""fuse: the start of a multi-task model, from its sharing and the single-task models.

A worker calls it once per trial, between the artifacts of fine-tuning and the joint stage.
"""

from collections.abc import Collection, Mapping

from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.fusion.base import Fusion, State
from mtl_search.models.multitask import MultiTaskModel, head_key


def fuse(
    singles: Mapping[str, State],
    base: State,
    model: MultiTaskModel,
    fusion: Fusion,
    sources: Collection[str] = (),
) -> dict[str, Tensor]:
    """Fuse single-task models into the start of a multi-task model.

    A copy of a block that starts from several tasks becomes the fusion of theirs; one of a single task stays as
    fine-tuning left it, and so does a head unless the model's coupling changes its form.

    Args:
        singles: State of each task's single-task ``MultiTaskModel``.
        base: State of the backbone that all of them started from, keys ``{l}.<name>``.
        model: The model to start: its plan and coupling count, and what its coupling and its alignment drew.
        fusion: How parameters are fused.
        sources: Tasks that take no part in a fusion with others: their copies alone start from theirs.

    Returns:
        The whole state of ``model``, in tensors of its own.

    Raises:
        ConfigError: Tasks, states, plan and fusion do not fit each other.
    """
    plan, coupling = model.plan, model.coupling
    if sorted(singles) != sorted(plan.tasks):
        raise ConfigError([Problem("sharing", "must plan for the single-task models", plan.tasks, tuple(singles))])
    fusion.check(plan.tasks)
    base_blocks = _by_block(base, "", plan.blocks)
    # A single-task model has one copy of each block, number 0.
    single_blocks = {
        task: [_within(block, "0.") for block in _by_block(state, "blocks.", plan.blocks)]
        for task, state in singles.items()
    }
    blocks: list[list[dict[str, Tensor]]] = []
    for number, given in enumerate(plan.starts):
        starts = [tuple(task for task in start if task not in sources) or start for start in given]
        copies = {start: [single_blocks[task][number] for task in start] for start in starts}
        once = {
            start: _owned(found[0]) if len(start) == 1 else fusion(found, start, base_blocks[number])
            for start, found in copies.items()
        }
        blocks.append([_owned(once[start]) for start in starts])
    fused = {
        f"blocks.{number}.{index}.{name}": value
        for number, states in enumerate(blocks)
        for index, state in enumerate(states)
        for name, value in state.items()
    }
    for task in plan.tasks:
        prefix = f"heads.{head_key(task)}."
        head = coupling.start_of_head(_within(singles[task], prefix))
        fused |= {f"{prefix}{name}": value for name, value in head.items()}
    own = coupling.start(single_blocks, blocks)
    fused |= {f"coupling.{name}": value for name, value in own.items()}
    drawn = {} if model.alignment is None else _owned(model.alignment.state_dict())
    return fused | {f"alignment.{name}": value for name, value in drawn.items()}


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
