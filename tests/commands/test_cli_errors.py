"""The command line in the hands of a hurried user: each mistake is told with place, rule and value; it exits with 2."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mtl_search.cli import main

ROWS = 60
STUDY: dict[str, Any] = {
    "name": "flowers",
    "data": {"source": {"table": {"path": "flowers.csv"}}},
    "tasks": {
        "species": {"kind": "binary", "target": "species"},
        "petal": {"kind": "regression", "target": "petal"},
    },
    "backbone": {"mlp": {"width": 8, "depth": 2}},
    "space": {
        "sharing": {"hard": {"depth": {"int": [0, 2]}}},
        "fusion": ["mean", {"weighted": {"coefficients": {"float": [0.1, 2.0]}}}],
        "joint": {"epochs": 4, "batch_size": 16, "optimizer": {"adamw": {"lr": {"float": [0.001, 0.1], "log": True}}}},
    },
    "search": {"trials": 3},
}
LEFT_OUT = "(left out)"
MISTAKES = [
    part
    for part in (Path(__file__).parents[1] / "study_mistakes.txt").read_text(encoding="utf-8").split("\n\n")
    if not part.startswith("#")
]
Run = Callable[..., list[str]]


def flowers() -> pd.DataFrame:
    numbers = np.random.default_rng(0).normal(size=(ROWS, 3)).round(3)
    frame = pd.DataFrame(numbers, columns=["width", "length", "petal"])
    return frame.assign(species=["rose", "tulip"] * (ROWS // 2))


@pytest.fixture
def validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``validate`` on the study with values replaced by key path; gives the lines told, without ``error:``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # validate adds the study's folder; this takes it off again
    flowers().to_csv("flowers.csv", index=False)

    def run(changes: dict[str, Any], code: int = 2) -> list[str]:
        study = copy.deepcopy(STUDY)
        for place, value in changes.items():
            *path, last = place.split(".")
            node = study
            for key in path:
                node = node.setdefault(key, {})
            node.pop(last) if value == LEFT_OUT else node.update({last: value})
        Path("study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
        assert main(["validate", "study.yaml"]) == code
        out, err = capsys.readouterr()
        assert (out == "") == (code == 2)
        assert all(line.startswith("error: ") for line in err.splitlines()), "one line an error, no traceback"
        return [line.removeprefix("error: ") for line in err.splitlines()]

    return run


def test_the_study_that_the_mistakes_are_made_in_is_right(validate: Run) -> None:
    assert validate({}, code=0) == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.partition("\n")[0][:60] for mistake in MISTAKES])
def test_a_mistake_in_the_study_file_is_told_in_these_words(validate: Run, mistake: str) -> None:
    lines = mistake.strip().splitlines()
    told = [line.removeprefix("-> ") for line in lines if line.startswith("-> ")]
    changes = yaml.safe_load("\n".join(line for line in lines if not line.startswith("-> ")))
    assert told
    assert validate(changes) == told


@pytest.mark.parametrize(("key", "words"), [("true", "true"), ("1", "1"), ("null", "null"), ("~", "null")])
def test_a_key_that_is_no_text_is_told_at_the_top_too(
    validate: Run, capsys: pytest.CaptureFixture[str], key: str, words: str
) -> None:
    validate({}, code=0)
    with Path("study.yaml").open("a") as file:
        file.write(f"{key}: 1\n")
    assert main(["validate", "study.yaml"]) == 2
    assert capsys.readouterr().err == f"error: {words}: must be text, as every key: write it in quotes, got {words}\n"


def damaged(name: str, data: bytes) -> Callable[[], int]:
    return lambda: Path(name).write_bytes(data)


def frame(**columns: Any) -> Callable[[], None]:
    """Writes the flowers with some columns replaced, and a file of three of them."""

    def write() -> None:
        flowers().assign(**columns).to_csv("flowers.csv", index=False)
        flowers()[:3].to_csv("few.csv", index=False)

    return write


def truncated_npz() -> None:
    np.savez("whole.npz", x=np.ones((ROWS, 4)), y=np.arange(ROWS) % 2)
    Path("cut.npz").write_bytes(Path("whole.npz").read_bytes()[:300])


SPECIES, PETAL = "tasks.species.target: ", "tasks.petal."
SOURCE, INPUTS = "data.source.table.path", "data.source.table.inputs: .*"
NPZ = {"data.source": {"arrays": {"path": "cut.npz"}}, "tasks.species.target": "y", "tasks.petal.target": "x:0"}
DATA = [
    (frame(species="rose"), {}, f"{SPECIES}must hold exactly 2 labels in the training rows, got ['rose']"),
    (frame(species=[*"abc"] * 20), {}, f"{SPECIES}must hold exactly 2 labels .*got ['a', 'b', 'c']"),
    (frame(species=None), {}, f"{SPECIES}must have labels in train"),
    (frame(width=[None, *range(ROWS - 1)]), {}, f"{INPUTS}column 'width', split train.*in row 0 .*got nan"),
    (frame(width=[*range(ROWS - 1), "wide"]), {}, f"{INPUTS}column 'width'.*in row 59 .*got 'wide'"),
    (frame(width=[1e99] * ROWS), {}, f"{INPUTS}finite numbers .*column 'width'.*in row 0 .*got 1e"),
    (frame(petal="long"), {}, f"{PETAL}target: must hold numbers, in row 0 .*got 'long'"),
    (frame(), {"tasks.petal.target": "petl"}, f"{PETAL}target: must name a column .*got 'petl' (choices: width, "),
    (
        frame(),
        {"tasks.petal.metric": "rsme"},
        f"{PETAL}metric: must be a metric for regression .*got 'rsme' (choices: ",
    ),
    (
        frame(),
        {"tasks.petal.loss": "bce"},
        f"{PETAL}loss: must be a loss for regression, got 'bce' (choices: mse, l1, ",
    ),
    (frame(), {"data.split": {"validation": 0}}, "data.split.validation: must be above 0 where the source gives no "),
    (
        frame(),
        {"data.split": {"test": 0.001}, "data.source.table.path": "few.csv"},
        "data.split: must leave at least one row",
    ),
    (
        damaged("flowers.csv", b"width,length,petal,species\n"),
        {},
        "data.source.table: must give at least one row .*got 0",
    ),
    (frame(), {SOURCE: "none.csv"}, f"{SOURCE}: must be a readable file (there is no such file), got 'none.csv'"),
    (
        damaged("x.parquet", b"PAR1..."),
        {SOURCE: "x.parquet"},
        f"{SOURCE}: must be a readable file (Arrow.*got 'x.parquet'",
    ),
    (truncated_npz, NPZ, "data.source.arrays.path: must be a readable .npz file .*got 'cut.npz'"),
]


@pytest.mark.parametrize(("spoil", "changes", "told"), DATA, ids=[told[:50] for _, _, told in DATA])
def test_a_mistake_in_the_data_is_told_with_place_rule_and_value(
    validate: Run, spoil: Callable[[], object], changes: dict[str, Any], told: str
) -> None:
    spoil()
    lines = validate(changes)
    pattern = re.sub(r"[\[\]()]", r"\\\g<0>", told)
    assert any(re.search(pattern, line) for line in lines), lines


def test_several_mistakes_are_all_told_at_once(validate: Run) -> None:
    changes = {
        "taks": 1,
        "search.trails": 3,
        "search.objective": "colour",
        "tasks.species.kind": "multi",
        "resources.workers": 0,
        "space.fusion": "meen",
        "space.joint.epochs": {"int": [9, 1]},
        "backbone.mlp.wdith": 2,
    }
    assert {line.partition(":")[0] for line in validate(changes)} == {*changes} - {"space.joint.epochs"} | {
        "space.joint.epochs.int"
    }


def test_files_and_names_that_are_not_there_are_told(validate: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["search", "none.yaml"], "the study file must be readable (No such file or directory), got 'none.yaml'"),
        (["validate", "quikstart"], "must be a study file or the name of a shipped one, got 'quikstart' (choices: "),
        (["report", "nothing"], "no study 'nothing' in "),
        (["compare", "nothing", "neither"], "no study 'nothing' in "),
        (["export", "nothing"], "no study 'nothing' in "),
        (["extend", "nothing", "none.yaml"], "nothing is no exported model: name a folder that "),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"error: {told}")


@pytest.mark.parametrize(
    "name", ["../../etc", "..", "a/../b", "a b", "-a", "a\x1b[2J", "a\n", "<script>alert(1)</script>", "a" * 65, ""]
)
def test_a_name_that_no_study_can_have_is_refused_before_it_becomes_a_path(
    name: str, validate: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(address, raising=False)
    verbs = [["report"], ["export"], ["compare", "flowers"], ["status"], ["stop", "--address", "http://127.0.0.1:9"]]
    for words in [*verbs, ["logs", "--address", "http://127.0.0.1:9"]]:
        assert main([*words, "--", name]) == 2
        told = capsys.readouterr().err
        if words[0] == "compare":
            continue  # the first name is not there either
        assert "must start with a letter and hold letters, digits, '_' and '-' only" in told
        assert "\x1b" not in told
    assert validate({"name": name}) == [line for line in validate({"name": name}) if line.startswith("name: ")]


def test_commands_about_a_cluster_say_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(address, raising=False)
    for arguments, told in (
        (["stop", "flowers"], "--address: is needed: http://HOST:8265 of a cluster's dashboard, or auto"),
        (["logs", "flowers"], "--address: is needed: http://HOST:8265 of a cluster's dashboard, or auto"),
        (["status", "flowers"], "no study 'flowers' in "),
        (["status", "flowers", "--address", "head"], "--address: must be auto or HOST:PORT"),
        (["stop", "flowers", "--address", "http://127.0.0.1:9"], "no job server answers at http://127.0.0.1:9 ("),
        (["search", "quickstart", "--address", "nowhere"], "--address: must be auto or HOST:PORT"),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"error: {told}")


def test_the_verbs_and_options_are_these(capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        "search": {"--trials", "--resume", "--join", "--seed", "--output", "--json", "--local", "--address"},
        "train": {"--best", "--trial", "--study", "--epochs", "--name", "--resume", "--seed", "--output", "--local"},
        "validate": set(),
        "status": {"--address", "--output"},
        "logs": {"--follow", "--address"},
        "stop": {"--address"},
        "report": {"--output", "--html", "--json"},
        "compare": {"--output", "--json"},
        "export": {"--to", "--format", "--output", "--prefer"},
        "extend": {"--output"},
        "list": set(),
        "schema": set(),
    }
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE) == list(options)
    for verb, expected in options.items():
        with pytest.raises(SystemExit, match="0"):
            main([verb, "--help"])
        assert set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) == expected | {"--help"}
