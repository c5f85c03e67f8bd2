"""What commands cost before they do anything, and what memory a running study holds.

    python benchmarks/startup.py [--quick] [--json FILE] [--source DIR]

* ``ratio.list``, ``ratio.schema``, ``ratio.status``, ``ratio.report``, ``ratio.validate``, ``ratio.broken_file``: the
  wall time of the command over that of ``python -c "import torch"``. All take turns, a process each; the figure is the
  median over the turns. ``validate`` checks the quickstart, which reads its data and builds its model; ``broken_file``
  is a study file that is empty. ``status`` and ``report`` are of the study below. ``torch_seconds`` is the yardstick.
* ``pss_mib``: the proportional set size of the command that searches the quickstart (few trials of few epochs) with all
  processes below it, so that a page that several share counts once: the largest of the samples taken while it runs.
  ``pss_by_process`` splits that sample by process; ``pss_median_mib`` is the median of the samples since the first
  worker group has come up.

``--source`` measures another checkout of this project with the same interpreter.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import psutil
import yaml
from figures import print_table, write_figures

HERE = Path(__file__).resolve().parents[1]
TORCH = ("-c", "import torch")
STUDY, FILE, BROKEN = "quickstart", "quickstart.yaml", "broken.yaml"
TRIALS, EPOCHS = 4, 4
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "list": ("list",),
    "schema": ("schema",),
    "status": ("status", STUDY),
    "report": ("report", STUDY),
    "validate": ("validate", FILE),
    "broken_file": ("validate", BROKEN),
}
WORKER = "RayTrainWorker"
"""In the name of the process of a worker group."""
SAMPLE_SECONDS = 1.0


def environment_of(source: Path) -> dict[str, str]:
    """The environment in which Python finds a checkout's package before any that is installed."""
    return {**os.environ, "PYTHONPATH": str(source)}


def seconds_of(arguments: tuple[str, ...], source: Path, folder: Path) -> float:
    """Wall time of a Python process.

    Args:
        arguments: Of the interpreter.
        source: The checkout.
        folder: Where it runs.
    """
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment_of(source), capture_output=True, check=False
    )
    return time.perf_counter() - started


def start_ratios(source: Path, folder: Path, turns: int) -> tuple[dict[str, float], float]:
    """Each command's time over that of importing torch, and the seconds that this import takes.

    Args:
        source: The checkout.
        folder: Where the commands run; the study has ended there.
        turns: How many to time, after one that warms the caches of files.
    """
    (folder / BROKEN).write_text("")
    ratios: dict[str, list[float]] = {name: [] for name in COMMANDS}
    yardstick = []
    for turn in range(turns + 1):
        torch = seconds_of(TORCH, source, folder)
        seconds = {name: seconds_of(("-m", "mtl_search.cli", *args), source, folder) for name, args in COMMANDS.items()}
        if turn:
            yardstick.append(torch)
            for name, value in seconds.items():
                ratios[name].append(value / torch)
    return {f"ratio.{name}": median(values) for name, values in ratios.items()}, median(yardstick)


def pss_mib_of(process: psutil.Process) -> float:
    """Proportional set size of a process in MiB; 0 once it has ended."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)


def name_of(process: psutil.Process) -> str:
    """What a process is, without its number, folders and arguments."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return "ended"
    first = words[0] if words else process.name()
    if first.startswith("ray::"):
        return first.split("(")[0].split(" ")[0]
    script = next((word for word in words[1:] if not word.startswith("-")), "")
    return Path(script).name if "python" in Path(first).name else Path(first).name


def sample(root: psutil.Process) -> dict[str, float]:
    """MiB by kind of process, of a process and all below it; a kind of several processes has their number."""
    sizes: dict[str, list[float]] = defaultdict(list)
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return {}
    for process in tree:
        sizes["driver" if process is root else name_of(process)].append(pss_mib_of(process))
    return {f"{name} x{len(each)}" if len(each) > 1 else name: sum(each) for name, each in sizes.items()}


def write_study(source: Path, folder: Path) -> None:
    """Write the quickstart with few trials of few epochs: what it holds in memory does not depend on how many."""
    study = yaml.safe_load((source / "search_spaces" / FILE).read_text())
    for stage in ("single_task", "joint"):
        study["space"][stage]["epochs"] = EPOCHS
    study["search"] = {"trials": TRIALS, "baseline": {"tune": 1}, "repeats": {"trials": 1, "runs": 1}}
    (folder / FILE).write_text(yaml.safe_dump(study))


def run_study(source: Path, folder: Path) -> list[dict[str, float]]:
    """Search, and sample the memory while that runs.

    Args:
        source: The checkout.
        folder: Where it runs, and has the study file.

    Raises:
        RuntimeError: The study did not succeed.
    """
    command = [sys.executable, "-m", "mtl_search.cli", "search", FILE]
    samples = []
    with (folder / "output").open("w") as output:
        study = psutil.Popen(command, cwd=folder, env=environment_of(source), stdout=output, stderr=output)
        while study.poll() is None:
            samples.append(sample(study))
            time.sleep(SAMPLE_SECONDS)
    if study.returncode:
        raise RuntimeError((folder / "output").read_text()[-2000:])
    return [each for each in samples if each]


def main() -> None:
    """Measure memory, then start-up."""
    parser = argparse.ArgumentParser(description="Start-up of the commands over `import torch`; memory of a study.")
    parser.add_argument("--quick", action="store_true", help="few turns, some two minutes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--source", type=Path, default=HERE, help="another checkout to measure")
    arguments = parser.parse_args()
    source = arguments.source.resolve()
    with tempfile.TemporaryDirectory() as place:
        write_study(source, Path(place))
        samples = run_study(source, Path(place))
        ratios, torch = start_ratios(source, Path(place), 3 if arguments.quick else 9)
    largest = max(samples, key=lambda each: sum(each.values()))
    training = [each for each in samples if any(WORKER in name for name in each)]
    figures = {
        **ratios,
        "torch_seconds": torch,
        "pss_mib": sum(largest.values()),
        "pss_median_mib": median(sum(each.values()) for each in training or samples),
    }
    print_table("Wall time over that of importing torch; memory in MiB", figures)
    by_process = dict(sorted(largest.items(), key=lambda item: -item[1]))
    print_table("Memory by process, MiB", by_process)
    write_figures(arguments.json, {**figures, "pss_by_process": by_process})


if __name__ == "__main__":
    main()
