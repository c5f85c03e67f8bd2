"""Places: where a weighting can take the tasks' gradients, given what a sharing leaves them in common.

Asked by the training step, and by ``pairs`` for every pair of a search space before anything trains.
"""

from collections.abc import Collection
from dataclasses import dataclass

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.weighting.base import GradientLocation, Weighting


@dataclass(frozen=True)
class SharedParts:
    """What the tasks of a model have in common, as far as balancing goes.

    Attributes:
        tasks: How many there are.
        representation: Whether there is a tensor that they share and part at.
        parameters: Whether they share parameters.
        samples: Whether all have the same data set.
    """

    tasks: int
    representation: bool
    parameters: bool
    samples: bool

    @classmethod
    def of(cls, model: MultiTaskModel, tasks: Collection[str]) -> "SharedParts":
        """Read it off a model, for those of its tasks that are balanced."""
        datasets = {task.dataset for task in model.tasks if task.name in tasks}
        return cls(len(tasks), model.has_representation, bool(model.shared_parameters()), len(datasets) == 1)


def gradient_location(weighting: Weighting, common: SharedParts) -> GradientLocation:
    """Where a weighting takes the gradients in a model: where it was told to, else the cheapest place that fits both.

    Raises:
        ConfigError: The sharing leaves nothing to balance, or no place fits.
    """
    if weighting.places[0] == "jacobian_free" or common.tasks == 1:
        return "jacobian_free"
    reasons = {place: _hindrance(place, weighting, common) for place in weighting.places}
    wanted = [place for place in weighting.places if weighting.at in ("auto", place)]
    for place in wanted:
        if not reasons[place]:
            return place
    rule = f"must be where the tasks' gradients can be compared: {reasons[wanted[-1]]}"
    others = tuple(place for place, reason in reasons.items() if not reason)
    raise ConfigError([Problem("weighting.at", rule, weighting.at, others)])


def _hindrance(place: GradientLocation, weighting: Weighting, common: SharedParts) -> str:
    """Why gradients cannot be taken there; empty if they can."""
    if place == "shared":
        return "" if common.parameters else "this sharing gives the tasks no parameter in common"
    if not common.representation:
        return "this sharing gives the tasks no representation in common"
    if weighting.cross_terms and not common.samples:
        return (
            "at the representation, gradients of tasks with data sets of their own stand on different samples, so no "
            "conflict between them can be seen"
        )
    return ""
