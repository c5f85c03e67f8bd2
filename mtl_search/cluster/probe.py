"""Probe: tells what a cluster's machines have, before anything is sent to them.

Its text runs there by itself (``python -c``), on whatever Python the cluster has: standard library alone, but for
``packaging``, which Ray brings. Here the same functions tell what this machine has.
"""

import hashlib
import json
import os
import sys
from importlib import metadata, util
from pathlib import Path

MARK = "mtl_search.probe "
"""Begins the line of the job's log that tells."""
PACKAGE = "mtl_search"


def fingerprint(folder: Path) -> str:
    """A package's Python files as one short text: the same code, the same text."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def find_requirements(requirements: "list[str]") -> "dict[str, object]":
    """What this machine has.

    Args:
        requirements: As in a package's metadata, without markers.

    Returns:
        ``python``; ``package``, the fingerprint of the mtl_search that is installed or None; ``unmet``, names of the
        requirements that are missing or have another version; ``ray``, its version; ``tracking``, whether the
        environment names an MLflow server.
    """
    from packaging.requirements import Requirement

    unmet = []
    for each in map(Requirement, requirements):
        try:
            met = each.specifier.contains(metadata.version(each.name), prereleases=True)
        except metadata.PackageNotFoundError:
            met = False
        if not met:
            unmet.append(each.name)
    spec = util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return {
        "python": "{}.{}".format(*sys.version_info[:2]),
        "package": fingerprint(Path(places[0])) if places else None,
        "unmet": unmet,
        "ray": metadata.version("ray"),
        "tracking": bool(os.environ.get("MLFLOW_TRACKING_URI")),
    }


if __name__ == "__main__":
    sys.path = [place for place in sys.path if place]  # a job works in another folder than this script
    sys.stdout.write(MARK + json.dumps(find_requirements(json.loads(sys.argv[1]))) + "\n")
