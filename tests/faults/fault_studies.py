"""Studies whose every training step is on record, run by a real driver process; what befell them and what it cost."""

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import counting_backbone
import yaml
from counting_backbone import STEPS
from driver_processes import Command, check_others, check_parent, check_trials, records, tracked
from small_studies import folder_of
from tiny_studies import SOURCE, TASKS

from mtl_search.results.outcome import Outcome

ROWS, BATCH = 105, 35
"""Of the training split (iris without validation and test) and of a joint batch."""
EPOCH = ROWS // BATCH
"""Steps of a joint epoch."""
EPOCHS = 6
"""Of joint training, so long that a checkpoint after each of them is a small part of the time."""
PATIENCE = 240.0
"""Seconds for a study to come to where the next event is due, and to go on after one."""


def study_of(folder: Path, trials: int, epochs: int = EPOCHS, seconds: float = 0.25, **sections: Any) -> dict[str, Any]:
    """A study's plain values: every training step sleeps ``seconds``."""
    params = {"folder": str(folder), "seconds": seconds}
    return {
        "name": "tiny",
        "data": {"source": SOURCE},
        "tasks": TASKS,
        "backbone": {"python": {"function": "counting_backbone:blocks", "params": params}},
        "space": {
            "sharing": {"hard": {"depth": 1}},
            "single_task": {"epochs": 1, "batch_size": BATCH, "optimizer": {"adamw": {"lr": 0.01}}},
            "joint": {
                "epochs": epochs,
                "batch_size": BATCH,
                "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}},
            },
        },
        "search": {
            "trials": trials,
            "sampler": "random",
            "stopper": "none",
            "baseline_seeds": 1,
            "repeats": {"trials": 1, "runs": 1},
        },
        **sections,
    }


def write_study(folder: Path, raw: dict[str, Any]) -> None:
    shutil.copy(counting_backbone.__file__, folder)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


@dataclass(frozen=True)
class Step:
    """A step of joint training as the first rank saw it."""

    at: float
    pid: int
    key: str
    epoch: int


def steps(place: Path, rank: int = 0) -> list[Step]:
    """All joint training steps of a rank so far, in order."""
    file = place / STEPS
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [
        Step(float(at), int(pid), key, int(epoch))
        for at, pid, of, kind, key, epoch in lines
        if kind == "joint" and int(of) == rank
    ]


@dataclass(frozen=True)
class Event:
    """What befell a study.

    Attributes:
        name: What.
        at: When, by the machine's monotonic clock.
        keys: Joint stages that were being trained.
    """

    name: str
    at: float
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What an event cost.

    Attributes:
        epochs: Joint training done again, in epochs, of the stage that lost most.
        pause: Seconds until the stage that stood still longest went on.
    """

    epochs: float
    pause: float


@dataclass
class Story:
    """A driver and what befell it, from one event to the next."""

    place: Path
    command: Command
    events: list[Event] = field(default_factory=list)

    @classmethod
    def begin(cls, place: Path, *options: str) -> "Story":
        """Start a driver on the study in a folder."""
        return cls(place, Command.start(place, *options))

    def again(self, *options: str) -> None:
        """Start the next driver on the same study."""
        self.command = Command.start(self.place, "--resume", *options)

    def busy(self) -> list[str]:
        """Stages in the middle of an epoch after their first that no event has met yet."""
        met = {key for event in self.events for key in event.keys}
        last = {step.key: step for step in steps(self.place)}
        now = time.monotonic()
        return [key for key, step in last.items() if step.epoch > 1 and now - step.at < 0.5 and key not in met]

    def strike(self, name: str, blow: Callable[[], Any], stages: int = 1) -> None:
        """Let something befall the study in mid-epoch, and wait until what it met has come an epoch further."""
        self.hit(name, blow, stages)
        self.goes_on()

    def hit(self, name: str, blow: Callable[[], Any], stages: int = 1) -> None:
        """Let something befall the study in mid-epoch, while that many stages are trained that nothing befell yet."""
        self.command.wait_until(lambda: len(self.busy()) >= stages, PATIENCE)
        self.events.append(Event(name, time.monotonic(), tuple(self.busy())))
        blow()

    def goes_on(self) -> None:
        """Wait until the stages that the last event met have come an epoch further, or to their end."""
        event = self.events[-1]
        reached = {step.key: step.epoch for step in steps(self.place) if step.at <= event.at}
        self.command.wait_until(
            lambda: all(
                any(step.key == key and step.epoch > reached[key] for step in steps(self.place))
                or (folder_of(self.place / "mtl_search_runs").trials / key / "result.json").exists()
                for key in event.keys
            ),
            PATIENCE,
        )

    def costs(self) -> dict[str, Cost]:
        """What each event cost."""
        taken, redone = Counter[tuple[str, int]](), defaultdict[tuple[str, str], int](int)
        pause, last = defaultdict[str, float](float), dict[str, float]()
        for step in steps(self.place):
            past = [event for event in self.events if event.at < step.at]
            taken[step.key, step.epoch] += 1
            if past:
                event = past[-1]
                redone[event.name, step.key] += taken[step.key, step.epoch] > EPOCH
                if step.key in event.keys:
                    pause[event.name] = max(pause[event.name], step.at - last[step.key])
            last[step.key] = step.at
        return {
            event.name: Cost(
                max((count for (name, _), count in redone.items() if name == event.name), default=0) / EPOCH,
                round(pause[event.name], 1),
            )
            for event in self.events
        }

    def note(self, what: str) -> None:
        """Add what was measured to the file that ``MTL_SEARCH_FAULT_COSTS`` names."""
        for name, cost in self.costs().items():
            remark(f"{what}: {name}: {cost.epochs:.2f} epochs, {cost.pause} s")


def remark(words: str) -> None:
    """Add a line to the file that ``MTL_SEARCH_FAULT_COSTS`` names."""
    file = os.environ.get("MTL_SEARCH_FAULT_COSTS")
    if file:
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(f"{words}\n")


def check_end(place: Path, trials: int, uri: str = "", *, retried: bool = False) -> Outcome:
    """Every trial is accounted for once, in its true state, in Optuna and in MLflow; the registry has the model.

    Args:
        place: Where the driver ran.
        trials: The budget.
        uri: MLflow's; by default sqlite in the folder.
        retried: Whether trials may have been closed as interrupted, each of them then tried again, once.
    """
    after = records(place)
    counts = Counter(record.state for record in after)
    assert counts["complete"] == trials, after
    assert set(counts) <= {"complete", *(["interrupted"] if retried else [])}, after
    keys = [record.recipe.key for record in after if record.recipe and record.state == "complete"]
    assert len(set(keys)) == trials, "no recipe trained twice"
    lost = sorted(record.number for record in after if record.state == "interrupted")
    assert sorted(record.retry_of for record in after if record.retry_of is not None) == lost
    runs = tracked(place, uri)
    outcome = Outcome.from_dict(folder_of(place / "mtl_search_runs").read_outcome() or {})
    check_trials(runs, after, outcome)
    check_others(runs, outcome)
    check_parent(runs["study"], outcome, uri or f"sqlite:///{place / 'mlflow.db'}")
    trained = Counter((step.key, step.epoch) for step in steps(place))
    assert min(trained.values()) >= EPOCH, "no epoch was cut short"
    return outcome


Begin = Callable[..., AbstractContextManager[Story]]
"""Runs a driver on a study, written first where it is not there: ``begun(place, raw, *options)``."""
