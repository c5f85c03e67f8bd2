"""Study files against the families: the shipped ones load, own variants bind, and what has no effect is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from mtl_search.config.search_config import RepeatsConfig, SearchConfig
from mtl_search.config.study_config import ActivationsConfig, ResourcesConfig, StudyConfig
from mtl_search.errors import ConfigError, Problem
from mtl_search.recipe import Component, Schedule
from mtl_search.space.binding import _checker
from mtl_search.validation.study_file import FAMILIES, LoadedStudy, find_study, load_study
from mtl_search.variants.building import build
from mtl_search.variants.signatures import signature_of

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
STUDY: dict[str, Any] = {
    "name": "flowers",
    "data": {"source": {"sklearn": {"name": "iris"}}},
    "tasks": {
        "species": {"kind": "classification", "target": "target"},
        "petal": {"kind": "regression", "target": "petal width (cm)"},
    },
    "backbone": "mlp",
    "space": {"fusion": ["mean", {"weighted": {"coefficients": {"float": [0.1, 2.0]}}}]},
}
OWN = '''
from mtl_search.fusion import Fusion, Mean
from mtl_search.recipe import PerTaskButFirst, PositiveFloat
from mtl_search.weighting import Fixed, Weighting

LIMIT = 3.0

class Sharp(Mean):
    """Own fusion."""
    def __init__(self, sharpness: PositiveFloat, mode: str = "soft") -> None:
        if sharpness > LIMIT:
            raise ValueError(f"sharper than {LIMIT}")
        self.sharpness = sharpness

class Half(Fusion):
    """Lacks its method."""

class Ratio(Fixed):
    """Own weighting."""
    def __init__(self, log_ratio: PerTaskButFirst = 0.0, temper: float = 1.0) -> None:
        super().__init__(log_ratio)

class Unreadable(Mean):
    """Names a type that is not there."""
    def __init__(self, x: "Nowhere" = None) -> None: ...

def blocks(input_shape, width: int = 4):
    from torch import nn
    return [nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], width)), nn.Linear(width, width)]
'''


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_variants", raising=False)
    (tmp_path / "own_variants.py").write_text(OWN)


def told(**sections: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_study(STUDY | sections)
    return [str(problem) for problem in caught.value.problems]


def test_a_fusion_for_two_tasks_is_refused_for_three_before_anything_runs() -> None:
    three = {**STUDY["tasks"], "sepal": {"kind": "regression", "target": "sepal width (cm)"}}
    assert told(tasks=three, space={"fusion": ["mean", "slerp"]}) == [
        "space.fusion.slerp: goes from one task to another: needs two tasks, got 3"
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_study_loads_by_path_and_by_name(path: Path) -> None:
    study = load_study(path.stem)
    assert isinstance(study, LoadedStudy)
    assert study.config == load_study(str(path)).config
    assert study.config.name == path.stem
    assert study.space.domains


def test_there_is_a_shipped_study_and_unknown_names_list_it(tmp_path: Path) -> None:
    assert "quickstart" in [path.stem for path in SHIPPED]
    (tmp_path / "quickstart").mkdir()  # a folder of that name does not hide it
    assert find_study("quickstart").name == "quickstart.yaml"
    with pytest.raises(ConfigError, match=r"name of a shipped one, got 'quikstart' \(choices: .*quickstart"):
        find_study("quikstart")


def test_a_loaded_study_has_every_default_filled_in() -> None:
    config = load_study(STUDY | {"search": {"sampler": "tpe"}}).config
    assert config.backbone == Component("mlp", {"width": 128, "depth": 3, "dropout": 0.0, "norm": True})
    assert config.search.sampler.params == {"startup": 10}
    assert config.data.datasets["main"].params == {"name": "iris", "inputs": None}


def test_overrides_replace_values_and_leave_what_is_wrong_to_be_told(tmp_path: Path) -> None:
    assert load_study(STUDY, {"search.trials": 7, "seed": 3}).config.search.trials == 7
    assert "search" not in STUDY
    with pytest.raises(ConfigError, match=r"^search: must be a mapping, got 3 \(choices: trials"):
        load_study(STUDY | {"search": 3}, {"search.trials": 7})
    with pytest.raises(ConfigError, match=r"^search.trials: must be at least 1, got 0$"):
        load_study(STUDY, {"search.trials": 0})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert load_study("study.yaml", {"storage": "elsewhere"}).config.storage == "elsewhere"


def test_own_variants_bind_like_those_of_the_family() -> None:
    space = {
        "fusion": ["mean", {"own_variants:Sharp": {"sharpness": {"float": [0.5, 2]}}}],
        "weighting": {"own_variants:Ratio": {"log_ratio": {"float": [-1, 1]}}},
    }
    backbone = {"python": {"function": "own_variants:blocks", "params": {"width": 8}}}
    study = load_study(STUDY | {"space": space, "backbone": backbone})
    assert list(study.space.domains) == [
        "fusion",
        "fusion.own_variants:Sharp.sharpness",
        "weighting.own_variants:Ratio.log_ratio.petal",
    ]
    recipe = study.space.default().recipe
    assert recipe.weighting == Component("own_variants:Ratio", {"log_ratio": {"petal": 0.0}, "temper": 1.0})
    assert type(build(FAMILIES["weighting"], recipe.weighting)).__name__ == "Ratio"
    assert study.config.backbone.params == {"function": "own_variants:blocks", "params": {"width": 8}}
    assert len(build(FAMILIES["backbone"], study.config.backbone).blocks((3,))) == 2


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ("own_variants:Sharp", "space.fusion.own_variants:Sharp.sharpness: is required"),
        (
            {"own_variants:Sharp": {"sharpness": -1}},
            "space.fusion.own_variants:Sharp.sharpness: must be above 0, got -1",
        ),
        (
            {"own_variants:Sharp": {"sharpness": {"float": [1, 9]}}},
            "space.fusion.own_variants:Sharp: must take these parameters (ValueError: sharper than 3.0), "
            "got {'sharpness': 9.0, 'mode': 'soft'}",
        ),
        (
            {"own_variants:Sharp": {"sharpness": 1, "blunt": 2}},
            "space.fusion.own_variants:Sharp.blunt: is not a parameter of own_variants:Sharp (choices: sharpness, m",
        ),
        ("own_variants:Half", "space.fusion: must name a class that has all of its methods (it lacks _fuse), got"),
        ("own_variants:Ratio", "space.fusion: must name a class derived from mtl_search.fusion.base.Fusion, got"),
        ("own_variants:LIMIT", "space.fusion: must name a class derived from mtl_search.fusion.base.Fusion, got"),
        (
            "own_variants:Nowhere",
            "space.fusion: must name something in module own_variants, got 'own_variants:Nowhere'",
        ),
        ("nowhere.own:X", "space.fusion: must name a module that can be imported (ModuleNotFoundError: No module"),
        ("own_variants:", "space.fusion: must be of the form package.module:name, got 'own_variants:'"),
        (
            "own_variants:Unreadable",
            "space.fusion: must name something whose parameters can be read off (NameError: name 'Nowhere'",
        ),
    ],
)
def test_own_variants_are_checked(fusion: object, message: str) -> None:
    (problem,) = told(space={"fusion": fusion})
    assert problem.startswith(message)


def test_an_own_sampler_must_be_callable() -> None:
    assert told(search={"sampler": "own_variants:LIMIT"}) == [
        "search.sampler: must name a class or a function, got 'own_variants:LIMIT'"
    ]


def test_constructors_own_rules_are_held_at_every_corner_of_the_space() -> None:
    weighted = {"weighted": {"coefficients": {"petal": {"float": [-1, 1]}}}}
    sgd = {"sgd": {"momentum": {"float": [0, 0.9]}, "nesterov": {"choice": [False, True]}}}
    assert told(space={"fusion": ["mean", weighted], "joint": {"optimizer": ["adamw", sgd]}}) == [
        "space.fusion.weighted.coefficients.petal: must be 0 or more, got -1.0",
        "space.joint.optimizer.sgd.momentum: must be above 0 with nesterov, got 0.0",
    ]


def test_samplers_are_held_against_the_space() -> None:
    assert told(search={"sampler": "cmaes"})[0] == (
        "search.sampler: samples numbers only and would draw fusion blindly; use tpe, got 'cmaes'"
    )
    assert told(search={"sampler": "gp"})[0].startswith(
        "search.sampler: cannot learn from parameters that exist on some"
    )
    numbers = {"joint": {"optimizer": {"adamw": {"lr": {"float": [0.001, 0.1], "log": True}}}}}
    assert load_study(STUDY | {"search": {"sampler": "cmaes"}, "space": numbers}).config.search.sampler.name == "cmaes"


def test_what_no_stage_of_a_space_could_show_an_effect_of_is_an_error() -> None:
    frozen = {"epochs": 5, "unfreezing": "never", "layer_decay": 0.5, "l2_sp": {"float": [0.1, 1.0]}, "patience": 5}
    assert told(space={"joint": frozen}) == [
        "space.joint.patience: has no effect: no stage is longer than 5 epochs, got 5",
        "space.joint.layer_decay: has no effect: no block ever learns, got 0.5",
        "space.joint.l2_sp: has no effect: no block ever learns, got 0.1",
    ]
    wrong = told(space={"joint": {"epochs": 5, "layer_decay": 0, "l2_sp": -1, "average": 1.0, "patience": 0}})
    places = ["layer_decay", "l2_sp", "average", "patience"]
    assert [text.partition(":")[0] for text in wrong] == [f"space.joint.{place}" for place in places]
    some = {**frozen, "unfreezing": ["never", "gradual"], "patience": {"choice": [None, 5, 2]}}
    load_study(STUDY | {"space": {"joint": some}})


def test_errors_of_form_and_of_the_space_come_together() -> None:
    found = told(seed=-1, space={"fusion": "meen"}, search={"stopper": {"asha": {"grace": 99}}}, backbone="mpl")
    assert [text.partition(":")[0] for text in found] == ["seed", "backbone", "space.fusion"]
    joint = {"epochs": 5, "unfreezing": {"gradual": {"epochs": 9}}}
    found = told(space={"joint": joint}, search={"stopper": {"asha": {"grace": 9}}})
    assert found == [
        "space: must hold a domain for 20 trials (without one: 2, the default and the plain recipe), "
        "got {'joint': {'epochs': 5, 'unfreezing': {'gradual': {'epochs': 9}}}}",
        "space.joint.unfreezing.gradual.epochs: must not be more than the 5 epochs of the stage, got 9",
        "search.stopper.asha.grace: has no effect: no trial is longer than 5 epochs, got 9",
    ]


def integer_parameters() -> Iterator[tuple[str, Any]]:
    """Every parameter that takes a whole number and no text, of every variant, schedule and section."""
    for family, variants in FAMILIES.items():
        for name, constructor in variants.items():
            for parameter, (annotation, _) in signature_of(constructor).items():
                yield f"{family}.{name}.{parameter}", annotation
    for name, annotation in get_type_hints(Schedule, include_extras=True).items():
        yield f"schedule.{name}", annotation
    sections = (StudyConfig, SearchConfig, RepeatsConfig, ResourcesConfig, ActivationsConfig)
    for section in sections:
        for name, annotation in get_type_hints(section, include_extras=True).items():
            yield f"{section.__name__}.{name}", annotation


def takes(annotation: Any, value: Any) -> bool:
    problems: list[Problem] = []
    _checker(annotation, problems)(value, "")
    return not problems


def test_no_parameter_takes_whole_numbers_without_bound() -> None:
    whole = {
        name: annotation
        for name, annotation in integer_parameters()
        if annotation is int or "int" in str(annotation)
        if takes(annotation, 4) and not takes(annotation, 4.5) and not takes(annotation, object())
    }
    assert {"backbone.mlp.depth", "source.table.text_features", "schedule.epochs", "StudyConfig.seed"} <= whole.keys()
    assert len(whole) > 40
    for name, annotation in whole.items():
        assert not takes(annotation, 10**30), name
        assert not takes(annotation, 2**31), name
