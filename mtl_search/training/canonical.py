"""Canonical: the one form of all recipes that come to the same model.

A part of a recipe that has no effect beside the other parts takes its family's plain form before any key is made, so
that recipes which train the same model are one recipe. Each variant says itself where it changes nothing (``idle``) and
which simpler variant does the same (``simpler``); nothing here names a variant. The search asks before it samples a
parameter, and again for every recipe it has sampled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from mtl_search.alignment import ALIGNMENTS
from mtl_search.errors import ConfigError
from mtl_search.fusion import FUSIONS
from mtl_search.models.sharing import SHARINGS
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.resolve_affinity import TaskGroups, affinity_measure, resolve_affinity
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.space.binding import SCHEDULE_FAMILIES, bind_component
from mtl_search.space.search_space import COMPONENTS, SCHEDULES
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.training.families import TRAINING_FAMILIES
from mtl_search.training.workspace import Workload
from mtl_search.transfer import AUXILIARIES, OPTIMIZERS, TRANSFERS, UNFREEZINGS
from mtl_search.transfer.unfreezing import Copy
from mtl_search.variants.building import Equal, build
from mtl_search.weighting import WEIGHTINGS

LEAST_EPOCHS = "joint.epochs, at least"
"""What is known of the length of joint training before it is sampled."""
_OF_BLOCKS = ("layer_decay", "l2_sp")
"""Parameters of a schedule that count for blocks which learn."""
_OF_BATCHES = ("batch_size", "temperature")
"""Parameters of a schedule that say what a batch holds."""
T = TypeVar("T")


class Undecided(Exception):  # noqa: N818  an answer that is to come, not an error
    """A question about a recipe whose answer depends on a part that is not known yet."""


class KnownValues(dict[str, Any]):
    """What is known of a recipe by key path: sections, and the parameters of schedules.

    Raises:
        Undecided: A part is asked for that is not known yet.
    """

    def __missing__(self, place: str) -> Any:
        raise Undecided(place)


class Canonical:
    """Gives the recipes of one study their canonical form.

    Args:
        workload: Data, tasks and backbone.
        groups: Groups of tasks by the kind of affinity they were measured with.
        single_task: Schedule of the study's baselines. Recipes that start from the base alone take it, since their
            single-task models are baselines only; None to leave them theirs.
    """

    def __init__(
        self,
        workload: Workload,
        groups: Mapping[str, TaskGroups] | None = None,
        single_task: Schedule | None = None,
    ) -> None:
        self._workload, self._groups, self._single = workload, groups or {}, single_task
        self._tasks = tuple(task.name for task in workload.data.tasks)
        self._sources = tuple(task.name for task in workload.data.source_tasks)
        self._defaults: dict[tuple[str, str], Component] = {}
        self._plans: dict[tuple[Component, tuple[str, ...]], SharingPlan | None] = {}
        # Single-task models that differ in their blocks have batch norm's statistics estimated anew, wherever joint
        # training starts.
        self._norms = any(name.endswith("running_mean") for name in workload.base)

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe in its canonical form: two recipes have the same one only where both train the same model.

        Up to rounding: an average with even coefficients rounds otherwise than the plain one, and AdamW looks at the
        length of gradients where they are tiny.
        """
        if self._single is not None and self.idle("single_task", None, KnownValues(fusion=recipe.fusion)):
            recipe = replace(recipe, single_task=self._single)
        known = _known_values(BuiltRecipe(recipe).applied)
        self._simplify_sharing(known)
        self._simplify_schedule("single_task", known)
        groups = self._fused(known)
        self._simplify("fusion", FUSIONS, known, lambda each: each.simpler(groups) if groups is not None else None)
        self._simplify_schedule("joint", known)
        self._simplify("weighting", WEIGHTINGS, known, lambda each: each.simpler(self._tasks))
        self._simplify("alignment", ALIGNMENTS, known, lambda each: None)
        self._simplify_transfer(known)
        schedules: dict[str, Any] = {
            section: Schedule(**{each.name: known[f"{section}.{each.name}"] for each in fields(Schedule)})
            for section in SCHEDULES
        }
        return replace(recipe, **{name: known[name] for name in COMPONENTS}, **schedules)

    def idle(self, place: str, part: Component | None, known: KnownValues) -> bool:
        """Whether a part of a recipe has no effect beside the others.

        Args:
            place: Key path in the recipe: a section, or a parameter of a schedule.
            part: Asked of a variant: whether it does what its family's plain one does, whatever its parameters. None:
                whether all that may stand at the place comes to the same.
            known: What is known of the recipe, by key path.

        Raises:
            Undecided: That depends on what is not known yet.
        """
        section, _, name = place.partition(".")
        if name:
            return part is None and self._idle_in_schedule(section, name, known)
        if part is None and section == "base":
            return build(TRANSFERS, known["transfer"]).fresh
        if part is None and section == "single_task":
            return self._single is not None and not self._norms and build(FUSIONS, known["fusion"]).from_base
        if part is not None and section == "fusion":
            return self._fuses_alike(part, known)
        if part is not None and section == "weighting":
            return self._weighs_alike(part, known)
        return part is not None and section == "alignment" and self._aligns_nothing(known)

    def _fuses_alike(self, part: Component, known: KnownValues) -> bool:
        """Whether a fusion gives the start that every fusion gives that is not from the base."""
        fusion = _try_build(FUSIONS, part)
        if fusion is None or fusion.from_base:
            return False
        return self._fused(known) == [] or self._still("single_task", known)

    def _weighs_alike(self, part: Component, known: KnownValues) -> bool:
        """Whether a weighting comes to what equal weights give."""
        if len(self._tasks) == 1 or known.get("joint.epochs") == 0:
            return True
        weighting = _try_build(WEIGHTINGS, part) if part.name in WEIGHTINGS else None
        return weighting is not None and weighting.idle(_JointStage(self, known))

    def _aligns_nothing(self, known: KnownValues) -> bool:
        """Whether an alignment reaches nothing that learns but what is its own."""
        if known.get("joint.epochs") == 0:
            return True
        # What an alignment learns for itself counts in the length that gradients are clipped to.
        unclipped = known.get("joint.clip_norm", 0.0) is None
        return unclipped and self._still("joint", known) and self._wires_plainly(known)

    def _idle_in_schedule(self, section: str, name: str, known: KnownValues) -> bool:
        """Whether a parameter of a schedule has no effect."""
        if name == "epochs":
            return False
        if name == "temperature" and (section == "single_task" or len(self._datasets(known)) == 1):
            return True
        if known.get(f"{section}.epochs") == 0:
            fusion = _try_build(FUSIONS, known["fusion"])
            reads = section == "joint" and (fusion is None or fusion.reads_batches)
            return not (reads and name in _OF_BATCHES)
        if name == "unfreezing":
            return build(TRANSFERS, known["transfer"]).frozen
        return name in _OF_BLOCKS and self._still(section, known)

    def _simplify(
        self,
        place: str,
        family: Mapping[str, Callable[..., T]],
        known: KnownValues,
        simpler: Callable[[T], Equal[T] | None],
    ) -> None:
        """Put the variant at a place into its simplest form."""
        if self.idle(place, known[place], known):
            known[place] = self._plain(place)
        while known[place].name in family and (variant := _try_build(family, known[place])) is not None:
            try:
                equal = simpler(variant)
            except ConfigError:  # the parameters do not go together, which whoever trains it will say
                return
            if equal is None:
                return
            kind, params = equal
            name = next(name for name, constructor in family.items() if constructor is kind)
            found = self._bound(place, name, params)
            if found == known[place]:
                return
            known[place] = found

    def _simplify_sharing(self, known: KnownValues) -> None:
        """Put the sharing into its simplest form, with everything in it known."""
        known["sharing"] = self._settled(known["sharing"])
        if len(self._tasks) > 1 and self._plan(known, ()) is not None:
            blocks = self._workload.blocks
            self._simplify("sharing", SHARINGS, known, lambda each: each.simpler(self._tasks, blocks))

    def _simplify_schedule(self, section: str, known: KnownValues) -> None:
        """Give the parameters of a schedule that have no effect their default."""
        epochs, blocks = known[f"{section}.epochs"], self._workload.blocks
        copies = self._copies(section, known)
        if epochs and copies is not None:
            place = f"{section}.unfreezing"
            self._simplify(place, UNFREEZINGS, known, lambda each: each.simpler(copies, blocks, epochs))
        if (known[f"{section}.patience"] or 0) >= epochs:
            known[f"{section}.patience"] = None
        for each in fields(Schedule):
            place = f"{section}.{each.name}"
            # What is transferred has said which unfreezing that is: the plain one would be another.
            if self._idle_in_schedule(section, each.name, known) and not (epochs and each.name == "unfreezing"):
                known[place] = self._plain(place) if each.name in SCHEDULE_FAMILIES else each.default

    def _simplify_transfer(self, known: KnownValues) -> None:
        """Name what is transferred by what the tasks have of it."""
        plain = self._plain("transfer")
        if build(TRANSFERS, known["transfer"]).fresh:
            known["transfer"], known["base"] = plain, self._plain("base")
        if known["transfer"] == plain and all(self._still(section, known) for section in SCHEDULES):
            frozen = next(name for name, kind in TRANSFERS.items() if kind.frozen)
            known["transfer"] = self._bound("transfer", frozen, {})

    def _plain(self, place: str) -> Component:
        """The plain variant of the family at a place: its first, with its constructor's defaults."""
        return self._bound(place, next(iter(TRAINING_FAMILIES[place.rpartition(".")[2]])), {})

    def _bound(self, place: str, name: str, params: Mapping[str, Any]) -> Component:
        """A variant of the family at a place with all of its parameters, those not given by their defaults."""
        known = self._defaults.get((place, name)) if not params else None
        found = known or bind_component(Component(name, params), TRAINING_FAMILIES[place.rpartition(".")[2]], place, [])
        if not params:
            self._defaults[place, name] = found
        return found

    def _settled(self, sharing: Component) -> Component:
        """A sharing with what it waits for, where that was measured."""
        return resolve_affinity(sharing, self._groups) if affinity_measure(sharing) in self._groups else sharing

    def _plan(self, known: KnownValues, sources: tuple[str, ...]) -> SharingPlan | None:
        """Who uses and starts which copy; None where that is not known, or the sharing does not fit."""
        sharing: Component = known["sharing"]
        key = sharing, sources
        if key not in self._plans:
            self._plans[key] = None
            try:
                sharing = self._settled(sharing)
                if not affinity_measure(sharing):
                    self._plans[key] = build(SHARINGS, sharing).plan(self._tasks, self._workload.blocks, sources)
            except ConfigError:  # as whoever trains it will say
                pass
        return self._plans[key]

    def _joined(self, known: KnownValues) -> list[tuple[str, ...]]:
        """The source tasks that joint training may take along; all and none of them where that is not known."""
        if not self._sources:
            return [()]
        if "auxiliary" not in known:
            return [(), self._sources]
        return [self._sources if build(AUXILIARIES, known["auxiliary"]).trains else ()]

    def _fused(self, known: KnownValues) -> list[tuple[str, ...]] | None:
        """The groups of tasks whose models are fused with each other; None where that is not known."""
        plans = [self._plan(known, sources) for sources in self._joined(known)]
        if any(plan is None for plan in plans):
            return None
        starts = (tuple(start) for plan in plans if plan for block in plan.starts for start in block)
        return list(dict.fromkeys(start for start in starts if len(start) > 1))

    def _copies(self, section: str, known: KnownValues) -> list[Copy] | None:
        """Every copy of a block in a stage's model; None where that is not known."""
        if section == "single_task":
            return [(number + 1, True) for number in range(self._workload.blocks)]
        plans = [self._plan(known, sources) for sources in self._joined(known)]
        if any(plan is None for plan in plans):
            return None
        return [
            (number, len(group) >= min(len(plan.tasks), 2))
            for plan in plans
            if plan
            for number, block in enumerate(plan.groups, 1)
            for group in block
        ]

    def _still(self, section: str, known: KnownValues) -> bool:
        """Whether it is known that no block learns in a stage."""
        if build(TRANSFERS, known["transfer"]).frozen or known.get(f"{section}.epochs") == 0:
            return True
        epochs, unfreezing = (known.get(f"{section}.{name}") for name in ("epochs", "unfreezing"))
        if epochs is None or unfreezing is None or (variant := _try_build(UNFREEZINGS, unfreezing)) is None:
            return False
        blocks = self._workload.blocks
        starts = [variant.start(n + 1, blocks, shared=shared) for n in range(blocks) for shared in (True, False)]
        return all(start is None or start > epochs for start in starts)

    def _wires_plainly(self, known: KnownValues) -> bool:
        sharing = _try_build(SHARINGS, known["sharing"])
        return sharing is not None and sharing.wires_plainly()

    def _datasets(self, known: KnownValues) -> set[str]:
        """The data sets that joint training may take rows from."""
        names = (*self._tasks, *max(self._joined(known), key=len))
        return {self._workload.task(name).dataset for name in names}


