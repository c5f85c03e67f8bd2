"""Leaving Ray, in a process of its own: what is left over must not end it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

LEAVES = """
import gc
import threading

import ray
from ray._private import worker

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.pool.ray_cluster import start_ray
from mtl_search.pool.local_ray import stop_ray


class Knot:
    def __init__(self, number):
        self.own, self.reference = self, ray.put(number)


start_ray(ResourcesConfig(concurrent_trials=1), 1)
gc.disable()
knots = [Knot(number) for number in range(2000)]
disconnected, disconnect = threading.Event(), worker.disconnect


def told(exiting):
    disconnect(exiting)
    knots.clear()  # from here on it is garbage
    disconnected.set()


def allocate():
    disconnected.wait()
    while True:
        [[] for _ in range(1000)]


worker.disconnect = told
threading.Thread(target=allocate, daemon=True).start()
gc.enable()
stop_ray()
print("left", gc.isenabled())
"""


def test_garbage_that_another_thread_finds_does_not_end_the_process(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVES], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "left True"), done.stderr
