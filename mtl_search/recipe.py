"""Recipe and Component: one fully concrete choice, plain data, with its content key.

The search space samples recipes, workers carry them out, MLflow shows them. Nothing here knows a variant by name.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Le, Lt

Scalar = bool | int | float | str | None

LARGEST = 2**31 - 1
"""Of a whole number that has no bound of its own."""
PositiveInt = Annotated[int, Ge(1), Le(LARGEST)]
NonNegativeInt = Annotated[int, Ge(0), Le(LARGEST)]
Count = Annotated[int, Ge(1), Le(1000)]
"""Of things that are made one by one, such as the blocks of a backbone."""
CountOrZero = Annotated[int, Ge(0), Le(1000)]
WidthOrZero = Annotated[int, Ge(0), Le(2**24)]
Width = Annotated[int, Ge(1), Le(2**24)]
"""Of a layer; memory grows with it, and often with its square."""
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
ProperFraction = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Spread:
    """Marks a constructor parameter that may hold one number per task.

    A domain written for such a parameter is spread over the tasks, one sampled number each.

    Attributes:
        skip_first: The first task is the reference and gets no number of its own.
    """

    skip_first: bool = False


PerTask = Annotated[float | dict[str, float], Spread()]
PerTaskButFirst = Annotated[float | dict[str, float], Spread(skip_first=True)]


@dataclass(frozen=True)
class Component:
    """A variant of a family by name, with every parameter it was given.

    Attributes:
        name: Key in the family's dict, or ``package.module:Name`` for a user's own variant.
        params: Keyword arguments of the variant's constructor; plain JSON values.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(content_key(self.to_dict()))

    def to_dict(self) -> dict[str, Any]:
        """The component as ``{name: params}``, the form of the study file."""
        return {self.name: dict(self.params)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Component":
        """Inverse of ``to_dict``."""
        ((name, params),) = data.items()
        return cls(name, dict(params or {}))


@dataclass(frozen=True)
class Schedule:
    """Learning rate, freezing and length of one training stage.

    Attributes:
        epochs: Passes over the training split; 0 trains nothing.
        batch_size: Rows of a step over all workers together.
        optimizer: Variant of ``transfer.OPTIMIZERS``; holds the peak learning rate.
        decay: Variant of ``transfer.DECAYS``: learning rate over the steps of the stage.
        unfreezing: Variant of ``transfer.UNFREEZINGS``: in which epoch each block begins to learn.
        clip_norm: Largest gradient norm of a step; None for no clipping.
        temperature: Of sampling between data sets: 1 in proportion to their rows, large values evenly.
        layer_decay: The learning rate of block l of L is that of the heads times ``layer_decay ** (L - l + 1)``.
        l2_sp: Strength of the penalty that pulls the blocks towards the base; see ``transfer.L2SP``.
        average: Decay of the moving average of the weights, which is what is validated and kept; 0 for none.
        patience: Epochs without a better score on validation after which the stage ends; None for never.
    """

    epochs: NonNegativeInt = 10
    batch_size: PositiveInt = 64
    optimizer: Component = field(default_factory=lambda: Component("adamw"))
    decay: Component = field(default_factory=lambda: Component("cosine"))
    unfreezing: Component = field(default_factory=lambda: Component("all"))
    clip_norm: PositiveFloat | None = None
    temperature: Annotated[float, Ge(1)] = 1.0
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    l2_sp: NonNegativeFloat = 0.0
    average: ProperFraction = 0.0
    patience: PositiveInt | None = None

    def to_dict(self) -> dict[str, Any]:
        """The schedule as plain JSON values, components as ``{name: params}``."""
        parts = {name: part.to_dict() for name, part in vars(self).items() if isinstance(part, Component)}
        return {**asdict(self), **parts}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Schedule":
        """Inverse of ``to_dict``."""
        names = {part.name for part in fields(cls) if part.type is Component} & data.keys()
        return cls(**{**data, **{name: Component.from_dict(data[name]) for name in names}})


@dataclass(frozen=True)
class Recipe:
    """One concrete choice of everything the search decides.

    Attributes:
        sharing: What the tasks have in common, block by block.
        fusion: How the single-task models become one start.
        weighting: How the task losses become one update.
        single_task: Schedule of fine-tuning the base on one task.
        joint: Schedule of training the fused model on all tasks.
        base: Where the backbone's starting parameters come from.
        transfer: What of the base the tasks use.
        auxiliary: How source tasks take part in joint training.
        alignment: How joint training draws the tasks' data sets together.
    """

    sharing: Component
    fusion: Component
    weighting: Component
    single_task: Schedule
    joint: Schedule
    base: Component = field(default_factory=lambda: Component("random"))
    transfer: Component = field(default_factory=lambda: Component("parameters"))
    auxiliary: Component = field(default_factory=lambda: Component("none"))
    alignment: Component = field(default_factory=lambda: Component("none"))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values, in the form of the study file's ``space``."""
        return {section.name: getattr(self, section.name).to_dict() for section in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Inverse of ``to_dict``."""
        parts: dict[str, Any] = {
            name: (Schedule if name in ("single_task", "joint") else Component).from_dict(part)
            for name, part in data.items()
        }
        return cls(**parts)

    @property
    def key(self) -> str:
        """Content key: equal for equal recipes, in any process."""
        return content_key(self.to_dict())

    @property
    def components(self) -> list[Component]:
        """Every component, those inside the schedules among them."""
        parts = [getattr(self, section.name) for section in fields(self)]
        inner = [vars(part).values() if isinstance(part, Schedule) else [part] for part in parts]
        return [part for some in inner for part in some if isinstance(part, Component)]

    def flat(self) -> dict[str, Scalar]:
        """One readable level, e.g. ``{"sharing": "hard", "sharing.depth": 2, "joint.optimizer.lr": 0.001}``."""
        flat: dict[str, Scalar] = {}
        for section in fields(self):
            part = getattr(self, section.name)
            if isinstance(part, Schedule):
                part = {name: getattr(part, name) for name in part.__dataclass_fields__}
            flat |= _flatten(part, section.name)
        return flat


def _flatten(value: Any, place: str) -> dict[str, Scalar]:
    if isinstance(value, Component):
        return {place: value.name, **_flatten(value.params, place)}
    if isinstance(value, Mapping):
        parts = [_flatten(inner, f"{place}.{name}") for name, inner in value.items()]
        return {name: scalar for part in parts for name, scalar in part.items()}
    return {place: json.dumps(value) if isinstance(value, list) else value}


def content_key(*parts: Any) -> str:
    """Hash of plain JSON values: 24 hexadecimal characters, the same in every process and on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def seed_from(*parts: Any) -> int:
    """A seed in [0, 2**31) that depends on the parts alone."""
    return int(content_key(*parts)[:12], 16) % 2**31
