"""Everything is killed at random, with a seed: whatever the order, each trial counts once and the study ends."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from driver_processes import records
from fault_cluster import FaultCluster
from fault_studies import EPOCH, EPOCHS, Begin, Event, Story, check_end, remark, steps, study_of

SECONDS = float(os.environ.get("MTL_SEARCH_CHAOS_SECONDS", "60"))
"""How long the killing lasts; ten minutes is the full run."""
SEED = int(os.environ.get("MTL_SEARCH_CHAOS_SEED", "0"))

pytestmark = [pytest.mark.timeout(420 + 3 * SECONDS), pytest.mark.slow]


def kill_one(cluster: FaultCluster, words: str, chance: random.Random) -> bool:
    """Kill one of the processes with such a title; whether there was one."""
    found = cluster.named(words)
    if found:
        try:
            chance.choice(found).kill()
        except psutil.NoSuchProcess:
            return False
    return bool(found)


def replace_node(cluster: FaultCluster, chance: random.Random) -> bool:
    """Lose a node and have another in its place."""
    cluster.kill_node(chance.choice(cluster.alive))
    cluster.add(1)
    return True


def test_a_study_ends_with_every_trial_once_whatever_is_killed(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    chance, cluster = random.Random(SEED), broken_cluster
    cluster.add(1, count=3)
    trials = 6 + int(SECONDS / 6)

    def restart(story: Story) -> bool:
        story.command.process.kill()
        story.command.process.wait()
        story.again()
        return True

    with begun(tmp_path, study_of(tmp_path, trials, resources={"max_retries": 20})) as story:
        story.command.wait_until(lambda: steps(tmp_path))
        blows: dict[str, Callable[[], bool]] = {
            "worker": lambda: kill_one(cluster, "RayTrainWorker", chance),
            "controller": lambda: kill_one(cluster, "TrainController", chance),
            "trainable": lambda: kill_one(cluster, "Follower", chance),
            "dispatcher": lambda: kill_one(cluster, "Mailbox", chance),
            "node": lambda: replace_node(cluster, chance),
            "driver": lambda: restart(story),
        }
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and story.command.process.poll() is None:
            time.sleep(chance.uniform(3, 12))
            name = chance.choices(list(blows), weights=[4, 2, 2, 2, 2, 1])[0]
            at = time.monotonic()
            if blows[name]():
                story.events.append(Event(f"{len(story.events)} {name}", at, ()))
        assert story.command.end() == 0, (story.events, story.command.printed)
    check_end(tmp_path, trials, retried=True)
    assert all(record.state in ("complete", "interrupted") for record in records(tmp_path))
    story.note("chaos")
    done, stages = len(steps(tmp_path)), len({step.key for step in steps(tmp_path)})
    wanted = stages * EPOCHS * EPOCH
    per_event = (done - wanted) / EPOCH / max(1, len(story.events))
    remark(f"chaos: {len(story.events)} events, {trials} trials, {per_event:.2f} epochs redone per event")
    assert per_event <= 3, "at most one epoch for each of the three groups"
