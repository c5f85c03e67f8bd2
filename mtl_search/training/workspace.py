"""Workload and workspace: what a study gives every worker once, and what a worker keeps in memory from stage to stage.

The workload travels (numpy arrays and plain data); the workspace holds it on the device. Of a stage nothing stays in it
but activations, keyed by content: they save a later stage time and change no bit of it.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mtl_search.alignment import ALIGNMENTS
from mtl_search.config.study_config import ActivationsConfig
from mtl_search.data.batching import DeviceSplit
from mtl_search.data.streaming import Windows, read_rows_here
from mtl_search.data.study_data import StudyData
from mtl_search.data.task import Task
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.compiling import compile_forward, postpone_compiler
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing import SHARINGS
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component, Recipe, content_key, seed_from
from mtl_search.storage.checkpoint import base_of, load_model, state_key
from mtl_search.storage.paths import storage_path
from mtl_search.training.activations import Activations
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.training.metrics import check_metric_on, metric_for
from mtl_search.training.torchmetrics_import import Metric
from mtl_search.transfer.bases import BASES
from mtl_search.transfer.bases.base import Fetch, no_models
from mtl_search.transfer.bases.random import RandomBase
from mtl_search.variants.building import build
from mtl_search.variants.python_objects import NO_OBJECTS, PythonObjects


@dataclass(frozen=True)
class Workload:
    """All that the stages of a study have in common.

    Attributes:
        data: Splits, tasks and input preparation.
        backbone: Variant of ``BACKBONES``.
        blocks: Number of blocks of the backbone.
        base: Random starting parameters of the backbone, keys ``{block}.<name>``.
        seed: The study's seed.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compiled: Whether blocks are compiled with ``torch.compile``, once per worker and shape.
        objects: What a user handed over in Python, by the name that components have for it.
    """

    data: StudyData
    backbone: Component
    blocks: int
    base: Mapping[str, np.ndarray]
    seed: int
    precision: str = "auto"
    compiled: bool = False
    objects: PythonObjects = NO_OBJECTS

    @classmethod
    def prepare(
        cls,
        data: StudyData,
        backbone: Component,
        seed: int,
        precision: str = "auto",
        compiled: bool = False,
        objects: PythonObjects = NO_OBJECTS,
    ) -> "Workload":
        """Draw random starting parameters and put everything a worker needs into one bundle."""
        blocks = len(build(BACKBONES, backbone).blocks(data.preparation.feature_shape))
        base = _random_base(backbone, data.preparation.feature_shape, seed)
        return cls(data, backbone, blocks, base, seed, precision, compiled, objects)

    def seeded(self, run: int) -> "Workload":
        """Same data, another seed for all that is drawn, starting parameters included; run 0 is the study's own."""
        if not run:
            return self
        seed = seed_from(self.seed, "run", run)
        return replace(self, seed=seed, base=_random_base(self.backbone, self.data.preparation.feature_shape, seed))

    @property
    def key(self) -> str:
        """Content key of everything a single-task model depends on but its task and schedule.

        Stages with batch norm, or with targets in float64, come to other results than in earlier versions, and so have
        other keys: what a storage holds of those versions is not found again.
        """
        base = state_key({name: torch.from_numpy(np.array(value)) for name, value in self.base.items()})
        later = ["calibrated"] if any(name.endswith(".running_mean") for name in self.base) else []
        later += ["double"] if any(task.double for task in self.data.all_tasks) else []
        return content_key(
            self.data.key, self.backbone.to_dict(), base, self.seed, self.precision, self.compiled, *later
        )

    def network(
        self, tasks: Sequence[str], sharing: Component | None, alignment: Component | None = None
    ) -> MultiTaskModel:
        """A model of some tasks as torch's global random state makes it.

        Args:
            tasks: Names, in the study's order.
            sharing: How they share the blocks; None for all blocks in common.
            alignment: How joint training aligns their data sets; None for a model that is not trained jointly.

        Raises:
            ConfigError: The sharing does not fit backbone or tasks, or the alignment the sharing.
        """
        chosen = [self.task(name) for name in tasks]
        datasets = [name for name in self.data.datasets if any(task.dataset == name for task in chosen)]
        backbone, shape = build(BACKBONES, self.backbone), self.data.preparation.feature_shape
        if sharing is None:
            return MultiTaskModel(backbone, shape, chosen, SharingPlan(((tuple(tasks),),) * self.blocks), datasets)
        align = None if alignment is None else build(ALIGNMENTS, alignment).align
        plan, module_factory = self._plan(tasks, sharing), build(SHARINGS, sharing).module_factory
        return MultiTaskModel(backbone, shape, chosen, plan, datasets, module_factory, align)

    def task(self, name: str) -> Task:
        """A task or source task by its name."""
        return next(task for task in self.data.all_tasks if task.name == name)

    def base_state(self, base: Component, fetch: Fetch = no_models) -> dict[str, Tensor]:
        """Starting parameters from a base that need not be learned, keys ``{block}.<name>``.

        Args:
            base: Variant of ``BASES``.
            fetch: Gives the trunk of an earlier model.

        Raises:
            ConfigError: They cannot be had, or do not fit the backbone.
        """
        network, shape = build(BACKBONES, self.backbone), self.data.preparation.feature_shape
        return build(BASES, base).state(lambda: network.blocks(shape), seed_from(self.seed, "base"), fetch)

    def kept_tasks(self, tasks: Sequence[str], sharing: Component) -> tuple[str, ...]:
        """Tasks of the model that is kept of a joint one: source tasks only where the others' ways lead through theirs.

        Args:
            tasks: Names of the joint model's, in the study's order.
            sharing: How they share the blocks.
        """
        targets, sources = self._parted(tasks)
        return targets if sources and self._plan(tasks, sharing).tree else tuple(tasks)

    def _plan(self, tasks: Sequence[str], sharing: Component) -> SharingPlan:
        targets, sources = self._parted(tasks)
        return build(SHARINGS, sharing).plan(targets, self.blocks, sources)

    def _parted(self, tasks: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Target tasks and source tasks among these."""
        known = {task.name for task in self.data.source_tasks}
        return tuple(name for name in tasks if name not in known), tuple(name for name in tasks if name in known)

    def sources_of(self, recipe: Recipe) -> tuple[str, ...]:
        """The source tasks that joint training takes along."""
        trains = BuiltRecipe(recipe).auxiliary.trains
        return tuple(task.name for task in self.data.source_tasks if trains)


class Workspace:
    """A workload on this worker's device.

    Args:
        workload: What the study gives.
        world: This worker's group.
        budget: Memory for activations of frozen blocks.
        windows: Picks the rows of an epoch where they stay on disk.

    Attributes:
        splits: Training and validation split on the device.
        metrics: Main metric by task on the device; None where it is not defined on the validation labels.
        base: Random starting parameters of the blocks on the device.
        activations: What frozen blocks gave for the rows of the splits; kept from stage to stage, and changes none.
    """

    def __init__(
        self,
        workload: Workload,
        world: DistributedContext,
        budget: ActivationsConfig | None = None,
        windows: Windows = read_rows_here,
    ) -> None:
        self.workload, self.world, self._windows = workload, world, windows
        if not workload.compiled:
            postpone_compiler()
        self.splits = {name: self._split(name) for name in ("train", "validation")}
        tasks = workload.data.all_tasks
        self.metrics: dict[str, Metric | None] = {
            task.name: None
            if check_metric_on(task, workload.data, "validation").broken
            else metric_for(task).to(world.device)
            for task in tasks
        }
        self.base = self._on_device(workload.base)
        self._read: tuple[str, dict[str, Tensor]] = ("", self.base)
        self._seeded: tuple[int, Workspace] = (0, self)
        self.activations = Activations(budget or ActivationsConfig(), world.device)

    def seeded(self, run: int) -> "Workspace":
        """This workspace with the seed of a fresh run; data and activations are the same ones."""
        if self._seeded[0] != run:
            other = copy(self) if run else self
            if run:
                other.workload = self.workload.seeded(run)
                other.base = self._on_device(other.workload.base)
                other._read = ("", other.base)
            self._seeded = (run, other)
        return self._seeded[1]

    def _on_device(self, base: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(value)).to(self.world.device) for name, value in base.items()}

    def base_of(self, folder: str) -> dict[str, Tensor]:
        """Starting parameters that lie in a folder, keys ``{block}.<name>``; the random ones for an empty name."""
        if not folder:
            return self.base
        if self._read[0] != folder:
            found = base_of(load_model(storage_path(folder)))
            self._read = folder, {name: value.to(self.world.device) for name, value in found.items()}
        return self._read[1]

    def _split(self, name: str) -> DeviceSplit:
        data = self.workload.data
        return DeviceSplit(data.splits[name], data.preparation, data.all_tasks, self.world.device, self._windows)

    def split(self, name: str) -> DeviceSplit:
        """A split on the device; the test split is put there for this one use."""
        return self.splits[name] if name in self.splits else self._split(name)

    def model(
        self, tasks: Sequence[str], sharing: Component | None, alignment: Component | None = None, base: str = ""
    ) -> MultiTaskModel:
        """A model on the device, started from a base, with fresh heads.

        Args:
            tasks: Names, in the study's order.
            sharing: How they share the blocks; None for all blocks in common, as in a single-task model.
            alignment: How joint training aligns their data sets; None for a model that is not trained jointly.
            base: Folder of the base; empty for random parameters.
        """
        torch.manual_seed(seed_from(self.workload.seed, "model"))
        model = self.workload.network(tasks, sharing, alignment)
        model.initialise(self.workload.seed)
        model.to(self.world.device)
        model.load_base(self.base_of(base))
        if self.world.device.type == "cuda" and self.world.size > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        if self.workload.compiled:
            # The blocks alone: what balances the tasks stands between them and the heads, and stops and goes on there.
            for block in (block for copies in model.blocks for block in copies.children()):
                block.forward = compile_forward(block.forward)
        return model


def _random_base(backbone: Component, shape: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    state = RandomBase().state(lambda: build(BACKBONES, backbone).blocks(shape), seed_from(seed, "base"))
    return {name: value.numpy() for name, value in state.items()}
