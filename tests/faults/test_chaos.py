"""Everything is killed at random, with a seed: whatever the order, each trial counts once and the study ends."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from driver_processes import records
from fault_cluster import FaultCluster
from fault_studies import EPOCH, EPOCHS, Begin, Event, Story, check_end, remark, steps, study_of

SECONDS = float(os.environ.get("MTL_SEARCH_CHAOS_SECONDS", "60"))
"""How long the killing lasts; ten minutes is the full run."""
SEED = int(os.environ.get("MTL_SEARCH_CHAOS_SEED", "0"))
WEIGHTS = {
    "worker": 4,
    "controller": 2,
    "Tune trial": 2,
    "job queue": 2,
    "hanging worker": 1,
    "node": 2,
    "driver": 1,
    "head": 0.5,
}

pytestmark = [pytest.mark.timeout(480 + 3 * SECONDS), pytest.mark.slow]


class Chaos:
    """A cluster that may be lost as a whole, and the blows that fall on it.

    Args:
        make: Makes the head of a cluster.
    """

    def __init__(self, make: Callable[[], FaultCluster]) -> None:
        self._make, self._chance = make, random.Random(SEED)
        self._cluster = self._new()
        self.tried, self.struck = Counter[str](), Counter[str]()

    def _new(self) -> FaultCluster:
        cluster = self._make()
        cluster.add(1, count=3)
        return cluster

    def strike(self, story: Story) -> None:
        """Wait a moment, then let something happen."""
        time.sleep(self._chance.uniform(3, 12))
        name = self._chance.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        at = time.monotonic()
        self.tried[name] += 1
        blows: dict[str, Callable[[], bool]] = {
            "worker": lambda: self._hit("RayTrainWorker", psutil.Process.kill),
            "controller": lambda: self._hit("TrainController", psutil.Process.kill),
            "Tune trial": lambda: self._hit("ResourceTrainable", psutil.Process.kill),
            "job queue": lambda: self._hit("JobQueue", psutil.Process.kill),
            "hanging worker": lambda: self._hit("RayTrainWorker", psutil.Process.suspend),
            "node": self._replace_node,
            "driver": lambda: self._restart(story),
            "head": lambda: self._lose_everything(story),
        }
        if blows[name]():
            self.struck[name] += 1
            story.events.append(Event(f"{len(story.events)} {name}", at, ()))

    def _hit(self, words: str, blow: Callable[[psutil.Process], None]) -> bool:
        """Hit one of the processes with such a title; whether there was one."""
        found = self._cluster.named(words)
        with suppress(psutil.NoSuchProcess):
            if found:
                blow(self._chance.choice(found))
                return True
        return False

    def _replace_node(self) -> bool:
        """Lose a node and have another in its place."""
        self._cluster.kill_node(self._chance.choice(self._cluster.alive))
        self._cluster.add(1)
        return True

    def _restart(self, story: Story) -> bool:
        """Kill the driver; the next one goes on."""
        story.command.process.kill()
        story.command.process.wait()
        story.again()
        return True

    def _lose_everything(self, story: Story) -> bool:
        """Kill head, nodes and driver at once; the next driver goes on on a new cluster."""
        story.command.process.kill()
        self._cluster.close()
        story.command.process.wait()
        self._cluster = self._new()
        story.again()
        return True


def test_a_study_ends_with_every_trial_once_whatever_is_killed(
    tmp_path: Path, broken_cluster_of: Callable[[], FaultCluster], begun: Begin
) -> None:
    chaos, trials = Chaos(broken_cluster_of), 6 + int(SECONDS / 6)
    resources = {"max_retries": 20, "report_timeout": "20s"}
    with begun(tmp_path, study_of(tmp_path, trials, resources=resources)) as story:
        story.command.wait_until(lambda: steps(tmp_path))
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and story.command.process.poll() is None:
            chaos.strike(story)
        assert story.command.end(seconds=300 + SECONDS) == 0, (story.events, story.command.printed)
    check_end(tmp_path, trials, retried=True)
    assert all(record.state in ("complete", "interrupted") for record in records(tmp_path))
    story.note("chaos")
    missed = {name for name, times in chaos.tried.items() if times > 2 and not chaos.struck[name]}
    assert not missed, f"nothing was ever found to hit: {missed}"
    redone, met = lost(tmp_path, story.events)
    mean = sum(redone.values()) / max(1, sum(met.values()))
    words = f"{dict(chaos.struck)}, {trials} trials; an event cost a trial that it met {mean:.2f} epochs"
    remark(f"chaos, seed {SEED}, {SECONDS:.0f} s: {words}, {sum(redone.values()):.1f} in all")
    assert mean <= 1, words


def lost(place: Path, events: list[Event]) -> tuple[Counter[str], Counter[str]]:
    """Epochs of joint training done again, and events that fell between its first and its last step, by stage."""
    done, first, last = Counter[str](), dict[str, float](), dict[str, float]()
    for step in steps(place):
        done[step.key] += 1
        first.setdefault(step.key, step.at)
        last[step.key] = step.at
    redone = Counter({key: taken / EPOCH - EPOCHS for key, taken in done.items()})
    met = Counter({key: sum(first[key] <= event.at <= last[key] for event in events) for key in done})
    return redone, met
