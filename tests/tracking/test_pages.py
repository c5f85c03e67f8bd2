"""MLflow's pages of an experiment are asked for as model training, and nothing that a user wrote there is lost."""

from collections.abc import Callable
from typing import Any

import pytest

from mtl_search.tracking.entities import runs_page
from mtl_search.tracking.tracker import Tracker

Track = Callable[..., Tracker]
KIND, NOTE = "mlflow.experimentKind", "mlflow.note.content"
EARLIER = (
    "Studies of `mtl_search`. A top-level run is a study; nested in it are trials, single-task models and repeats. To "
    "compare trials, filter by `tags.kind = 'trial'` and sort by `improvement`."
)


def tags_after_a_study(track: Track, seen: Any) -> tuple[str, dict[str, str]]:
    with track() as tracker:
        tracker.start_study({}, {})
        assert tracker.flush(60.0) == 0
        experiment = seen.client.get_experiment_by_name("e")
        page = f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        assert tracker.page == page
    return experiment.experiment_id, experiment.tags


def told(experiment_id: str) -> str:
    return (
        "Studies of `mtl_search`: [open them under Model training]"
        f"(#/experiments/{experiment_id}/runs?workflowType=machine_learning), MLflow's switch at the top left."
        + EARLIER.removeprefix("Studies of `mtl_search`.")
    )


@pytest.mark.parametrize("there", [None, {}, {NOTE: EARLIER}])
def test_an_experiment_says_that_it_is_model_training(there: dict[str, str] | None, track: Track, seen: Any) -> None:
    if there is not None:
        seen.client.create_experiment("e", tags=there)
    number, tags = tags_after_a_study(track, seen)
    assert tags[KIND] == "custom_model_development"
    assert tags[NOTE] == told(number)


def test_what_the_owner_of_an_experiment_has_said_stays(track: Track, seen: Any) -> None:
    own = {KIND: "genai_development", NOTE: f"{EARLIER} My words."}
    seen.client.create_experiment("e", tags=own)
    _, tags = tags_after_a_study(track, seen)
    assert own.items() <= tags.items()


def test_an_address_is_told_where_one_is_known() -> None:
    path = "#/experiments/7/runs?workflowType=machine_learning"
    assert runs_page("https://mlflow.example/base/", "7") == f"https://mlflow.example/base/{path}"
    for local in ("sqlite:////runs/mlflow.db", "postgresql://me@db/mlflow", "file:///runs/mlruns"):
        assert runs_page(local, "7") == f"http://127.0.0.1:5000/{path}"
    for unknown in ("databricks", "databricks://profile", "mlruns"):
        assert runs_page(unknown, "7") is None
