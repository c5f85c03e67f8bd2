"""What ``list`` and ``schema`` show is what the constructors take."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mtl_search.cli import main
from mtl_search.config.yaml_reading import read_yaml
from mtl_search.validation.schema import describe_families, study_schema
from mtl_search.validation.study_file import FAMILIES, load_study
from mtl_search.variants.signatures import signature_of

SCHEMA = study_schema(FAMILIES)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
VARIANTS = [(family, name) for family, variants in FAMILIES.items() for name in variants]
RICH: dict[str, Any] = yaml.safe_load("""
name: rich
data:
  sources:
    mat: {table: {path: mat.csv, categorical: [school], missing: impute}}
    por: {table: {train: por.csv, test: por-test.csv, separator: ;}}
  split: {validation: 0.2, test: 0.1}
tasks:
  grade: {kind: regression, target: G3, data: mat, metric: mae, loss: huber}
  passed: {kind: binary, target: G1, data: por, positive: "yes", missing: -1, metric: {auroc: {max_fpr: 0.5}}}
  tags: {kind: multilabel, target: [a, b], data: por}
backbone: {mlp: {width: 64, depth: 2, dropout: 0.1}}
source_tasks:
  early: {kind: regression, target: G2, data: mat}
space:
  base: [random, {study: {name: earlier}}, {pretrain: {epochs: {int: [2, 8]}}}]
  transfer: [parameters, structure]
  auxiliary: {linear: {weight: {float: [0.1, 1]}}}
  sharing: {hard: {depth: {int: [0, 2]}}}
  fusion:
    - mean
    - weighted: {coefficients: {grade: {float: [0.1, 2]}, passed: 1}}
    - own.module:Fusion: {sharpness: {float: [0, 1]}}
  weighting: {fixed: {log_ratio: {float: [-2, 2], default: 0}}}
  single_task: {epochs: 8, optimizer: sgd, clip_norm: null}
  joint:
    epochs: {int: [5, 20], log: true}
    batch_size: {choice: [16, 32]}
    temperature: {float: [1, 5]}
    clip_norm: {choice: [null, 1.0]}
    optimizer: [adamw, {sgd: {lr: {float: [0.001, 0.1], log: true}, nesterov: {choice: [true, false]}}}]
    decay: {cosine: {warmup: 0.1}}
    unfreezing: [all, heads_first: {epochs: {int: [1, 2]}}]
    layer_decay: {float: [0.5, 1]}
    l2_sp: 0.01
    average: {choice: [0.0, 0.99]}
    patience: {choice: [null, 3]}
