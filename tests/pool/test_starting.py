"""Ray's start on this machine, in a process of its own: its processes leave the cores to the training."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl_search.errors import StudyError
from mtl_search.pool.local_ray import ray_folder

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(sys.platform != "linux", reason="Linux's scheduler")]

STARTS = """
import os

import psutil
import ray

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.pool.ray_cluster import start_ray
from mtl_search.pool.local_ray import stop_ray


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
import sys
import signal
import threading
import time

import psutil

from mtl_search.pool.local_ray import start_local_ray, stop_ray


def kin():
    found = psutil.Process().children(recursive=True)
    return [child.name() for child in found if child.status() != psutil.STATUS_ZOMBIE]


def interrupt():
    while "gcs_server" not in kin():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_in_a_hook():
    # Python drops what is raised here: it runs this before each process that Ray starts with a function of its own.
    if not dropped and "gcs_server" in kin():
        dropped.append(True)
        signal.raise_signal(signal.SIGINT)


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
dropped = []
if sys.argv[1] == "in a hook":
    os.register_at_fork(before=interrupt_in_a_hook)
else:
    threading.Thread(target=interrupt).start()
try:
    start_local_ray(1)
except KeyboardInterrupt:
    stop_ray()
    time.sleep(1)
    print("broken off,", kin(), "left")
start_local_ray(1)
print("gcs_server" in kin(), "after another start")
stop_ray()
"""


@pytest.mark.parametrize("way", ["at any time", "in a hook"])
def test_a_start_that_is_broken_off_leaves_no_process_and_can_be_made_again(way: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BREAKS_OFF, way], cwd=tmp_path, capture_output=True, text=True)
    said = ["broken off, [] left", "True after another start"]
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr


STARTS_WHERE_RAYLETS_HANG = """
import os
import signal
import sys
import threading
import time

import psutil
import ray

from mtl_search.pool.local_ray import start_local_ray, stop_ray


def hang(most):
    stopped = set()
    while len(stopped) < most:
        for child in psutil.Process().children(recursive=True):
            if child.name() == "raylet" and child.pid not in stopped:
                child.suspend()
                stopped.add(child.pid)
        time.sleep(0.01)


threading.Thread(target=hang, args=[int(sys.argv[1])], daemon=True).start()
try:
    start_local_ray(1)
    print(ray.cluster_resources()["CPU"])
    stop_ray()
except Exception as error:
    time.sleep(1)
    left = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    print(type(error).__name__, error, left)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hang", "said"),
    [
        ("1", r"1\.0"),
        (
            "9",
            r"StudyError Ray did not start on this machine, twice \(Exception: The current node timed out .*\): wait "
            r"until the machine is less busy and go on with --resume; Ray's logs are in .*/session_latest/logs \[\]",
        ),
    ],
)
def test_a_ray_that_does_not_come_up_is_started_once_more(hang: str, said: str, tmp_path: Path) -> None:
    script = [sys.executable, "-c", STARTS_WHERE_RAYLETS_HANG, hang]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(said, done.stdout.strip()), done.stdout + done.stderr


@pytest.fixture
def long_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mtl_search_")) / ("x" * 60)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder.parent)


def test_ray_starts_where_temporary_files_have_long_paths(long_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = os.environ | {"TMPDIR": str(long_folder)}
    script = [sys.executable, "-c", STARTS]
    done = subprocess.run(script, cwd=long_folder, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "True {'batch'} other"), done.stderr
    assert list((long_folder / "ray").glob("session_2*/sockets")), "and its files lie there all the same"
    monkeypatch.setenv("TMPDIR", str(long_folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    link = Path(ray_folder())
    assert len(str(link)) <= 43
    assert link.resolve() == long_folder / "ray"
    assert link.parent.stat().st_mode & 0o777 == 0o700
    link.unlink()
    rule = (
        r"too long a path for Ray's sockets: .* bytes of at most 43; set TMPDIR, or RAY_TMPDIR alone, to a shorter one"
    )
    with pytest.raises(StudyError, match=rule):
        ray_folder([str(long_folder)])
    with pytest.raises(StudyError, match=rule):
        ray_folder(["/proc"])


@pytest.mark.parametrize(("start", "own"), [([], "other"), (["chrt", "--batch", "0"], "batch")])
def test_rays_processes_wait_for_their_turn_and_the_driver_does_not(start: list[str], own: str, tmp_path: Path) -> None:
    done = subprocess.run([*start, sys.executable, "-c", STARTS], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"True {{'batch'}} {own}"), done.stderr


STUDY = """
name: wide
data: {source: {sklearn: {name: iris}}}
tasks: {species: {kind: classification, target: target}, petal: {kind: regression, target: petal width (cm)}}
backbone: mlp
search: {trials: 2}
resources: {concurrent_trials: 1000}
"""


def test_a_study_that_this_machine_has_no_room_for_is_not_begun(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "mtl_search.cli", "search", "wide.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: resources.concurrent_trials: must fit what Ray offers (" in done.stderr
    assert {path.name for path in (tmp_path / "mtl_search_runs" / "studies" / "wide").iterdir()} == {"search.log"}
