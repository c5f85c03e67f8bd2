"""Around a study's job: what may not travel with it, and what the command that followed it says in the end."""

import json
from pathlib import Path

import pytest
from made_outcomes import small_study

from mtl_search.cluster.study_job import StudyJob
from mtl_search.cluster.submit import document_in, exit_code_of, submit
from mtl_search.errors import ConfigError, StudyError
from mtl_search.validation.study_file import LoadedStudy

NOWHERE = "http://127.0.0.1:9"


def ended(state: str, code: int | None) -> StudyJob:
    return StudyJob("flowers-1", state, "", 0.0, 1.0, "", "", code)


@pytest.mark.parametrize(
    ("state", "code", "wanted"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", -9, 1), ("STOPPED", None, 130), ("FAILED", None, 1)],
)
def test_the_command_ends_as_the_job_did(state: str, code: int | None, wanted: int) -> None:
    assert exit_code_of(ended(state, code)) == wanted


def test_the_job_that_was_last_at_work_comes_first() -> None:
    times = {"stopped": (10.0, 99.0, "STOPPED"), "refused": (50.0, 55.0, "FAILED"), "running": (5.0, None, "RUNNING")}
    jobs = [StudyJob(name, state, "", began, end, "", "", None) for name, (began, end, state) in times.items()]
    assert [job.id for job in sorted(jobs, key=StudyJob.last_at_work, reverse=True)] == [
        "running",
        "stopped",
        "refused",
    ]


def test_the_document_is_found_at_the_end_of_a_log() -> None:
    document = json.dumps({"study": {"name": "a"}, "trials": [{"number": 0}]}, indent=1)
    found = document_in(f"study a: 3 trials\ntrial 0 {{}}\n{document}\n")
    assert found is not None
    assert json.loads(found)["trials"] == [{"number": 0}]
    assert document_in("study a: 3 trials\n") is None
    assert document_in("study a\n{\nnot one\n") is None


def here(**parts: object) -> LoadedStudy:
    study = small_study()
    return LoadedStudy(study.config.model_copy(update=parts), study.space, Path("study.yaml"))


def test_places_that_would_not_outlive_the_job_are_told_before_the_cluster_is_asked() -> None:
    with pytest.raises(ConfigError, match="storage: must be a URL"):
        submit(here(storage="runs"), [], NOWHERE, lambda _: None)


def test_a_password_in_mlflow_s_address_does_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example")
    with pytest.raises(StudyError, match="MLFLOW_TRACKING_URI holds a password") as refused:
        submit(here(storage="/shared"), [], NOWHERE, lambda _: None)
    assert "secret" not in str(refused.value)


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    with pytest.raises(StudyError, match="no job server answers at http"):
        submit(here(storage="/shared"), [], NOWHERE, lambda _: None)
