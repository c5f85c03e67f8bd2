"""Carries out stages without Ray, in a process of its own: ``python plain_stages.py FILE`` with pickled work."""

import pickle
import sys
from pathlib import Path

from mtl_search.models.distributed import DistributedContext, use_threads
from mtl_search.training.stages import Stage, run_stage
from mtl_search.training.workspace import Workload, Workspace


def carry_out(study: Workload, stages: list[Stage]) -> None:
    workspace = Workspace(study, DistributedContext())
    for stage in stages:
        run_stage(stage, workspace)


if __name__ == "__main__":
    use_threads(1)
    carry_out(*pickle.loads(Path(sys.argv[1]).read_bytes()))  # noqa: S301
    sys.exit("ray" in sys.modules)
