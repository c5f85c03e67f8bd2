"""A study as a Ray job keeps nothing in a folder that goes when the job ends."""

from typing import Any

import pytest
from made_outcomes import small_study

from mtl_search.errors import ConfigError
from mtl_search.validation.job_paths import job_path_problems
from mtl_search.validation.prepare import prepare
from mtl_search.validation.study_file import load_study


def told(storage: str, uri: str | None) -> list[str]:
    config = small_study().config.model_copy(update={"storage": storage})
    return [problem.place for problem in job_path_problems(config, uri)]


@pytest.mark.parametrize("storage", ["s3://bucket/runs", "/shared/runs", "~/runs"])
@pytest.mark.parametrize(
    "uri", ["http://mlflow:5000", "sqlite:////shared/mlflow.db", "postgresql+psycopg://db/x", "file:///shared/mlruns"]
)
def test_servers_urls_and_full_paths_outlive_a_job(storage: str, uri: str) -> None:
    assert told(storage, uri) == []


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "./mlruns", "file:mlruns"])
def test_places_in_the_working_folder_do_not(uri: str) -> None:
    assert told("mtl_search_runs", uri) == ["storage", "tracking.uri"]
    assert told("/shared", None) == ["tracking.uri"]


def test_a_driver_in_a_job_says_so_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw: dict[str, Any] = {
        "name": "tiny",
        "data": {"source": {"table": {"path": "not-there.csv"}}},
        "tasks": {"a": {"kind": "regression", "target": "a"}},
        "backbone": "mlp",
        "search": {"trials": 2},
    }
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ConfigError, match=r"storage: must be a URL[^\n]*\n[^\n]*tracking\.uri: must name"):
        prepare(load_study(raw))
