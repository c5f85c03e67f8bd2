"""Workload and workspace: what a study gives every worker once, and what a worker keeps in memory from stage to stage.

The workload travels (numpy arrays and plain data); the workspace holds it on the device. Of a stage nothing stays in it
but activations, keyed by content: they save a later stage time and change no bit of it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch._functorch.config
from torch import Tensor, nn
from torchmetrics import Metric

from mtl_search.config import ActivationsConfig
from mtl_search.data.batching import DeviceSplit
from mtl_search.data.study_data import StudyData
from mtl_search.data.task import Task
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing import SHARINGS, SharingPlan
from mtl_search.recipe import Component, build, content_key, seed_from
from mtl_search.training.activations import Activations
from mtl_search.training.evaluation import CHUNK
from mtl_search.training.metrics import metric_for
from mtl_search.training.world import World
from mtl_search.transfer import BASES


@dataclass(frozen=True)
class Workload:
    """All that the stages of a study have in common.

    Attributes:
        data: Splits, tasks and input preparation.
        backbone: Variant of ``BACKBONES``.
        blocks: Number of blocks of the backbone.
        base: The backbone's starting parameters, keys ``{block}.<name>``.
        seed: The study's seed.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compiled: Whether blocks are compiled with ``torch.compile``, once per worker and shape.
    """

    data: StudyData
    backbone: Component
    blocks: int
    base: Mapping[str, np.ndarray]
    seed: int
    precision: str = "auto"
    compiled: bool = False

    @classmethod
    def prepare(
        cls,
        data: StudyData,
        backbone: Component,
        base: Component,
        seed: int,
        precision: str = "auto",
        compiled: bool = False,
    ) -> "Workload":
        """Make the base and put everything a worker needs into one bundle."""
        network = build(BACKBONES, backbone)
        shape = data.preparation.feature_shape
        state = build(BASES, base).state(lambda: network.blocks(shape), seed_from(seed, "base"))
        blocks = len(network.blocks(shape))
        arrays = {name: value.numpy() for name, value in state.items()}
        return cls(data, backbone, blocks, arrays, seed, precision, compiled)

    @property
    def key(self) -> str:
        """Content key of everything a single-task model depends on but its task and schedule."""
        base = [
            [name, str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
            for name, value in sorted(self.base.items())
        ]
        return content_key(self.data.key, self.backbone.to_dict(), base, self.seed, self.precision, self.compiled)

    def network(self, tasks: Sequence[str], sharing: Component | None) -> MultiTaskModel:
        """A model of some tasks as torch's global random state makes it.

        Args:
            tasks: Names, in the study's order.
            sharing: How they share the blocks; None for a single-task model.

        Raises:
            ConfigError: The sharing does not fit backbone or tasks.
        """
        chosen = [self.task(name) for name in tasks]
        datasets = [name for name in self.data.datasets if any(task.dataset == name for task in chosen)]
        backbone, shape = build(BACKBONES, self.backbone), self.data.preparation.feature_shape
        if sharing is None:
            return MultiTaskModel(backbone, shape, chosen, SharingPlan.separate(tasks, self.blocks), datasets)
        variant = build(SHARINGS, sharing)
        return MultiTaskModel(backbone, shape, chosen, variant.plan(tasks, self.blocks), datasets, variant.couple)

    def task(self, name: str) -> Task:
        """A task by its name."""
        return next(task for task in self.data.tasks if task.name == name)


class Workspace:
    """A workload on this worker's device.

    Args:
        workload: What the study gives.
        world: This worker's group.
        budget: Memory for activations of frozen blocks.

    Attributes:
        splits: Training and validation split on the device.
        metrics: Main metric by task on the device.
        base: Starting parameters of the blocks on the device.
        activations: What frozen blocks gave for the rows of the splits; kept from stage to stage, and changes none.
    """

    def __init__(self, workload: Workload, world: World, budget: ActivationsConfig | None = None) -> None:
        self.workload, self.world = workload, world
        data = workload.data
        self.splits = {name: self._split(name) for name in ("train", "validation")}
        self.metrics: dict[str, Metric] = {task.name: metric_for(task).to(world.device) for task in data.tasks}
        self.base: dict[str, Tensor] = {
            name: torch.from_numpy(np.array(value)).to(world.device) for name, value in workload.base.items()
        }

        self.activations = Activations(budget or ActivationsConfig(), world.device)

    def _split(self, name: str) -> DeviceSplit:
        data = self.workload.data
        return DeviceSplit(data.splits[name], data.preparation, data.tasks, self.world.device)

    def test_split(self) -> DeviceSplit:
        """The test split, put on the device for this one use."""
        return self._split("test")

    def model(self, tasks: Sequence[str], sharing: Component | None) -> MultiTaskModel:
        """A model on the device, started from the base, with fresh heads.

        Args:
            tasks: Names, in the study's order.
            sharing: How they share the blocks; None for a single-task model.
        """
        torch.manual_seed(seed_from(self.workload.seed, "model"))
        model = self.workload.network(tasks, sharing)
        model.initialise(self.workload.seed)
        model.to(self.world.device)
        model.load_base(self.base)
        if self.world.device.type == "cuda" and self.world.size > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        if self.workload.compiled:
            # The blocks alone: what balances the tasks stands between them and the heads, and stops and goes on there.
            for block in (block for copies in model.blocks for block in copies.children()):
                block.forward = _compiled(block.forward)
        return model

    def calibration_batches(self, model: MultiTaskModel) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        """The training split in a few large batches, every data set of the model in each."""
        features = [self.splits["train"].features[name] for name in model.datasets]
        chunks = max(1, min(-(-sum(map(len, features)) // CHUNK), *map(len, features)))
        for parts in zip(*(part.tensor_split(chunks) for part in features), strict=True):
            yield torch.cat(parts), tuple(map(len, parts))


def _compiled(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A block's forward pass, compiled; ``Module.compile`` would pass over modules of torch itself."""
    # Kernels that free what they were given cannot go backward once per task, as balancing at shared parameters does.
    torch._functorch.config.donated_buffer = False

    def run(x: Tensor) -> Tensor:
        return forward(x)

    return torch.compile(run)
