"""The real command line as a process to be killed, and what it leaves: in Optuna, in MLflow, in the registry."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from live_processes import title
from mlflow import MlflowClient
from mlflow.entities import Run
from small_studies import folder_of

from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord

STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


@dataclass
class Command:
    """A running ``mtl-search search``, in a session of its own as a terminal would have it."""

    place: Path
    process: subprocess.Popen[str]
    family: set[psutil.Process] = field(default_factory=set)

    @classmethod
    def start(cls, place: Path, *options: str) -> "Command":
        with (place / "printed").open("w") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "mtl_search.cli", "search", "tiny.yaml", *options],
                cwd=place,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return cls(place, process)

    @property
    def printed(self) -> str:
        return (self.place / "printed").read_text()

    def wait_until(self, what: Callable[[], Any], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.05)

    def end(self, number: signal.Signals | None = None, seconds: float = 300) -> int:
        """Send a signal to the driver (Ctrl-C: to all of its group), and wait for it and all of its processes."""
        with suppress(psutil.NoSuchProcess):  # it may have ended already
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))
        if number is signal.SIGINT:
            os.killpg(self.process.pid, number)
        elif number is not None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        # Ray's own two agents look for the killed head a minute long, then they end too.
        waited = [each for each in self.family if number is not signal.SIGKILL or not title(each).endswith("Agent")]
        _, left = psutil.wait_procs(waited, timeout=30)
        assert [title(each) for each in left] == []
        return code


def records(place: Path) -> list[TrialRecord]:
    folder = folder_of(place / "mtl_search_runs")
    return folder.records(folder.read_config().search.storage)


def in_mid_trial(place: Path) -> Callable[[], bool]:
    """Whether some trial is finished and another one has come some way."""
    folder = folder_of(place / "mtl_search_runs")
    return lambda: (
        any(folder.trials.glob("*/result.json"))
        and any(folder.trials.glob("*/checkpoint.pt"))
        and any(record.state == "complete" for record in records(place))
    )


def second_driver(place: Path) -> subprocess.CompletedProcess[str]:
    """What a ``mtl-search search --resume`` says and does, begun beside or after the study's first driver."""
    command = [sys.executable, "-m", "mtl_search.cli", "search", "tiny.yaml", "--resume"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)


def tracked(place: Path, uri: str = "") -> dict[str, Run]:
    """The study's runs in MLflow by key."""
    return runs_at(uri or f"sqlite:///{place / 'mlflow.db'}", "tiny")


def runs_at(uri: str, experiment_name: str) -> dict[str, Run]:
    """An experiment's runs by key."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_key = {run.data.tags["mtl_search.key"]: run for run in runs}
    assert len(by_key) == len(runs), "no run twice"
    return by_key


def check_states(place: Path, before: list[TrialRecord], trials: int, uri: str = "") -> Outcome:
    """Optuna and MLflow agree, nothing runs, nothing finished was lost or doubled."""
    after = records(place)
    finished = [record for record in before if record.state == "complete"]
    assert [record for record in after if record.number in {old.number for old in finished}] == finished
    counts = Counter(record.state for record in after)
    assert counts["complete"] == trials
    assert set(counts) <= {"complete", "interrupted"}
    keys = [record.recipe.key for record in after if record.recipe and record.state == "complete"]
    assert len(set(keys)) == trials, "no recipe trained twice"
    lost = {record.number for record in after if record.state == "interrupted"}
    assert {record.retry_of for record in after if record.retry_of is not None} == lost
    assert lost
    runs, outcome = tracked(place, uri), Outcome.from_dict(folder_of(place / "mtl_search_runs").read_outcome() or {})
    check_trials(runs, after, outcome)
    check_others(runs, outcome)
    check_parent(runs["study"], outcome, uri or f"sqlite:///{place / 'mlflow.db'}")
    return outcome


def check_trials(runs: dict[str, Run], after: list[TrialRecord], outcome: Outcome) -> None:
    """Every trial is one run in its true state, with every epoch once and the final figure on top.

    But for one that was just asked for: whoever was to note its recipe was stopped before, and it is asked for again.
    """
    begun = [record for record in after if record.recipe is not None]
    assert {record.state for record in after if record.recipe is None} <= {"interrupted"}
    assert {key for key in runs if key.startswith("trial-")} == {f"trial-{record.number}" for record in begun}
    for record in begun:
        run = runs[f"trial-{record.number}"]
        assert (run.info.status, run.data.tags["state"]) == (STATUS[record.state], record.state.upper())
        if record.state == "complete":
            assert abs(run.data.metrics["improvement"] - outcome.objective.improvement(record.metrics)) < 1e-9
    assert [key for key, run in runs.items() if run.data.tags.get("best") == "true"] == [f"trial-{outcome.number}"]


def check_others(runs: dict[str, Run], outcome: Outcome) -> None:
    """Baselines and controls of every seed and repeats of every candidate are there, have ended and are nested."""
    others = {key: run for key, run in runs.items() if key != "study" and not key.startswith("trial-")}
    again = {f"repeat-{each.number}-{run}" for each in outcome.candidates for run in range(1, each.repeated.runs + 1)}
    assert {key for key in others if key.startswith("repeat-")} == again
    models: dict[str, dict[str, set[int]]] = {task: {} for task in outcome.tasks}
    for key in others.keys() - again:
        task, *rest = key.removeprefix("baseline-").split("/")
        seed = int(rest.pop()) if rest and rest[-1].isdigit() else 0
        models[task].setdefault("/".join(rest), set()).add(seed)
    for task, found in outcome.tasks.items():
        assert all(seeds == set(range(len(seeds))) for seeds in models[task].values()), "those that choose, then fresh"
        assert len(models[task][""]) == max(map(len, models[task].values())), "the default recipe's are in all of them"
        assert len(models[task][""]) > len(found.baseline_runs) > 0, "chosen on other seeds than those measured"
        assert any(name.startswith(f"control-{outcome.number}") for name in models[task])
    assert {run.info.status for run in others.values()} == {"FINISHED"}
    assert {run.data.tags["state"] for run in others.values()} == {"COMPLETE"}
    parents = {run.data.tags.get("mlflow.parentRunId") for key, run in runs.items() if key != "study"}
    assert parents == {runs["study"].info.run_id}


def check_parent(parent: Run, outcome: Outcome, uri: str) -> None:
    """The parent run has ended and tells what was found; the registry's aliases name the models of this study."""
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best_trial"] == str(outcome.number)
    assert "What was found" in parent.data.tags["mlflow.note.content"]
    assert len(parent.inputs.dataset_inputs) == 3
    client = MlflowClient(uri, uri)
    texts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert texts >= {"study.yaml", "environment.txt", "description.md"}
    if find_spec("mtl_search.figures") is not None:
        assert {Path(file.path).suffix for file in client.list_artifacts(parent.info.run_id, "figures")} >= {".png"}
    aliases = {"champion": outcome.number, "challenger": outcome.challenger}
    found = {alias: number for alias, number in aliases.items() if number is not None}
    assert client.get_registered_model("tiny").aliases.keys() == found.keys()
    for alias, number in found.items():
        version = client.get_model_version_by_alias("tiny", alias)
        assert (version.tags["trial"], version.run_id) == (str(number), parent.info.run_id)
