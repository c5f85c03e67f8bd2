"""fuse: the start of a multi-task model, from its sharing and the single-task models.

A worker calls it once per trial, between the artifacts of fine-tuning and the joint stage.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.fusion.base import Fusion, Site, State
from mtl_search.models.multitask import MultiTaskModel, head_key
from mtl_search.models.sharing.plan import Group

_NOTHING: Mapping[str, State] = {}


def fuse(
    singles: Mapping[str, State],
    base: State,
    model: MultiTaskModel,
    fusion: Fusion,
    seed: int = 0,
    facts: Mapping[str, State] = _NOTHING,
) -> dict[str, Tensor]:
    """Fuse single-task models into the start of a multi-task model.

    A copy of a block that starts from several tasks becomes the fusion of theirs; one of a single task stays as
    fine-tuning left it, and so does a head unless the model's sharing module changes its form. With a fusion
    ``from_base`` blocks are those of the base, and everything else stays as it is in ``model``.

    Args:
        singles: State of each task's single-task ``MultiTaskModel``; a tensor is read when its turn comes.
        base: State of the backbone that all of them started from, keys ``{l}.<name>``.
        model: The model to start: its plan and sharing module count, and what its sharing module and its alignment
            drew.
        fusion: How parameters are fused.
        seed: The study's, for a fusion that draws at random.
        facts: What a ``MeasuringFusion`` measured of each single-task model that is fused with others.

    Returns:
        The whole state of ``model``, in tensors of its own.

    Raises:
        ConfigError: Tasks, states, plan and fusion do not fit each other.
    """
    plan, coupling = model.plan, model.coupling
    if sorted(singles) != sorted(plan.tasks):
        raise ConfigError([Problem("sharing", "must plan for the single-task models", plan.tasks, tuple(singles))])
    base_blocks = _by_block(base, "", plan.blocks)
    # A single-task model has one copy of each block, number 0.
    single_blocks, known = (
        {task: [_Part(b, "0.") for b in _by_block(s, "blocks.", plan.blocks)] for task, s in states.items()}
        for states in (singles, facts)
    )
    blocks: list[list[dict[str, Tensor]]] = []
    for number, starts in enumerate(plan.starts):
        once: dict[Group, State] = {}
        for start in dict.fromkeys(starts):
            found = [single_blocks[task][number] for task in start]
            at = Site(number, plan.blocks, "", seed, [known[task][number] for task in start if task in known])
            fused_here = fusion.from_base or len(start) > 1
            once[start] = fusion(found, start, base_blocks[number], at) if fused_here else found[0]
        blocks.append([_owned(once[start]) for start in starts])
    fused = {
        f"blocks.{number}.{index}.{name}": value
        for number, states in enumerate(blocks)
        for index, state in enumerate(states)
        for name, value in state.items()
    }
    if fusion.from_base:
        return fused | _owned({n: v for n, v in model.state_dict().items() if not n.startswith("blocks.")})
    for task in plan.tasks:
        prefix = f"heads.{head_key(task)}."
        head = coupling.start_of_head(_Part(singles[task], prefix))
        fused |= {f"{prefix}{name}": value for name, value in head.items()}
    own = coupling.start(single_blocks, blocks)
    fused |= {f"coupling.{name}": value for name, value in own.items()}
    drawn = {} if model.alignment is None else _owned(model.alignment.state_dict())
    return fused | {f"alignment.{name}": value for name, value in drawn.items()}


class _Part(Mapping[str, Tensor]):
    """The tensors of a state under a prefix, by the rest of their names; read when asked for."""

    def __init__(self, state: State, prefix: str) -> None:
        self._state = state
        self._names = {name.removeprefix(prefix): name for name in state if name.startswith(prefix)}

    def __getitem__(self, name: str) -> Tensor:
        return self._state[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def _by_block(state: State, prefix: str, blocks: int) -> list[State]:
    """Split a state by block number; what does not start with the prefix is left out."""
    for number in {name.partition(".")[0] for name in _Part(state, prefix)}:
        if int(number) >= blocks:
            raise ConfigError([Problem("sharing", f"must plan for block {int(number) + 1} of the backbone", blocks)])
    return [_Part(state, f"{prefix}{number}.") for number in range(blocks)]


def _owned(state: State) -> dict[str, Tensor]:
    # Single-task models are cached for later trials: training the fused model must not reach them.
    return {name: value.detach().clone() for name, value in state.items()}
