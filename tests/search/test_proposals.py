"""What a sampler is asked for: no parameter without effect, and no twin.

Real Optuna studies; a made-up score stands for training.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from searched_spaces import Listener, PlayedRunner

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import load_data
from mtl_search.pool.jobs import JobState, Update
from mtl_search.recipe import Component, Recipe, content_key
from mtl_search.results.trial_record import INTERRUPTED, REFUSED, records_of
from mtl_search.search.proposals import Proposals
from mtl_search.search.requeue import prepare_study
from mtl_search.search.samplers import SAMPLERS
from mtl_search.search.searcher import NoTrial, OptunaSearcher
from mtl_search.space.search_space import SearchSpace
from mtl_search.storage.reports import StageResult
from mtl_search.training.canonical import Canonical
from mtl_search.training.workspace import Workload
from mtl_search.validation.prepare import prepare
from mtl_search.validation.study_file import FAMILIES, load_study
from mtl_search.variants.building import build

TASKS = {
    "kind": {"kind": "classification", "target": "target"},
    "petal": {"kind": "regression", "target": "petal width (cm)"},
    "length": {"kind": "regression", "target": "petal length (cm)"},
}
INPUTS = ["sepal length (cm)", "sepal width (cm)"]
SCALED = {"task_arithmetic": {"scale": {"float": [0.2, 1.0]}}}
FUSIONS = ["mean", SCALED, {"ties": {"keep": {"float": [0.1, 0.9]}}}, {"dare": {"drop": {"float": [0.1, 0.9]}}}]
RATIOS = {"fixed": {"log_ratio": {"float": [-1.0, 1.0]}}}
RATE = {"adamw": {"lr": {"float": [1e-4, 1e-1], "log": True}}}
SGD = {"sgd": {"lr": {"float": [1e-3, 1.0], "log": True}}}


@pytest.fixture(scope="module")
def workload() -> Workload:
    """Three tasks, every label there, and a backbone of two blocks."""
    config = DataConfig.model_validate({"source": {"sklearn": {"name": "iris", "inputs": INPUTS}}})
    tasks = {name: TaskConfig.model_validate(task) for name, task in TASKS.items()}
    return Workload.prepare(load_data(config, tasks, 0), Component("mlp", {"width": 4, "depth": 2}), 0, "fp32")


def space_of(raw: Mapping[str, Any]) -> SearchSpace:
    space, problems = SearchSpace.parse(raw, FAMILIES, list(TASKS))
    assert problems == []
    assert space is not None
    return space


class Search:
    """A search whose training is a made-up score.

    Args:
        file: Optuna's journal.
        raw: The space.
        workload: What it is of.
        budget: Trials in all.
        sampler: Variant of ``SAMPLERS``.
        branches: Whether the sampler learns from branches.
    """

    def __init__(
        self,
        file: Path,
        raw: Mapping[str, Any],
        workload: Workload,
        budget: int,
        sampler: str = "tpe",
        branches: bool = True,
    ) -> None:
        self.space = space_of(raw)
        single = self.space.default().recipe.single_task
        self.canonical = Canonical(workload, single_task=single)
        self.proposals = Proposals(self.space, self.canonical, branches=branches)
        storage = JournalStorage(JournalFileBackend(str(file)))
        built = build(SAMPLERS, Component(sampler, {"startup": 6} if sampler == "tpe" else {})).build(3)
        self.study = optuna.create_study(
            study_name="s", storage=storage, direction="maximize", load_if_exists=True, sampler=built
        )
        self.runner = PlayedRunner(key_of=lambda recipe: f"job-{recipe.key}")
        self.listener, self._count = Listener(), 0
        references = [self.space.default(), self.space.plain()]
        prepare_study(self.study, references, self.listener, proposals=self.proposals)
        self.searcher = OptunaSearcher(self.study, self.proposals, budget, self.runner, self.listener)

    @property
    def submitted(self) -> list[Recipe]:
        return self.runner.submitted

    def start(self) -> str | None:
        self._count += 1
        found = self.searcher.start_trial(f"t{self._count}")
        return None if found is NoTrial.NEVER else f"t{self._count}"

    def run(self, score: Callable[[Recipe], float] = lambda _: 0.0) -> "Search":
        while trial := self.start():
            result = StageResult(best_score=score(self.submitted[-1]))
            self.searcher.end(trial, Update([], JobState.DONE, result))
        return self

    @property
    def trials(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials() if REFUSED not in trial.user_attrs]

    def of(self, section: str, name: str) -> list[FrozenTrial]:
        """Trials with a variant in a section of their recipe."""
        return [trial for trial in self.trials if name in trial.user_attrs["recipe"][section]]


def names_of(trials: list[FrozenTrial]) -> set[str]:
    return {name for trial in trials for name in trial.params}


def peak(recipe: Recipe) -> float:
    """Best at a learning rate of 0.01, a little better with nothing shared, whatever the fusion."""
    rate = recipe.joint.optimizer.params["lr"]
    return 2.0 * (recipe.sharing.name == "none") - abs(math.log10(rate) + 2.0)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_where_nothing_is_shared_no_fusion_is_sampled_and_no_twin_proposed(
    tmp_path: Path, workload: Workload, sampler: str
) -> None:
    raw = {"sharing": ["hard", "none"], "fusion": FUSIONS, "joint": {"optimizer": RATE}}
    search = Search(tmp_path / "journal", raw, workload, 30, sampler).run(peak)
    assert len(search.trials) == len(search.study.get_trials()) == 30, "none is refused"
    alone, shared = search.of("sharing", "none"), search.of("sharing", "hard")
    assert len(alone) > 5
    assert names_of(alone) == {"sharing", "joint.optimizer.adamw.lr"}
    assert {"fusion", "fusion.ties.keep"} <= names_of(shared)
    recipes = [Recipe.from_dict(trial.user_attrs["recipe"]) for trial in search.trials]
    assert all(search.canonical.of(recipe) == recipe for recipe in recipes)
    assert len({recipe.key for recipe in recipes}) == 30
    assert {recipe.fusion for recipe in recipes if recipe.sharing.name == "none"} == {Component("mean")}
    # The recipe is what is keyed, submitted, told and shown.
    assert [content_key(trial.user_attrs["recipe"]) for trial in search.trials] == [
        trial.user_attrs["key"] for trial in search.trials
    ]
    assert search.submitted == recipes
    assert [record.recipe for record in search.listener.ended] == recipes


def test_variants_that_come_to_the_same_are_one_choice_beside_those_that_do_not(
    tmp_path: Path, workload: Workload
) -> None:
    raw = {"sharing": ["hard", "none"], "fusion": [SCALED, "ties", "none", "mean"], "joint": {"optimizer": RATE}}
    search = Search(tmp_path / "journal", raw, workload, 30).run(peak)
    alone = search.of("sharing", "none")
    assert names_of(alone) == {"sharing", "fusion(mean, none)", "joint.optimizer.adamw.lr"}
    fusions = Counter(next(iter(trial.user_attrs["recipe"]["fusion"])) for trial in alone)
    assert set(fusions) == {"mean", "none"}
    assert len(search.study.get_trials()) == 30
    assert "fusion(mean, none)" not in names_of(search.of("sharing", "hard"))


def test_ratios_are_sampled_where_they_count_though_that_is_told_by_what_comes_after(
    tmp_path: Path, workload: Workload
) -> None:
    raw = {"sharing": ["hard", "none"], "weighting": RATIOS, "joint": {"optimizer": [RATE, SGD]}}
    search = Search(tmp_path / "journal", raw, workload, 30, "random").run()
    ratios = {f"weighting.fixed.log_ratio.{task}" for task in ("petal", "length")}
    seen = Counter()
    for trial in search.trials:
        idle = trial.params["sharing"] == "none" and trial.params["joint.optimizer"] == "adamw"
        assert (ratios <= trial.params.keys()) != idle
        assert idle == (trial.user_attrs["recipe"]["weighting"] == {"fixed": {"log_ratio": 0.0}}) or trial.number < 2
        seen[idle] += 1
    assert min(seen.values()) > 3


def test_what_is_transferred_says_which_parts_are_sampled(tmp_path: Path, workload: Workload) -> None:
    learned = {"pretrain": {"epochs": {"int": [1, 9]}}}
    raw = {
        "base": [learned, "reptile"],
        "transfer": ["parameters", "features", "structure"],
        "fusion": FUSIONS,
        "joint": {"unfreezing": ["all", "gradual"], "layer_decay": {"float": [0.5, 1.0]}, "optimizer": RATE},
    }
    search = Search(tmp_path / "journal", raw, workload, 40, "random").run()
    by_transfer: dict[str, set[str]] = {}
    for trial in search.trials:
        by_transfer.setdefault(trial.params["transfer"], set()).update(trial.params)
    everything = {"transfer", "base", "base.pretrain.epochs", "fusion", "joint.layer_decay", "joint.unfreezing"}
    assert everything <= by_transfer["parameters"]
    assert by_transfer["features"] == {"transfer", "base", "base.pretrain.epochs", "joint.optimizer.adamw.lr"}
    assert by_transfer["structure"] & everything == everything - {"base", "base.pretrain.epochs"}
    fresh = [trial.user_attrs["recipe"] for trial in search.trials if trial.params["transfer"] == "structure"]
    assert all((recipe["base"], recipe["transfer"]) == ({"random": {}}, {"parameters": {}}) for recipe in fresh)


def test_no_alignment_is_sampled_where_nothing_that_it_reaches_learns(tmp_path: Path) -> None:
    source = {"sklearn": {"name": "iris", "inputs": INPUTS}}
    config = DataConfig.model_validate({"sources": {"first": source, "second": source}})
    task_datasets = zip(TASKS.items(), ("first", "second", "second"), strict=True)
    tasks = {name: TaskConfig.model_validate({**task, "data": location}) for (name, task), location in task_datasets}
    backbone = Component("mlp", {"width": 4, "depth": 2})
    apart = Workload.prepare(load_data(config, tasks, 0), backbone, 0, "fp32")
    raw = {
        "transfer": ["parameters", "features"],
        "alignment": ["none", {"coral": {"strength": {"float": [0.1, 1.0]}}}],
        "joint": {"optimizer": RATE},
    }
    search = Search(tmp_path / "journal", raw, apart, 20, "random").run()
    frozen = [trial for trial in search.trials if trial.params["transfer"] == "features"]
    assert names_of(frozen) == {"transfer", "joint.optimizer.adamw.lr"}
    assert {next(iter(trial.user_attrs["recipe"]["alignment"])) for trial in frozen} == {"none"}
    assert search.of("alignment", "coral")


def test_fresh_parameters_are_not_proposed_twice(tmp_path: Path, workload: Workload) -> None:
    raw = {
        "base": ["reptile", "random"],
        "transfer": ["parameters", "features", "structure"],
        "joint": {"optimizer": RATE},
    }
    search = Search(tmp_path / "journal", raw, workload, 20, "random").run()
    assert {trial.params["transfer(parameters, features)"] for trial in search.trials} == {"parameters", "features"}
    assert len(search.study.get_trials()) == 20
    (note,) = prepare(load_study("transfer")).notes
    assert note == "space.transfer.structure comes to the same as space.base.random, which stands for both"


def test_single_task_training_is_not_sampled_where_nothing_starts_from_it(tmp_path: Path, workload: Workload) -> None:
    single = {"epochs": {"int": [1, 9]}, "optimizer": RATE, "unfreezing": ["all", "gradual"]}
    raw = {"fusion": ["mean", "none"], "single_task": single, "joint": {"optimizer": RATE}}
    search = Search(tmp_path / "journal", raw, workload, 20, "random").run()
    cold = search.of("fusion", "none")
    assert names_of(cold) == {"fusion", "joint.optimizer.adamw.lr"}
    default = search.space.default().recipe.single_task.to_dict()
    assert all(trial.user_attrs["recipe"]["single_task"] == default for trial in cold)
    assert {"single_task.epochs", "single_task.unfreezing"} <= names_of(search.of("fusion", "mean"))


def test_a_sampler_without_branches_is_asked_for_everything_and_trains_canonical_recipes(
    tmp_path: Path, workload: Workload
) -> None:
    raw = {"sharing": ["hard", "none"], "fusion": ["mean", "ties"], "joint": {"epochs": {"int": [1, 4]}}}
    search = Search(tmp_path / "journal", raw, workload, 12, "random", branches=False).run()
    assert all(trial.params.keys() == {"sharing", "fusion", "joint.epochs"} for trial in search.trials)
    assert {next(iter(t.user_attrs["recipe"]["fusion"])) for t in search.of("sharing", "none")} == {"mean"}
    assert len(search.trials) == len(search.study.get_trials()) == 12
    assert len(search.submitted) == len({recipe.key for recipe in search.submitted}), "a twin is not trained again"


def test_a_space_without_idle_parts_is_sampled_as_it_always_was(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_transfers.py").write_text("from mtl_search.transfer.kinds import Parameters as Kept\n")
    raw = {
        "sharing": [{"hard": {"depth": {"int": [1, 2]}}}, {"experts": {"count": {"int": [1, 2]}}}],
        "fusion": FUSIONS,
        "base": ["random", {"pretrain": {"epochs": {"int": [1, 9]}}}],
        "transfer": ["parameters", "own_transfers:Kept"],
        "weighting": [RATIOS, "uncertainty", "dwa"],
        "joint": {"epochs": {"int": [3, 6]}, "optimizer": [RATE, SGD], "unfreezing": ["all", "shared"]},
    }
    space = space_of(raw)
    proposals = Proposals(space, Canonical(workload, single_task=space.default().recipe.single_task))
    studies = [optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)) for _ in range(2)]
    for _ in range(50):
        one, other = (study.ask() for study in studies)
        assert proposals.suggest(one) == space.suggest(other)
        assert one.params == other.params


def test_a_twin_that_is_told_only_afterwards_costs_nothing_and_the_sampler_learns_of_it(
    tmp_path: Path, workload: Workload
) -> None:
    raw = {"sharing": {"hard": {"depth": {"choice": [1, 2, None]}}}}
    search = Search(tmp_path / "journal", raw, workload, 12, "random").run(
        lambda r: float(r.sharing.params["depth"] or 2)
    )
    twins = [trial for trial in search.study.get_trials() if REFUSED in trial.user_attrs]
    assert [(t.params["sharing.hard.depth"], t.state, t.value) for t in twins] == [(2, TrialState.COMPLETE, 2.0)]
    assert twins[0].user_attrs[REFUSED] == "the same recipe as trial 0"
    assert {recipe.sharing.params["depth"] for recipe in search.submitted} == {1, None}
    assert len(records_of(search.study.get_trials())) == 12, "repetitions count as they always did"
    assert {record.number for record in search.listener.ended} == {trial.number for trial in search.trials}


OLD = {
    "sharing": CategoricalDistribution(("hard", "none")),
    "fusion": CategoricalDistribution(("mean", "task_arithmetic", "ties")),
    "fusion.task_arithmetic.scale": FloatDistribution(0.2, 1.0),
    "joint.batch_size": CategoricalDistribution((32, 64)),
}
OLD_SPACE = {
    "sharing": ["hard", "none"],
    "fusion": ["mean", SCALED, "ties"],
    "joint": {"batch_size": {"choice": [32, 64]}},
}


def written_before(search: Search, params: dict[str, Any], **kept: Any) -> Recipe:
    """Add a trial as the code wrote it that sampled every parameter and keyed recipes as they were sampled."""
    recipe = search.space.suggest(optuna.trial.FixedTrial(params))
    plain = json.loads(json.dumps(recipe.to_dict()))
    notes = {"recipe": plain, "key": recipe.key, "job": f"old-{recipe.key}", "score": 7.0, **kept}
    interrupted = INTERRUPTED in kept
    search.study.add_trial(
        create_trial(
            state=TrialState.FAIL if interrupted else TrialState.COMPLETE,
            value=None if interrupted else 7.0,
            params=params,
            distributions={name: OLD[name] for name in params},
            user_attrs=notes,
        )
    )
    return recipe


def test_an_old_study_s_trials_are_known_whatever_form_they_were_written_in(tmp_path: Path, workload: Workload) -> None:
    file = tmp_path / "journal"
    begun = Search(file, OLD_SPACE, workload, 0)
    alone = {
        "sharing": "none",
        "joint.batch_size": 64,
        "fusion": "task_arithmetic",
        "fusion.task_arithmetic.scale": 0.5,
    }
    old = written_before(begun, alone)
    lost = written_before(begun, {"sharing": "none", "joint.batch_size": 32, "fusion": "ties"}, **{INTERRUPTED: True})
    assert begun.canonical.of(old).key != old.key
    resumed = Search(file, OLD_SPACE, workload, 9).run()
    assert begun.canonical.of(lost) in resumed.submitted, "the interrupted one is tried again"
    retry = next(trial for trial in resumed.trials if "retry_of" in trial.user_attrs)
    assert retry.params == {"sharing": "none", "joint.batch_size": 32}
    assert begun.canonical.of(old) not in resumed.submitted
    again = [trial for trial in resumed.study.get_trials() if trial.user_attrs.get("job") == f"old-{old.key}"]
    assert {trial.value for trial in again} == {7.0}
    assert len(again) > 1, "the folder that holds its model keeps its name"
    records = records_of(resumed.study.get_trials())
    assert len([record for record in records if record.state != "interrupted"]) == 9
    assert old in [record.recipe for record in records], "read as it was written"
    keys = [recipe.key for recipe in resumed.submitted]
    assert len(keys) == len(set(keys))


def test_reference_recipes_are_queued_by_the_parameters_that_give_them_now(tmp_path: Path, workload: Workload) -> None:
    raw = {
        "sharing": ["none", "hard"],
        "fusion": ["ties", "mean", "none"],
        "weighting": {"fixed": {"log_ratio": {"float": [-1.0, 1.0], "default": 1.0}}},
        "joint": {"optimizer": [SGD, RATE]},
    }
    search = Search(tmp_path / "journal", raw, workload, 2)
    queued = [trial.system_attrs["fixed_params"] for trial in search.study.get_trials()]
    assert all("fusion" not in params for params in queued)
    assert [params["fusion(mean, none)"] for params in queued] == ["mean", "mean"]
    search.run()
    expected = [search.canonical.of(each.recipe) for each in (search.space.default(), search.space.plain())]
    assert search.submitted == expected
    once = Search(tmp_path / "once", {**raw, "joint": {"optimizer": [RATE, SGD]}}, workload, 1).run()
    assert len(once.study.get_trials()) == 1, "default and plain recipe are one"
