"""Lwf: the whole model trained on the new tasks, held to what it said before of the old ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mtl_search.config.study_config import ActivationsConfig
from mtl_search.extension.base import Extension, ExtensionData
from mtl_search.extension.own_parts import train_own_parts
from mtl_search.extension.soft_targets import HOME, soft_target_data
from mtl_search.models.branching import Blueprint
from mtl_search.models.multitask import MultiTaskModel, head_key
from mtl_search.recipe import NonNegativeFloat, NonNegativeInt, PositiveFloat, seed_from
from mtl_search.results.objective import Objective
from mtl_search.training.activations import Activations
from mtl_search.training.evaluation import evaluate
from mtl_search.training.loop import Loop
from mtl_search.training.metrics import metric_for, task_goals
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.presence import zero_absent


class Lwf(Extension):
    """Learning without forgetting: all parameters train on the new tasks; old outputs on the new rows are targets.

    The loss is sum_new L_t + ``strength`` * sum_old D_t over the new tasks' rows, each a mean over labels or rows. With
    outputs y of the model before and y' now, D is the cross-entropy of softmax(y' / T) to softmax(y / T) for a
    classification, that of sigmoid(y' / T) to sigmoid(y / T), label by label, for binary and multilabel tasks, and the
    squared error in units of the targets' spread for a regression. First the new tasks' own parts are trained alone.
    The best epoch is that of the new tasks, on validation. What the old model's sharing adds to the update (a sharing
    module penalty, a discriminator) is left out.

    Paper: Li and Hoiem, Learning without Forgetting, ECCV 2016, https://arxiv.org/abs/1606.09282

    Args:
        strength: Factor of the old tasks' terms; 0 is plain fine-tuning, which forgets.
        temperature: T.
        warm_up: Epochs of the new tasks' own parts before all parameters train.
        like: As in ``frozen``.
        depth: As in ``frozen``.
    """

    keeps: ClassVar[bool] = False
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 30, "batch_size": 32, "optimizer": {"adamw": {"lr": 0.002}}}

    def __init__(
        self,
        strength: NonNegativeFloat = 1.0,
        temperature: PositiveFloat = 2.0,
        warm_up: NonNegativeInt = 50,
        like: str | dict[str, str] | None = None,
        depth: NonNegativeInt | None = None,
    ) -> None:
        super().__init__(like, depth)
        self.strength = strength
        self.temperature = temperature
        self.warm_up = warm_up

    def train(
        self, model: MultiTaskModel, old: MultiTaskModel, grown: Blueprint, extension_data: ExtensionData
    ) -> dict[str, int]:
        """Warm up, then train everything."""
        world, new = extension_data.world, extension_data.new
        for growth in grown.task_branches:
            if self.warm_up and growth.task in new:
                train_own_parts(model, growth, extension_data, replace(extension_data.schedule, epochs=self.warm_up))
        tasks, splits = soft_target_data(grown.tasks, old, extension_data, self.temperature)
        with torch.random.fork_rng(devices=[]):
            joint = grown.model(tasks).to(world.device)
        joint.load_state_dict(model.state_dict())
        plain = dict(joint.heads.items())
        for task in tasks:
            if task.name not in new and task.labels:
                joint.heads[head_key(task.name)] = _Tempered(plain[head_key(task.name)], self.temperature)
        metrics = {task.name: metric_for(task).to(world.device) for task in tasks}
        before = evaluate(joint, splits["validation"], metrics, world)
        goals = {
            name: replace(goal, baseline=before[name]["metric"])
            for name, goal in task_goals(extension_data.data).items()
            if name in new
        }
        weights = torch.tensor([1.0 if task.name in new else self.strength for task in tasks])
        loop = Loop(
            joint,
            splits,
            extension_data.schedule,
            _Stated(weights),
            Objective(goals),
            metrics,
            seed_from(extension_data.seed, "extend", HOME),
            world,
            extension_data.folder / HOME,
            {},
            Activations(ActivationsConfig(), world.device),
        )
        progress = loop.run(extension_data.controls("all parameters (old tasks: agreement with the model before)"))
        joint.load_state_dict(progress.best_state)
        for key, head in plain.items():
            joint.heads[key] = head
        model.load_state_dict(joint.state_dict())
        return dict.fromkeys(new, progress.best_epoch)


@final
class _Tempered(nn.Module):
    """A head whose logits are divided by a temperature."""

    def __init__(self, head: nn.Module, temperature: float) -> None:
        super().__init__()
        self.head = head
        self._temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        raw: Tensor = self.head(features)
        return raw / self._temperature


@final
class _Stated(Weighting):
    """Weights as stated, zeros among them; no task is there to be balanced."""

    def __init__(self, weights: Tensor) -> None:
        self._stated = weights

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        return zero_absent(self._stated, present, losses)
