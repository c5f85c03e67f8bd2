"""Jobs of a recipe: equal work has one key, other work never shares one, and a study keeps the base it began with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_studies import recipe
from torch import Tensor

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import load_data
from mtl_search.errors import StudyError
from mtl_search.recipe import Component, Recipe, content_key
from mtl_search.search.jobs import Jobs
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.workspace import Workload

TARGETS = {
    "kind": {"kind": "classification", "target": "target"},
    "petal": {"kind": "regression", "target": "petal width (cm)"},
    "length": {"kind": "regression", "target": "petal length (cm)"},
}
INPUTS = ["sepal length (cm)", "sepal width (cm)"]
MLP = Component("mlp", {"width": 4, "depth": 2})


def workload_of(sources: set[str]) -> Workload:
    config = DataConfig.model_validate({"source": {"sklearn": {"name": "iris", "inputs": INPUTS}}})
    tasks, others = (
        {name: TaskConfig.model_validate(task) for name, task in TARGETS.items() if (name in sources) is of_source}
        for of_source in (False, True)
    )
    return Workload.prepare(load_data(config, tasks, 0, others), MLP, 0, "fp32")


def jobs_of(folder: Path, sources: set[str] | None = None) -> Jobs:
    study = StudyFolder(folder, "tiny")
    study.path.mkdir(parents=True, exist_ok=True)
    return Jobs(workload_of(sources or set()), study)


def with_parts(**parts: Component) -> Recipe:
    return replace(recipe(), **parts)


def test_bases_learned_from_other_source_tasks_have_other_keys(tmp_path: Path) -> None:
    base = with_parts(base=Component("pretrain", {"epochs": 1}))
    one, other = (jobs_of(tmp_path, sources).start(base) for sources in ({"length", "petal"}, {"length"}))
    assert one.key != other.key


def test_a_transfer_that_leaves_the_base_behind_is_the_same_job_whatever_the_base(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, {"length"})
    bases = [Component("random"), *(Component("pretrain", {"epochs": epochs}) for epochs in (1, 2))]
    fresh = [jobs.of(with_parts(base=base, transfer=Component("structure"))) for base in bases]
    plain = jobs.of(with_parts())
    assert {job.key for of in fresh for job in of} == {job.key for job in plain}
    learned = jobs.of(with_parts(base=bases[1]))
    assert not {job.key for job in learned} & {job.key for job in plain}
    assert [job.payload.kind for job in learned] == ["pretrain", "single_task", "single_task", "joint"]
    assert all(learned[0].key in job.needs for job in learned[1:])


def test_frozen_features_are_trained_with_schedules_that_never_let_blocks_learn(tmp_path: Path) -> None:
    *singles, joint = jobs_of(tmp_path).of(with_parts(transfer=Component("features")))
    assert {job.payload.recipe.single_task.unfreezing.name for job in singles} == {"never"}
    assert joint.payload.recipe.joint.unfreezing.name == "never"


def checkpoint(path: Path, value: float) -> None:
    state: dict[str, Tensor] = workload_of(set()).base_state(Component("random"))
    save_file({name: torch.full_like(part, value) for name, part in state.items()}, path)


def test_a_study_goes_on_with_the_base_that_it_began_with(tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    of_file: Any = with_parts(base=Component("checkpoint", {"path": str(file)}))
    checkpoint(file, 0.25)
    began = jobs_of(tmp_path).start(of_file)
    checkpoint(file, 0.5)
    assert jobs_of(tmp_path).start(of_file) == began
    for name in Path(began.folder).iterdir():
        name.unlink()
    with pytest.raises(StudyError, match="lacks the base that it began with"):
        jobs_of(tmp_path).start(of_file)


def test_a_control_starts_where_the_recipe_does_and_shares_nothing(tmp_path: Path) -> None:
    jobs, of = jobs_of(tmp_path), with_parts(sharing=Component("soft"), fusion=Component("ties"))
    single, continued = jobs.continued(of, "petal")
    assert single.key in {job.key for job in jobs.of(of)}, "the fine-tuned model is the recipe's own"
    assert continued.needs == (single.key,)
    stage = continued.payload
    assert (stage.kind, stage.tasks, stage.singles) == ("joint", ("petal",), {"petal": single.payload.folder})
    assert stage.recipe.joint == of.joint
    assert stage.recipe.sharing == Component("hard")
    other = jobs.continued(with_parts(weighting=Component("uncertainty")), "petal")
    assert [job.key for job in other] == [single.key, continued.key], "what is between tasks makes no other control"


def test_a_control_from_the_base_has_the_joint_schedule_and_as_many_epochs_in_all(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    schedule = jobs.from_base(recipe(), "petal").payload.recipe.single_task
    assert schedule == replace(recipe().joint, epochs=recipe().single_task.epochs + recipe().joint.epochs)
    cold = with_parts(fusion=Component("none"))
    assert jobs.from_base(cold, "petal").payload.recipe.single_task == recipe().joint


def test_a_control_takes_as_many_rows_of_its_data_set_in_a_step_as_joint_training_does(tmp_path: Path) -> None:
    sources = {name: {"python": {"function": f"{__name__}:{name}_rows"}} for name in ("large", "small")}
    tasks = {name: TaskConfig(kind="regression", target=["y"], data=name) for name in sources}
    data = load_data(DataConfig.model_validate({"sources": sources}), tasks, 0)
    study = StudyFolder(tmp_path, "two")
    study.path.mkdir(parents=True)
    jobs = Jobs(Workload.prepare(data, MLP, 0, "fp32"), study)
    of = replace(recipe(), joint=replace(recipe().joint, batch_size=40))
    assert [jobs.from_base(of, task).payload.recipe.single_task.batch_size for task in tasks] == [30, 10]
    even = replace(of, joint=replace(of.joint, temperature=1e6))
    found = [jobs.continued(even, task)[-1].payload.recipe.joint for task in tasks]
    assert [(schedule.batch_size, schedule.temperature) for schedule in found] == [(20, 1.0), (20, 1.0)]


def _rows(number: int) -> dict[str, dict[str, np.ndarray]]:
    values = np.random.default_rng(0).normal(size=(number, 3))
    return {"train": {"a": values[:, 0], "b": values[:, 1], "y": values[:, 2]}}


def large_rows() -> dict[str, dict[str, np.ndarray]]:
    return _rows(300)


def small_rows() -> dict[str, dict[str, np.ndarray]]:
    return _rows(100)


def test_recipes_that_train_one_model_are_the_same_jobs_and_no_other_key_has_changed(tmp_path: Path) -> None:
    jobs, workload = jobs_of(tmp_path), workload_of(set())

    def key_of(tried: Recipe) -> str:
        """The joint stage's key as every version has made it of a recipe without base and transfer."""
        parts = {name: part for name, part in tried.to_dict().items() if name not in ("base", "transfer")}
        return content_key("joint", workload.key, "", parts, jobs.objective.to_dict())

    assert jobs.of(recipe())[-1].key == key_of(recipe()), "a canonical recipe"
    fusions = [Component("mean"), Component("ties", {"keep": 0.5, "scale": 1.0})]
    alone = [with_parts(sharing=Component("none"), fusion=fusion) for fusion in fusions]
    one, other = (jobs.of(each) for each in alone)
    assert [job.key for job in one] == [job.key for job in other]
    assert one[-1].payload.recipe == other[-1].payload.recipe
    assert [jobs.of_tried(each)[-1].key for each in alone] == [key_of(each) for each in alone], "as it was tried"


def test_what_joint_training_starts_from_tells_cold_starts_from_warm_ones(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, {"length"})
    learned, none = Component("pretrain", {"epochs": 1}), Component("none")
    starts = [
        jobs.start_of(each)
        for each in (
            with_parts(),
            with_parts(fusion=none),
            replace(recipe(), single_task=replace(recipe().single_task, epochs=0)),
            with_parts(base=learned),
            with_parts(base=learned, fusion=none),
            with_parts(base=learned, transfer=Component("structure")),
        )
    ]
    assert starts[1] == starts[2]
    assert starts[5] == starts[0]
    assert len(set(starts)) == 4
