"""Ray's start on this machine, in a process of its own: its processes leave the cores to the training."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(sys.platform != "linux", reason="Linux's scheduler")]

STARTS = """
import os

import psutil
import ray

from mtl_search.config import ResourcesConfig
from mtl_search.execution.cluster import start_ray, stop_ray


def policy(pid):
    return {os.SCHED_BATCH: "batch", os.SCHED_OTHER: "other"}[os.sched_getscheduler(pid)]


def is_log_monitor(child):
    return child.status() != psutil.STATUS_ZOMBIE and "log_monitor" in " ".join(child.cmdline())


@ray.remote
def where():
    return os.getpid()


start_ray(ResourcesConfig(concurrent_trials=1), 1)
worker = ray.get(where.remote())
children = {child.pid: child for child in psutil.Process().children(recursive=True)}
print(worker in children, {policy(pid) for pid in children}, policy(0), *filter(is_log_monitor, children.values()))
stop_ray()
"""


BREAKS_OFF = """
import os
import signal
import threading
import time

import psutil

from mtl_search.execution.cluster import stop_ray
from mtl_search.execution.own_ray import start_here


def kin():
    found = psutil.Process().children(recursive=True)
    return [child.name() for child in found if child.status() != psutil.STATUS_ZOMBIE]


def interrupt():
    while "gcs_server" not in kin():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


threading.Thread(target=interrupt).start()
try:
    start_here(1)
except KeyboardInterrupt:
    stop_ray()
    time.sleep(1)
    print("broken off,", kin(), "left")
start_here(1)
print("gcs_server" in kin(), "after another start")
stop_ray()
"""


def test_a_start_that_is_broken_off_leaves_no_process_and_can_be_made_again(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BREAKS_OFF], cwd=tmp_path, capture_output=True, text=True)
    said = ["broken off, [] left", "True after another start"]
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr


@pytest.mark.parametrize(("start", "own"), [([], "other"), (["chrt", "--batch", "0"], "batch")])
def test_rays_processes_wait_for_their_turn_and_the_driver_does_not(start: list[str], own: str, tmp_path: Path) -> None:
    done = subprocess.run([*start, sys.executable, "-c", STARTS], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"True {{'batch'}} {own}"), done.stderr
