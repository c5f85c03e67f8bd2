"""The runtime environment of a job: this package and pinned libraries, where the cluster lacks them."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mtl_search.cluster import probe
from mtl_search.cluster.job_server import JobServer
from mtl_search.errors import StudyError

_ROOT = Path(__file__).parents[1]
_OWN = "mtl_search"
_NOT_NEEDED = {"test"}
"""Extras that no study needs."""
_NAMED = 4


@dataclass(frozen=True)
class RuntimeEnv:
    """What travels along.

    Attributes:
        environment: Parts of Ray's runtime environment.
        words: What was chosen, for the user.
        tracking: Whether the cluster's environment names an MLflow server.
    """

    environment: dict[str, Any]
    words: str
    tracking: bool


def runtime_env_for(server: JobServer) -> RuntimeEnv:
    """Ask the cluster what it has, and choose.

    The very same code there: nothing travels. Other code, and all libraries in versions that serve: the package.
    Otherwise the package, and this machine's versions of what is missing and of what that needs, installed by pip.

    Raises:
        StudyError: The cluster runs no Python, or a Ray that this package does not work with.
    """
    wanted = list(_requirements())
    script = Path(probe.__file__).read_text(encoding="utf-8")
    there = server.probe(script, [str(each) for each in wanted], probe.MARK)
    version, tracking = metadata.version(_OWN), bool(there["tracking"])
    if "ray" in there["unmet"]:
        needed = next(each.specifier for each in wanted if each.name == "ray")
        raise StudyError(f"the cluster runs Ray {there['ray']}; {_OWN} {version} needs {needed}")
    if there["package"] == probe.fingerprint(_ROOT) and not there["unmet"]:
        return RuntimeEnv({}, f"the cluster has this very {_OWN} {version}: nothing of it travels", tracking)
    modules: dict[str, Any] = {"py_modules": [str(_ROOT)], "excludes": ["__pycache__", "*.pyc"]}
    state = "has no" if there["package"] is None else "has another"
    words = f"the cluster {state} {_OWN} {version}: the package travels along"
    if not there["unmet"]:
        return RuntimeEnv(modules, f"{words}; its libraries serve", tracking)
    missing = {canonicalize_name(name) for name in there["unmet"]}
    pins = _pins([each for each in wanted if canonicalize_name(each.name) in missing])
    named = ", ".join([*there["unmet"][:_NAMED], *(["..."] if len(missing) > _NAMED else [])])
    words += f", and pip installs {len(pins)} pinned libraries there, for {named} (minutes, once a node)"
    return RuntimeEnv({**modules, "pip": {"packages": pins, "pip_check": False}}, words, tracking)


def _requirements() -> Iterator[Requirement]:
    """What this package needs, and those of its extras that this machine has: a study may need them."""
    about = metadata.metadata(_OWN)
    extras = set(about.get_all("Provides-Extra") or ()) - _NOT_NEEDED
    seen: set[str] = set()
    for line in about.get_all("Requires-Dist") or ():
        each = Requirement(line)
        always = each.marker is None or each.marker.evaluate({"extra": ""})
        wanted = always or any(each.marker.evaluate({"extra": extra}) for extra in extras if each.marker)
        if wanted and each.name not in {_OWN, *seen} and (always or _version(each.name)):
            seen.add(each.name)
            yield Requirement(f"{each.name}{each.specifier}")


def _pins(wanted: list[Requirement]) -> list[str]:
    """Exact versions, as installed here, of requirements and of all that these require; Ray is the cluster's own."""
    pins: dict[str, str] = {}
    waiting = [each.name for each in wanted]
    while waiting:
        name = canonicalize_name(waiting.pop())
        version = _version(name)
        if name in pins or name == "ray" or version is None:
            continue
        pins[name] = f"{name}=={version}"
        for line in metadata.requires(name) or ():
            each = Requirement(line)
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                waiting.append(each.name)
    return sorted(pins.values())


def _version(name: str) -> str | None:
    """As installed here, without what tells a build from another (``+cpu``)."""
    try:
        return Version(metadata.version(name)).public
    except metadata.PackageNotFoundError:
        return None
