"""What a study costs whose rows stay on disk, and that it keeps under a cap on memory.

    python benchmarks/streaming.py [--quick] [--json FILE] [--mib DATA] [--cap MIB]

Makes a Parquet table, then runs one study of two tasks on it, each in a process tree of its own (driver, Ray, its
object store, one worker): in memory without a cap, and with ``data.stream`` in a cgroup whose limit is the cap. All
memory counts there: the kernel takes page cache back, and kills for anything else. Needs root and version 1 of the
memory cgroup; without them the streamed run has no cap, and the output says so.

What profiling found, on two busy cores, 400,000 rows of 1 KiB in random order: Ray Data's ``sort`` by place in the
epoch took 35 to 43 s with its newest shuffle and over two minutes with its default one, in an object store smaller
than the data. The order is known beforehand, so nothing needs sorting: tasks that pick each window's rows from blocks
in the object store took 4.0 s, from a file of equally long records 3.4 and 7.8 s (first window after 0.4 to 1.7 s;
21.6 s where their processes were still to start); the worker itself needs 1.0 to 1.5 s for it, while it does not
train. pyarrow's dataset scanner runs ahead of a slow reader by hundreds of MiB, and 1 MiB of buffer for each of 256
columns is as much again: tables are read batch by batch with small buffers. From a file larger than memory rows came at
7,400 a second, as the kernel read on from each place; told beforehand what is wanted (``picking``) it gave 78,000.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUPS = Path("/sys/fs/cgroup/memory")
FEATURES, ROWS_PER_GROUP, MIB = 256, 32768, 1 << 20
SCHEDULE = {"epochs": 2, "batch_size": 1024, "optimizer": {"adamw": {"lr": 0.003}}}


def write_table(path: Path, rows: int) -> None:
    """Numbers that do not compress, and two targets that depend on some of them."""
    schema = pa.schema(
        [*((f"x{n}", pa.float32()) for n in range(FEATURES)), ("kind", pa.string()), ("size", pa.float32())]
    )
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=["kind"]) as writer:
        for start in range(0, rows, ROWS_PER_GROUP):
            rng = np.random.default_rng(start)
            x = rng.standard_normal((FEATURES, min(ROWS_PER_GROUP, rows - start)), dtype=np.float32)
            columns = [*x, np.where(x[0] * x[1] > 0, "up", "down"), x[2] + np.abs(x[3])]
            writer.write_table(pa.table(columns, schema=schema))


def study_file(folder: Path, table: Path, *, stream: bool) -> Path:
    study = {
        "name": "streamed" if stream else "held",
        "data": {"source": {"table": {"path": str(table)}}, "stream": stream},
        "tasks": {"kind": {"kind": "binary", "target": "kind"}, "size": {"kind": "regression", "target": "size"}},
        "backbone": {"mlp": {"width": 128, "depth": 2}},
        "space": {"single_task": {**SCHEDULE, "epochs": 1}, "joint": SCHEDULE},
        "search": {"trials": 1, "baseline_seeds": 1, "repeats": {"trials": 1, "runs": 0}},
        "resources": {"concurrent_trials": 1},
        "storage": str(folder / f"runs-{stream}"),  # its own baselines, too
    }
    path = folder / f"{study['name']}.yaml"
    path.write_text(json.dumps(study), encoding="utf-8")  # JSON is YAML
    return path


def run_child(file: Path) -> None:
    """One study in this process; its epochs and times as JSON on the last line."""
    from mtl_search.search.callbacks import CallbackList
    from mtl_search.search.ray_runtime import ray_runtime
    from mtl_search.search.study import Study, StudyInputs
    from mtl_search.study_store.data_card import describe_data
    from mtl_search.study_store.folder import StudyFolder
    from mtl_search.validation.prepare import prepare, storage_of
    from mtl_search.validation.study_file import load_study

    started = time.monotonic()
    prepared = prepare(load_study(str(file)))
    read = time.monotonic() - started
    config = prepared.study.config
    folder = StudyFolder(storage_of(config), config.name)
    folder.begin(config, describe_data(prepared.workload), resume=False)
    inputs = StudyInputs(config, prepared.study.space, prepared.workload)
    outcome = Study(inputs, folder, CallbackList([]), ray_runtime).run()
    results = [json.loads(path.read_text()) for path in sorted(folder.path.rglob("result.json"))]
    told = {
        "seconds_to_read": read,
        "seconds": time.monotonic() - started,
        "rows": prepared.data.splits["train"]["main"].rows,
        "improvement": outcome.improvement,
        "epochs": {"+".join(result["tasks"]): result["history"] for result in results},
    }
    print("\n" + json.dumps(told))


class Group:
    """A memory cgroup, and the most memory that its processes had: their own and shared, less page cache."""

    def __init__(self, cap_mib: int | None) -> None:
        self.path = GROUPS / f"mtl_search_streaming_{os.getpid()}_{cap_mib}"
        self.peak = 0
        self._ended = threading.Event()
        self.path.mkdir()
        if cap_mib is not None:
            (self.path / "memory.limit_in_bytes").write_text(str(cap_mib * MIB))
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def join(self) -> None:
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def close(self) -> dict[str, float]:
        self._ended.set()
        self._watch.join()
        killed = dict(line.split() for line in (self.path / "memory.oom_control").read_text().splitlines())
        deadline = time.monotonic() + 20
        while (self.path / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.2)  # Ray's last processes
        if not (self.path / "cgroup.procs").read_text():
            self.path.rmdir()
        return {"peak_mib": self.peak / MIB, "killed": int(killed.get("oom_kill", 0))}

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            found = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
            self.peak = max(self.peak, int(found["total_rss"]) + int(found.get("total_shmem", 0)))


def measured(file: Path, folder: Path, cap_mib: int | None) -> dict[str, Any]:
    """One study in a process tree of its own."""
    group = Group(cap_mib) if os.access(GROUPS, os.W_OK) else None
    root = Path(__file__).parents[1]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(file)],
        preexec_fn=group.join if group else None,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    told = group.close() if group else {"peak_mib": float("nan"), "killed": 0}
    if done.returncode:
        raise SystemExit(f"{file.name} failed ({told}): {done.stderr[-3000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), **told}


def losses(told: dict[str, Any]) -> dict[str, Any]:
    """All that does not depend on the clock."""
    return {
        stage: [
            {name: value for name, value in report.items() if name not in ("seconds", "group")} for report in epochs
        ]
        for stage, epochs in told["epochs"].items()
    }


def rows_per_second(told: dict[str, Any]) -> float:
    """Training rows a second of the fastest joint epoch, validation included."""
    seconds = [report["seconds"] for report in told["epochs"]["kind+size"] if report["epoch"]]
    return float(told["rows"] / min(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--mib", type=int, help="size of the data")
    parser.add_argument("--cap", type=int, help="limit of the streamed run, MiB")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options.child)
        return
    data_mib = options.mib or (256 if options.quick else 4096)
    cap = options.cap or 3584
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        folder = Path(place)
        write_table(folder / "table.parquet", data_mib * MIB // (4 * FEATURES))
        size = (folder / "table.parquet").stat().st_size / MIB
        streamed = measured(study_file(folder, folder / "table.parquet", stream=True), folder, cap)
        held = measured(study_file(folder, folder / "table.parquet", stream=False), folder, None)
    found = {
        "data_mib": size,
        "cap_mib": cap if os.access(GROUPS, os.W_OK) else None,
        "peak_mib": {"memory": held["peak_mib"], "streamed": streamed["peak_mib"]},
        "rows_per_second": {"memory": rows_per_second(held), "streamed": rows_per_second(streamed)},
        "seconds": {"memory": held["seconds"], "streamed": streamed["seconds"]},
        "seconds_to_read": {"memory": held["seconds_to_read"], "streamed": streamed["seconds_to_read"]},
        "same_losses": losses(held) == losses(streamed),
        "killed": streamed["killed"],
    }
    found["speed"] = found["rows_per_second"]["streamed"] / found["rows_per_second"]["memory"]
    print(f"data {size:.0f} MiB, cap of the streamed run {found['cap_mib']} MiB")
    for name in ("peak_mib", "rows_per_second", "seconds", "seconds_to_read"):
        print(f"{name:>16}: in memory {found[name]['memory']:,.0f}, streamed {found[name]['streamed']:,.0f}")
    print(f"losses {'equal to the bit' if found['same_losses'] else 'DIFFER'}; speed {found['speed']:.2f} of memory")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
