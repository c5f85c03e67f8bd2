"""Where a study ran: versions, machine and git commit, for whoever wants to repeat it.

Read once, when the recorder opens the parent run.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from mtl_search.passwords import without_passwords

_PATIENCE = 30.0  # seconds


def environment() -> str:
    """Python, platform, GPUs, and every installed package with its version, line by line."""
    packages = sorted({f"{found.name}=={found.version}" for found in distributions()}, key=str.lower)
    lines = [
        f"# python {platform.python_version()} ({sys.executable})",
        f"# platform {platform.platform()}",
        f"# cpus {os.cpu_count()}",
        f"# gpus {_gpus() or 'none'}",
        f"# command {without_passwords(' '.join(sys.argv))}",
    ]
    return "\n".join([*lines, *packages]) + "\n"


def _gpus() -> str:
    """NVIDIA's GPUs and their driver; asked of its own program, since asking torch would open CUDA in the driver."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return "; ".join(_said(command).splitlines())


def git_tags(folders: Sequence[Path]) -> dict[str, object]:
    """Commit, branch and whether files differ from it, as MLflow's tags; empty where no folder lies in a repository.

    Args:
        folders: The first that does counts.
    """
    if shutil.which("git") is None:
        return {}
    for folder in folders:
        commit = _git(folder, "rev-parse", "HEAD")
        if commit:
            return {
                "mlflow.source.git.commit": commit,
                "mlflow.source.git.branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "HEAD",
                "mlflow.source.git.dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
            }
    return {}


def _git(folder: Path, *words: str) -> str:
    """What git says of a folder; empty where it is no repository, or one that this user may not read."""
    command = ["git", "-C", str(folder), "--no-optional-locks", *words]
    return _said(command)


def _said(command: Sequence[str]) -> str:
    """What a program prints; empty where it fails or takes too long, for no study waits for a line about itself."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except (subprocess.TimeoutExpired, OSError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
