"""Jobs of a recipe: the base it starts from, the single-task models it fuses, its joint stage.

Everything that trains is a job of the pool, and equal jobs have equal keys, so that nothing is trained twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mtl_search.alignment import ALIGNMENTS
from mtl_search.data.batching import rows_of_batch
from mtl_search.errors import StudyError
from mtl_search.fusion import FUSIONS
from mtl_search.models.sharing import SHARINGS
from mtl_search.models.sharing.resolve_affinity import resolve_affinity
from mtl_search.pool.jobs import Job
from mtl_search.recipe import Component, Recipe, Schedule, content_key
from mtl_search.results.objective import Objective
from mtl_search.space.binding import Family
from mtl_search.storage.checkpoint import MODEL_FILE, is_intact, save_base, state_key
from mtl_search.storage.files import read_json, write_json
from mtl_search.storage.paths import StoragePath
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.training.canonical import Canonical
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import Stage
from mtl_search.training.workspace import Workload
from mtl_search.transfer import AUXILIARIES
from mtl_search.transfer.bases.base import Fetch, no_models
from mtl_search.transfer.bases.learned import LearnedBase
from mtl_search.transfer.bases.random import RandomBase
from mtl_search.weighting import WEIGHTINGS


@dataclass(frozen=True)
class Start:
    """What the single-task models of a recipe start from.

    Attributes:
        key: Content key of the base.
        folder: Where it lies; empty for random parameters.
        job: What makes it; None where it is there.
    """

    key: str = ""
    folder: str = ""
    job: Job | None = None


class Jobs:
    """Makes the jobs of a study's recipes.

    Args:
        workload: Data, backbone and seed.
        folder: The study's.
        fetch: Gives the trunk of an earlier model.
        run: Which fresh seed the jobs are of; 0 for the study's own.

    Attributes:
        objective: What trials are judged by; knows the baselines once there are any.
        groups: Groups of tasks by the kind of affinity they were measured with.
    """

    def __init__(self, workload: Workload, folder: StudyFolder, fetch: Fetch = no_models, run: int = 0) -> None:
        self._workload, self._folder, self._fetch, self._run = workload.seeded(run), folder, fetch, run
        self._workload_key = self._workload.key
        self._tasks = tuple(task.name for task in workload.data.tasks)
        self._goals = task_goals(workload.data)
        self._starts: dict[str, Start] = {}
        self.objective = Objective(self._goals)
        self.groups: Mapping[str, list[list[str]]] = {}

    def start(self, recipe: Recipe) -> Start:
        """The base of a recipe; one that is not learned is written where workers find it."""
        parts = BuiltRecipe(recipe)
        if parts.transfer.fresh or isinstance(parts.base, RandomBase):
            return Start()
        name = content_key(recipe.base.to_dict())
        if name not in self._starts:
            self._starts[name] = self._learned(recipe) if isinstance(parts.base, LearnedBase) else self._found(recipe)
        return self._starts[name]

    def singles(self, recipe: Recipe) -> list[Job]:
        """The single-task stages of a recipe, a job for each task; they may need the job of its ``start``."""
        return [self.single(recipe, task) for task in self._tasks]

    def single(self, recipe: Recipe, task: str) -> Job:
        """The single-task stage of one task; it may need the job of the recipe's ``start``."""
        recipe, start = BuiltRecipe(recipe).applied, self.start(recipe)
        key = content_key("single_task", self._workload_key, start.key, task, recipe.single_task.to_dict())
        objective, folder = Objective({task: self._goals[task]}, task), str(self._folder.cache / key)
        stage = Stage(key, "single_task", (task,), recipe, folder, objective, base=start.folder, run=self._run)
        return Job(key, stage, () if start.job is None else (start.job.key,))

    def from_base(self, recipe: Recipe, task: str) -> Job:
        """One task trained from the base with the recipe's joint schedule, as many epochs as the recipe trains in all.

        It may need the job of the recipe's ``start``.
        """
        cold = BuiltRecipe(recipe).fusion.from_base
        schedule = self._alone(recipe, task)
        before = 0 if cold else recipe.single_task.epochs
        return self.single(replace(recipe, single_task=replace(schedule, epochs=schedule.epochs + before)), task)

    def continued(self, recipe: Recipe, task: str) -> list[Job]:
        """One task fine-tuned and then trained on with the recipe's joint schedule, nothing shared: two jobs.

        The first may need the job of the recipe's ``start``.
        """
        before = self.single(recipe, task)
        applied, start = BuiltRecipe(recipe).applied, self.start(recipe)
        # What of a recipe has no effect on a task alone: each family's first variant stands for it.
        alone = replace(
            applied,
            joint=self._alone(applied, task),
            sharing=_first_of(SHARINGS),
            fusion=_first_of(FUSIONS),
            weighting=_first_of(WEIGHTINGS),
            alignment=_first_of(ALIGNMENTS),
            auxiliary=_first_of(AUXILIARIES),
        )
        decides = (alone.single_task.to_dict(), alone.joint.to_dict())
        key = content_key("continued", self._workload_key, start.key, task, *decides)
        objective, folder = Objective({task: self._goals[task]}, task), str(self._folder.cache / key)
        singles = {task: before.payload.folder}
        stage = Stage(key, "joint", (task,), alone, folder, objective, singles, base=start.folder, run=self._run)
        return [before, Job(key, stage, (*before.needs, before.key))]

    def _alone(self, recipe: Recipe, task: str) -> Schedule:
        """The joint schedule for one task: in a step as many of its data set's rows as joint training takes."""
        data, tasks = self._workload.data, (*self._tasks, *self._workload.sources_of(recipe))
        used = {self._workload.task(name).dataset for name in tasks}
        sizes = {name: data.splits["train"][name].rows for name in data.datasets if name in used}
        rows = rows_of_batch(sizes, recipe.joint.batch_size, recipe.joint.temperature)
        return replace(recipe.joint, batch_size=rows[self._workload.task(task).dataset], temperature=1.0)

    def start_of(self, recipe: Recipe) -> str:
        """What joint training of a recipe starts from, in words: trials compare at the same epoch only with their like.

        A model that starts from the base alone is behind at first one that starts from fine-tuned models, and so is one
        whose base is fresh behind one whose base has learned: the epochs that the others had before do not count.
        """
        fused = not BuiltRecipe(recipe).fusion.from_base and recipe.single_task.epochs > 0
        base = "a fresh base" if self.start(recipe) == Start() else "a base that has learned"
        return f"fine-tuned from {base}" if fused else base

    def of(self, recipe: Recipe) -> list[Job]:
        """All jobs of a recipe in its canonical form; the joint stage's is the last."""
        return self.of_tried(Canonical(self._workload, self.groups).of(recipe))

    def of_tried(self, recipe: Recipe) -> list[Job]:
        """All jobs of a recipe as a trial tried it, which an earlier version may have put into another form."""
        recipe = BuiltRecipe(recipe).transfer.applied(
            replace(recipe, sharing=resolve_affinity(recipe.sharing, self.groups))
        )
        start, singles = self.start(recipe), self.singles(recipe)
        # Of base and transfer only what they come to counts: the start, and schedules that keep to it.
        decides = {name: part for name, part in recipe.to_dict().items() if name not in ("base", "transfer")}
        key = content_key("joint", self._workload_key, start.key, decides, self.objective.to_dict())
        sources = self._workload.sources_of(recipe)
        stage = Stage(
            key,
            "joint",
            (*self._tasks, *sources),
            recipe,
            str(self._folder.trials / key),
            self.objective,
            {job.payload.tasks[0]: job.payload.folder for job in singles},
            base=start.folder,
            sources=sources,
            run=self._run,
        )
        before = [*([start.job] if start.job else []), *singles]
        return [*before, Job(key, stage, tuple(job.key for job in before), lockstep=True)]

    def _learned(self, recipe: Recipe) -> Start:
        sources = self._workload.data.source_tasks
        key = content_key("pretrain", self._workload_key, [task.name for task in sources], recipe.base.to_dict())
        folder, goals = str(self._folder.cache / key), task_goals(self._workload.data, sources)
        names = tuple(task.name for task in sources)
        stage = Stage(key, "pretrain", names, recipe, folder, Objective(goals), run=self._run)
        return Start(key, folder, Job(key, stage))

    def _found(self, recipe: Recipe) -> Start:
        # What it was when the study began counts: a file may change, and an alias may come to name another model.
        file = self._folder.bases_file
        known = read_json(file) if file.exists() else {}
        name = content_key(recipe.base.to_dict())
        if name not in known or not is_intact(self._base_folder(known[name]) / MODEL_FILE):
            state = self._workload.base_state(recipe.base, self._fetch)
            key = state_key(state)
            folder = self._base_folder(known.setdefault(name, key))
            if key != known[name]:
                raise StudyError(f"study {self._folder.name} lacks the base that it began with: {folder / MODEL_FILE}")
            save_base(folder, state)
            write_json(file, known)
        return Start(known[name], str(self._base_folder(known[name])))

    def _base_folder(self, key: str) -> StoragePath:
        return self._folder.cache / f"base-{key}"


def _first_of(family: Family) -> Component:
    return Component(next(iter(family)))
