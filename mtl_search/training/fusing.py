"""Fusing: from finished single-task models on disk to the model that joint training starts from.

``stages`` calls it at the start of a joint stage. It gives a fusion what it asks for beyond parameters: facts measured
once of every single-task model and kept beside it, or training rows to learn coefficients from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mtl_search.balancing.batch_source import batch_sources
from mtl_search.balancing.losses import loss_sum
from mtl_search.data.batching import Batch
from mtl_search.data.task import Task
from mtl_search.errors import TrialError
from mtl_search.fusion.apply import fuse
from mtl_search.fusion.base import Fusion, State
from mtl_search.fusion.learning import FoldedFusion, FusionBatch, LearningFusion
from mtl_search.fusion.measuring import MeasuringFusion
from mtl_search.fusion.merged import MergedModel
from mtl_search.fusion.scored import Scored
from mtl_search.models.compiling import uncompiled
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Recipe, seed_from
from mtl_search.storage.checkpoint import MODEL_FILE, StoredTensors, is_intact, load_model, save_tensors
from mtl_search.storage.paths import StoragePath, storage_path
from mtl_search.storage.stage_results import single_result
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.training.calibration import Calibration
from mtl_search.training.workspace import Workspace
from mtl_search.transfer.norms import batch_norms


def fused_model(
    tasks: Sequence[str], recipe: Recipe, singles: Mapping[str, str], workspace: Workspace, base: str = ""
) -> MultiTaskModel:
    """The start of joint training: fused as the recipe says, with batch norm's statistics estimated anew.

    Args:
        tasks: Names, in the study's order, source tasks last.
        recipe: Says how; its joint schedule gives batches to fusions that learn.
        singles: Folder of the single-task model by task; source tasks start from the base.
        workspace: This worker's data and world.
        base: Folder of the base; empty for random parameters.

    Returns:
        The model, the same to the bit on every rank.

    Raises:
        ConfigError: Fusion, sharing and tasks do not fit each other.
        TrialError: A fusion that learns diverged.
    """
    fusion = BuiltRecipe(recipe).fusion
    fusion.check(list(singles))
    if isinstance(fusion, Scored):
        fusion = fusion.by({task: _gain(folder) for task, folder in singles.items()})
    facts: Mapping[str, State] = {}
    if isinstance(fusion, MeasuringFusion):
        facts = _facts(fusion, singles, workspace)
    states: dict[str, State] = {
        task: StoredTensors(storage_path(folder) / MODEL_FILE, workspace.world.device)
        for task, folder in singles.items()
    }
    states |= {task: _source_state(task, base, workspace) for task in tasks if task not in singles}
    if isinstance(fusion, LearningFusion):
        fusion = _learned(fusion, tasks, list(singles), recipe, states, workspace, base)
    model = workspace.model(tasks, recipe.sharing, recipe.alignment, base)
    model.load_state_dict(fuse(states, workspace.base_of(base), model, fusion, workspace.workload.seed, facts))
    if not _same_states([states[task] for task in singles]):
        Calibration(model, workspace.splits["train"], recipe.joint, workspace.world).calibrate_all()
    return model


def _gain(folder: str) -> float:
    """How far fine-tuning took a task on validation, relative to where it began."""
    result = single_result(folder)
    first = float(result.history[0].score)
    return (float(result.best_score) - first) / max(abs(first), 1e-12)


def _same_states(states: Sequence[State]) -> bool:
    """Whether single-task models differ in their heads alone, as with frozen blocks: their fusion is one of them."""
    names = [name for name in states[0] if name.startswith("blocks.")]
    return all(torch.equal(states[0][name], other[name]) for name in names for other in states[1:])


def _source_state(task: str, base: str, workspace: Workspace) -> State:
    """The base as a model of a source task, with the head that the base was learned with, if it was."""
    state = workspace.model((task,), None, base=base).state_dict()
    known: State = StoredTensors(storage_path(base) / MODEL_FILE, workspace.world.device) if base else {}
    return state | {name: known[name] for name in state if name in known}


def _facts(fusion: MeasuringFusion, singles: Mapping[str, str], workspace: Workspace) -> dict[str, State]:
    """What there is to know of every single-task model; the ranks share out what is not on disk yet."""
    world = workspace.world
    files = {task: storage_path(folder) / f"facts-{fusion.facts_key}.safetensors" for task, folder in singles.items()}
    for task in list(files)[world.rank :: world.size]:
        if not is_intact(files[task]):
            save_tensors(files[task], _measured(fusion, task, storage_path(singles[task]), workspace))
    world.agree(True)  # no rank reads before all have written
    return {task: StoredTensors(file, world.device) for task, file in files.items()}


def _measured(fusion: MeasuringFusion, task: str, folder: StoragePath, workspace: Workspace) -> dict[str, Tensor]:
    model = workspace.model((task,), None)
    model.load_state_dict(load_model(folder))
    seed = seed_from(workspace.workload.seed, "facts", task)
    inputs = workspace.splits["train"].inputs[workspace.workload.task(task).dataset]
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    rows = inputs.select(order[: fusion.rows].to(workspace.world.device))
    with evaluating(model), uncompiled():
        return fusion.measure(model, rows, seed)


def _learned(
    fusion: LearningFusion,
    tasks: Sequence[str],
    targets: Sequence[str],
    recipe: Recipe,
    singles: Mapping[str, State],
    workspace: Workspace,
    base: str,
) -> Fusion:
    """The fusion by the coefficients that rank 0 learned.

    All ranks learn, from the same batches: idle ones could not do anything else, and synchronised batch norms wait for
    all of them.
    """
    world, split = workspace.world, workspace.splits["train"]
    origin = workspace.base_of(base)
    model = workspace.model(tasks, recipe.sharing, base=base)
    model.load_state_dict(fuse(singles, origin, model, fusion, workspace.workload.seed))
    merged = MergedModel(model, singles, origin, targets)
    seed = seed_from(workspace.workload.seed, "fusion")
    batch_source, _ = batch_sources(model, split, recipe.joint, 0.0, seed, DistributedContext(device=world.device))
    epoch = partial(_epoch, merged, batch_source.epoch)
    with evaluating(model), uncompiled():
        for norm in batch_norms(model):
            norm.train()  # the statistics of the start are not those of other coefficients
        coefficients = fusion.learn(merged, epoch, seed)
    coefficients = world.sum(coefficients if world.rank == 0 else torch.zeros_like(coefficients))
    if not coefficients.isfinite().all():
        raise TrialError(f"diverged: coefficients of fusion {recipe.fusion.name} are no numbers")
    return FoldedFusion(merged.by_share(coefficients))


def _epoch(merged: MergedModel, batches: Callable[[int], Iterator[Batch]], number: int) -> Iterator[FusionBatch]:
    """The batches of an epoch with their losses."""
    for batch in batches(number):
        yield FusionBatch(batch.inputs, batch.sizes, partial(_losses, merged.tasks, batch))


def _losses(tasks: Sequence[Task], batch: Batch, outputs: Mapping[str, Tensor]) -> Tensor:
    """Mean loss of every task over its labels in the batch, (tasks,); 0 without any."""
    return torch.stack([loss_sum(task, outputs, batch) / (batch.counts[task.name] or 1) for task in tasks])