@dataclass(frozen=True)
class _JointStage:
    """What a weighting may ask, see ``weighting.base``; an answer that is not known yet raises ``Undecided``."""

    forms: Canonical
    known: KnownValues

    def longer_than(self, epochs: int) -> bool:
        least: int = self.known.get(LEAST_EPOCHS, 0)
        return least > epochs or bool(self.known["joint.epochs"] > epochs)

    @property
    def apart(self) -> bool:
        plans = [self.forms._plan(self.known, sources) for sources in self.forms._joined(self.known)]
        alone = all(plan is not None and all(len(g) == 1 for block in plan.groups for g in block) for plan in plans)
        return alone and self.forms._wires_plainly(self.known)

    @property
    def complete(self) -> bool:
        return self.forms._workload.data.complete

    @property
    def scale_free(self) -> bool:
        if self.known["joint.clip_norm"] is not None or self.known["joint.l2_sp"]:
            return False
        optimizer = _try_build(OPTIMIZERS, self.known["joint.optimizer"])
        return optimizer is not None and optimizer.scale_free


def _known_values(recipe: Recipe) -> KnownValues:
    """All of a recipe by key path."""
    known = KnownValues({name: getattr(recipe, name) for name in COMPONENTS})
    for section in SCHEDULES:
        schedule = getattr(recipe, section)
        known.update({f"{section}.{each.name}": getattr(schedule, each.name) for each in fields(Schedule)})
    return known


def _try_build(family: Mapping[str, Callable[..., T]], component: Component) -> T | None:
    """The variant; None where its parameters do not go together, as whoever trains it will say."""
    try:
        return build(family, component)
    except ConfigError:
        return None
