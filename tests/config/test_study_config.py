"""Reading a study file: what YAML means here, and the form of each section, every error at its place."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_search.config.study_config import StudyConfig
from mtl_search.config.yaml_reading import parse_config, read_yaml
from mtl_search.errors import ConfigError, DataError, Problem
from mtl_search.recipe import Component

GOOD: dict[str, Any] = {
    "name": "flowers",
    "data": {"source": {"sklearn": {"name": "iris"}}},
    "tasks": {
        "species": {"kind": "classification", "target": "target"},
        "petal": {"kind": "regression", "target": "petal width (cm)"},
    },
    "backbone": "mlp",
}


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


def told(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return str(caught.value).replace(str(tmp_path / "study.yaml"), "FILE")


def problems(**sections: Any) -> list[str]:
    """What is wrong with the good study after some of its sections were replaced."""
    return [str(problem) for problem in parse_config(GOOD | sections)[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("2.5e-2", 0.025),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("0", 0),
        ("1_000", 1000),
        (".inf", float("inf")),
        ("true", True),
        ("null", None),
        ("", None),
        ("no", "no"),  # the column, the country, the answer: only true and false are booleans
        ("On", "On"),
        ("007", "007"),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("1.2.3", "1.2.3"),
        ("'1'", "1"),
        ("[a, 1]", ["a", 1]),
    ],
)
def test_plain_values_mean_what_they_look_like(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


@settings(max_examples=100, deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12))
def test_every_number_that_python_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: float | int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert read(folder, f"key: {value!r}\n") == {"key": value}


def test_anchors_and_merges_save_repetition(tmp_path: Path) -> None:
    text = "a: &rate {lr: 1e-3, beta: 2}\nb: {<<: *rate, beta: 3}\nc: *rate\n"
    assert read(tmp_path, text) == {
        "a": {"lr": 0.001, "beta": 2},
        "b": {"lr": 0.001, "beta": 3},
        "c": {"lr": 0.001, "beta": 2},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: a\nseed: 1\nname: b\n", "(FILE, line 3: key 'name' is written twice)"),
        ("tasks:\n  a: {kind: x,\n      kind: y}\n", "(FILE, line 3: key 'kind' is written twice)"),
        (
            "x: !!python/object/apply:os.system [ls]\n",
            "line 1: tag 'tag:yaml.org,2002:python/object/apply:os.system' is",
        ),
        ("x:\n  - !!python/name:os.system\n", "line 2: tag 'tag:yaml.org,2002:python/name:os.system' is refused"),
        ("x: !!binary aGk=\n", "line 1: tag 'tag:yaml.org,2002:binary' is refused"),
        ("x: !!timestamp 2026-01-31\n", "tag 'tag:yaml.org,2002:timestamp' is refused"),
        ("x: !mine {a: 1}\n", "tag '!mine' is refused"),
        ("a: &a {b: *a}\n", "line 1: found unconstructable recursive node"),
        ("a: 1\n\tb: 2\n", "line 2: found character '\\t' that cannot start any token"),
        ("a: [1, 2\nb: 3\n", "line 2: "),
        ("a: *b\n", "line 1: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ("? [1, 2]\n: 3\n", "line 1: found unhashable key"),
        ("a: \x00\n", "special characters are not allowed"),
    ],
)
def test_what_is_not_plain_yaml_is_told_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    message = told(tmp_path, text)
    assert message.startswith("the study file must be YAML (FILE")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("value", ["!!int x", "!!float x", "!!bool x", "9" * 5000])
def test_a_value_that_is_not_what_its_tag_says_is_told(tmp_path: Path, value: str) -> None:
    assert told(tmp_path, f"seed: {value}\n").startswith("the study file must hold plain values (FILE: ")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be readable \(No such file or directory\), got '.*none.yaml'"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"must be readable .*utf-8"):
        read_yaml(tmp_path / "latin.yaml")
    assert told(tmp_path, "a: " + "[" * 500) == "the study file must not be nested so deeply, got 'FILE'"


def test_a_good_study_is_frozen_data_with_its_defaults() -> None:
    config, found = parse_config(GOOD)
    assert found == []
    assert config is not None
    assert (config.seed, config.search.most_trials, config.source_tasks) == (0, 20, {})
    assert config.tasks["petal"].target == ["petal width (cm)"]
    assert config.data.datasets == {"main": Component("sklearn", {"name": "iris"})}
    assert StudyConfig.model_validate(config.model_dump()) == config
    assert StudyConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("raw", "shown"), [(["a", "b"], "['a', 'b']"), ("a", "'a'"), (3, "3"), ([], "[]"), (False, "false")]
)
def test_a_file_that_is_no_mapping_is_told_with_the_sections(raw: object, shown: str) -> None:
    config, (problem,) = parse_config(raw)
    assert config is None
    assert str(problem).startswith(
        f"the study file must be a mapping of sections, got {shown} (choices: name, data, tasks"
    )


def test_an_empty_file_is_told_as_empty() -> None:
    (problem,) = parse_config(None)[1]
    assert str(problem).startswith(
        "the study file must be a mapping of sections, not empty (choices: name, data, tasks"
    )


def test_each_place_is_named_once_however_many_forms_its_value_may_have() -> None:
    assert problems(resources={"concurrent_trials": "all"}) == [
        "resources.concurrent_trials: must be a whole number or 'auto', got 'all'"
    ]
    assert problems(resources={"concurrent_trials": 0}) == [
        "resources.concurrent_trials: must be at least 1 or 'auto', got 0"
    ]
    task = {**GOOD["tasks"]["species"], "missing": [1]}
    assert problems(tasks={"species": task}) == [
        "tasks.species.missing: must be true or false, a whole number, a number or text, got [1]"
    ]


def test_rules_between_sections_are_told_beside_broken_forms() -> None:
    found = problems(
        taks={},
        name="my study",
        tasks={
            "a": {"kind": "multi", "target": "x", "data": "moon"},
            "b": {"kind": "regression", "target": ["x", "y"]},
        },
        search={"trials": 2.0, "objective": "c"},
        resources={"precision": "bf16", "gpus": 1},
    )
    assert [text.partition(":")[0] for text in found] == [
        "name",
        "tasks.a.kind",
        "search.trials",
        "resources.gpus",
        "taks",
        "tasks.a.data",
        "tasks.b.target",
        "search.objective",
        "resources.precision",
    ]
    assert "tasks.a.data: must name a data set, got 'moon' (choices: main)" in found


def test_a_problem_shows_values_as_yaml_does_and_cuts_long_ones() -> None:
    assert str(Problem("a.b", "must be text", None)) == "a.b: must be text, got null"
    assert str(Problem("", "must be", True, ("x", "y"))) == "must be, got true (choices: x, y)"
    assert len(str(Problem("a", "must be short", "x" * 999))) < 150


def test_a_problem_found_twice_is_said_once_whatever_its_value() -> None:
    error = DataError([Problem("a", "must", [1]), Problem("a", "must", [1]), Problem("b", "must", {"k": []})])
    assert str(error) == "a: must, got [1]\nb: must, got {'k': []}"
    assert len({Problem("a", "must", [1]), Problem("a", "must", [1])}) == 1


def test_unknown_keys_are_told_with_the_keys_of_their_own_section() -> None:
    # A task may be called as a section is.
    assert problems(tasks={"data": {"kind": "regression", "target": "x", "colour": 1}}) == [
        "tasks.data.colour: is not a known key (choices: kind, target, data, metric, loss, missing, "
        "positive, order, class_weight, weight)"
    ]
    assert problems(tasks={"data": None})[0].startswith(
        "tasks.data: must be a mapping, got null (choices: kind, target"
    )