search: {trials: 30, sampler: {tpe: {startup: 5}}, stopper: {asha: {grace: 2, reduction: 2}}, objective: worst_task}
resources: {workers: [2, 4], cpus_per_worker: 1, gpus_per_worker: 1, concurrent_trials: auto, precision: bf16}
tracking: {uri: "http://localhost:5000", experiment: students}
storage: runs
seed: 7
""")


def changed(place: str, value: object) -> dict[str, Any]:
    study = copy.deepcopy(RICH)
    *path, last = place.split(".")
    node = study
    for key in path:
        node = node[key]
    node[last] = value
    return study


@pytest.mark.parametrize(("family", "name"), VARIANTS)
def test_list_shows_each_variant_with_its_parameters_defaults_and_paper(family: str, name: str) -> None:
    lines = list(describe_families(FAMILIES, family))
    assert lines[0] == family
    start = next(index for index, line in enumerate(lines) if line.startswith(f"  {name}: "))
    own = list(itertools.takewhile(lambda line: line.startswith("      "), lines[start + 1 :]))
    constructor = FAMILIES[family][name]
    for line, (parameter, (_, default)) in zip(own, signature_of(constructor).items(), strict=False):
        assert line.startswith(f"      {parameter}: ")
        assert line.endswith((f"default {default!r}", "default null", "default true", "default false", "required"))
    papers = [line.strip() for line in (constructor.__doc__ or "").splitlines() if line.strip().startswith("Paper: ")]
    assert [line.strip() for line in own[len(signature_of(constructor)) :]] == papers


def test_list_speaks_of_types_as_the_error_messages_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if not line.startswith(" ")] == list(FAMILIES)
    for line in (
        "      depth: whole number >= 0 or null, default null",
        "      dropout: number >= 0 and < 1, default 0.0",
        "      nesterov: true or false, default false",
        "      log_ratio: number, or one per task, default 0.0",
        "      missing: 'error' or 'impute', default 'error'",
        "      inputs: text or list of text, default 'x'",
        "      path: text, required",
    ):
        assert line in shown
    assert not any("Annotated" in line or "``" in line or "typing" in line for line in shown)


def test_list_of_one_family_shows_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "fusion"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "fusion"
    assert main(["list", "fusions"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: family: must be a family, got 'fusions' (choices: source, backbone,"
    )


def test_schema_is_valid_and_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_schema_accepts_every_shipped_study(path: Path) -> None:
    VALIDATOR.validate(read_yaml(path))


def test_schema_accepts_a_study_that_uses_every_form() -> None:
    VALIDATOR.validate(RICH)
    known = copy.deepcopy(RICH)
    del known["space"]["fusion"][2]  # there is no such module
    load_study(known)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("taks", {}),
        ("data.split.val", 0.1),
        ("tasks.grade.targt", "x"),
        ("tasks.grade.kind", "regresion"),
        ("tasks.grade.target", 3),
        ("search.trails", 3),
        ("search.trials", "many"),
        ("search.sampler", "tpee"),
        ("search.stopper", {"asha": {"grase": 1}}),
        ("resources.gpus", 1),
        ("resources.concurrent_trials", "all"),
        ("backbone", {"mlp": {"wdith": 3}}),
        ("backbone", {"mlp": {}, "resnet": {}}),
        ("backbone", {"mlp": {"width": {"int": [1, 2]}}}),
        ("backbone", "python"),
        ("data.sources.mat", {"table": {"pth": "x"}}),
        ("space.fusions", "mean"),
        ("space.fusion", "meen"),
        ("space.fusion", []),
        ("space.joint.epoch", 3),
        ("space.joint.epochs", {"int": [1, 2, 3]}),
        ("space.joint.epochs", {"int": [1, 2], "logg": True}),
        ("space.joint.optimizer", {"adamw": {"momentum": 0.9}}),
        ("space.weighting", {"fixed": {"log_ratio": {"grade": "high"}}}),
        ("seed", -1),
    ],
)
def test_schema_and_study_reader_refuse_the_same_mistakes(place: str, value: object) -> None:
    study = changed(place, value)
    assert not VALIDATOR.is_valid(study)
    with pytest.raises(Exception, match=place.rpartition(".")[0] or place):
        load_study(study)


PATTERN = {"columns": "assay_*", "kind": "binary", "metric": "auroc", "data": "mat"}
GRADE = {"target": "G3", "data": "mat"}


@pytest.mark.parametrize(
    "sections",
    [
        {"tasks": PATTERN},
        {"tasks": {**PATTERN, "columns": ["a*", "y"], "names": ["one", "two"]}},
        {"tasks": [PATTERN, {"grade": {"kind": "regression", **GRADE}}, {**PATTERN, "names": "titles"}]},
        {"tasks": {"columns": {"kind": "regression", **GRADE}}},
        {"tasks": {"grade": GRADE}, "task_defaults": {"kind": "regression"}},
        {"tasks": [{"columns": "y"}, {"grade": GRADE}], "task_defaults": {"kind": "regression", "metric": "mae"}},
        {"source_tasks": [PATTERN, {"early": {"kind": "regression", **GRADE}}]},
        {"source_tasks": {}},
    ],
)
def test_schema_takes_tasks_in_every_form(sections: dict[str, Any]) -> None:
    VALIDATOR.validate(RICH | sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"tasks": {}},
        {"tasks": []},
        {"tasks": ["grade"]},
        {"tasks": {"columns": "y"}},
        {"tasks": {**PATTERN, "columns": 3}},
        {"tasks": {**PATTERN, "target": "y"}},
        {"tasks": {**PATTERN, "metrik": "auroc"}},
        {"tasks": {"grade": GRADE}},
        {"tasks": {"grade": {"kind": "regresion"}}, "task_defaults": {"target": "y"}},
        {"tasks": {"grade": GRADE}, "task_defaults": {"knd": "regression"}},
    ],
)
def test_schema_and_study_reader_refuse_the_same_mistakes_in_tasks(sections: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(RICH | sections)
    with pytest.raises(Exception, match=r"^task"):
        load_study(RICH | sections)
