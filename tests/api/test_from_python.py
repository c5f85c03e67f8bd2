"""Studies written in Python: objects become names that tell their content, and mistakes are told by place."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import mtl_search
from mtl_search.api.from_python import from_python
from mtl_search.data.sources.rows import Rows
from mtl_search.errors import ConfigError, MtlSearchError, StudyError
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.sharing.hard import Hard
from mtl_search.recipe import Component
from mtl_search.study_store.folder import StudyFolder
from mtl_search.transfer.bases.pretrain import Pretrain
from mtl_search.validation.prepare import Prepared, prepare
from mtl_search.validation.study_file import load_study
from mtl_search.variants.building import build
from mtl_search.variants.python_objects import use_objects
from mtl_search.weighting import WEIGHTINGS
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.fixed import Fixed
from mtl_search.weighting.uncertainty import Uncertainty

FRAME = pd.DataFrame({"a": range(40), "b": [1.0, 0.5] * 20, "kind": ["x", "y"] * 20, "size": [3.0, 4.0] * 20})
TASKS = {"kind": {"kind": "binary", "target": "kind"}, "size": {"kind": "regression", "target": "size"}}


def blocks(seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [nn.Sequential(nn.Linear(2, 4), nn.ReLU()), nn.Linear(4, 3)]


def study(**changes: Any) -> dict[str, Any]:
    return {"name": "small", "data": FRAME, "tasks": TASKS, "backbone": blocks(), "search": {"trials": 2}, **changes}


def test_objects_become_names_and_everything_is_plain() -> None:
    space = {"weighting": ["fixed", Uncertainty(), Fixed(0.5)], "joint": {"epochs": 2}}
    given = from_python(study(space=space))
    assert json.loads(json.dumps(given.plain)) == given.plain
    names = [given.plain["backbone"], given.plain["data"]["source"], *given.plain["space"]["weighting"][1:]]
    assert sorted(names) == sorted(given.objects)
    assert [name.rpartition("-")[0] for name in names] == [
        "object:Blocks",
        "object:Rows",
        "object:Uncertainty",
        "object:Fixed",
    ]


def test_same_objects_have_the_same_names_and_changed_ones_others() -> None:
    first, again = from_python(study()).plain, from_python(study(backbone=nn.Sequential(*blocks()))).plain
    assert first == again
    assert from_python(study(backbone=blocks(1))).plain["backbone"] != first["backbone"]
    assert from_python(study(data=FRAME.assign(a=1))).plain["data"] != first["data"]


@pytest.mark.parametrize(
    "data",
    [
        FRAME,
        {"source": Rows(FRAME)},
        {"sources": {"main": FRAME}},
        {name: FRAME[name].to_numpy() for name in FRAME},
        {"train": FRAME},
        {"source": {"train": FRAME}, "split": {"test": 0.2}},
    ],
    ids=["frame", "source", "sources", "columns", "splits", "splits in a section"],
)
def test_rows_may_stand_wherever_a_study_file_names_a_source(data: Any) -> None:
    given = from_python(study(data=data))
    with use_objects(given.objects):
        assert prepare(load_study(given.plain)).data.preparation.feature_shape == (2,)


def test_the_base_of_blocks_is_their_own_parameters_and_they_are_not_touched() -> None:
    own = blocks()
    before = [value.clone() for block in own for value in block.state_dict().values()]
    given = from_python(study(backbone=own))
    with use_objects(given.objects):
        prepared = prepare(load_study(given.plain))
        model = prepared.workload.network(["kind", "size"], Component("hard", {"depth": 2}))
    for values in (
        prepared.workload.base.values(),
        [v for n, v in model.state_dict().items() if n.startswith("blocks")],
    ):
        assert all(torch.equal(torch.as_tensor(got), want) for got, want in zip(values, before, strict=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(
        torch.equal(v, b) for v, b in zip((v for m in own for v in m.state_dict().values()), before, strict=True)
    )


def test_each_use_of_an_object_is_a_copy_of_its_own() -> None:
    given = from_python(study(space={"weighting": Uncertainty()}))
    (name,) = (name for name in given.objects if "Uncertainty" in name)
    with use_objects(given.objects):
        first, second = (build(WEIGHTINGS, Component(name)) for _ in range(2))
    assert isinstance(first, Weighting)
    assert first is not second
    first.start(["a", "b"], "cpu")
    assert vars(given.objects[name]) == vars(second) != vars(first)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": nn.Linear(2, 3)}, "backbone: must be blocks in order: .* got 'Linear'"),
        ({"backbone": [nn.Linear(2, 3), "relu"]}, r"backbone\[1\]: must be a torch module, got 'str'"),
        ({"backbone": []}, "backbone: must have at least one block"),
        ({"backbone": [nn.LazyLinear(3)]}, "backbone: must be made of .*lazy"),
        ({"backbone": blocks()[:1] * 2}, "backbone: block 2 must not share a module or tensor with an earlier block"),
        ({"backbone": [nn.Linear(5, 3)]}, r"backbone: block 1 must take samples that come as \(2,\)"),
        ({"data": torch.ones(3, 3)}, "data.train: must be a data frame, a mapping of columns"),
        ({"data": "rows.csv"}, "data: must be a mapping, got 'rows.csv'"),
        ({"space": {"weighting": Hard()}}, "space.weighting: must be an object of a class derived from .*Weighting"),
        ({"space": {"weighting": [Fixed]}}, r"space.weighting\[0\]: must be an object of the class, not the class"),
        ({"space": {"weighting": [Fixed(), Fixed()]}}, r"space.weighting\[1\]: must be listed once"),
        (
            {"space": {"weighting": {"fixed": {"log_ratio": Fixed()}}}},
            "space.weighting.fixed.log_ratio: must be a plain",
        ),
        (
            {"tasks": {"kind": {"kind": "binary", "target": "kind", "metric": nn.ReLU()}}},
            "tasks.kind.metric: must be a pl",
        ),
        ({"serch": {"trials": 3}}, "serch: is not a known key"),
    ],
)
def test_mistakes_are_told_by_place(changes: dict[str, Any], words: str) -> None:
    def prepared() -> Prepared:
        given = from_python(study(**changes))
        with use_objects(given.objects):
            return prepare(load_study(given.plain))

    with pytest.raises(MtlSearchError, match=words):
        prepared()


def test_a_base_that_learns_from_source_tasks_may_be_an_object() -> None:
    tasks, sources = {"kind": TASKS["kind"]}, {"size": TASKS["size"]}
    given = from_python(study(tasks=tasks, source_tasks=sources, space={"base": Pretrain(epochs=1)}))
    with use_objects(given.objects):
        assert prepare(load_study(given.plain)).workload.objects.objects.keys() >= {
            name for name in given.objects if "Pretrain" in name
        }


def test_without_its_object_a_name_means_nothing() -> None:
    given = from_python(study(backbone=Mlp(width=4)))
    with pytest.raises(ConfigError, match=r"needs the Python object that the study was given.*open_study"):
        build(BACKBONES, Component(given.plain["backbone"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"trial": 3, **study()}, "trial: must go with a study that was run, and without a recipe, got 3"),
        ({"recipe": study(), "study": "quickstart"}, "study: has no effect: the recipe's file is a study of its own"),
        ({"recipe": {"fusion": ["mean", "ties"]}, **study()}, "space.fusion: must be fixed, with no domain"),
        ({"recipe": {"fusion": "mena"}, **study()}, "space.fusion: must be a known variant .* got 'mena'"),
        ({"study": "quickstart"}, "space.sharing: must be fixed"),
        ({"study": "nosuch"}, "must be a study file or the name of a shipped one, got 'nosuch'"),
    ],
)
def test_training_one_recipe_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        mtl_search.train(**arguments)


def test_opening_a_study_says_what_it_has_no_use_for(tmp_path: Path) -> None:
    given = load_study({**from_python(study(backbone="mlp", data={"sklearn": {"name": "iris"}})).plain})
    StudyFolder(tmp_path, "small").begin(given.config, {}, resume=False)
    with pytest.raises(ConfigError, match="backbone: has no effect: the study's backbone was not handed over"):
        mtl_search.open_study("small", storage=tmp_path, backbone=blocks())
    opened = mtl_search.open_study("small", storage=tmp_path)
    assert "has not ended" in repr(opened)
    assert opened.trials.empty
    with pytest.raises(StudyError, match="has not ended"):
        _ = opened.best
