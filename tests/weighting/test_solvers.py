"""Solver packages: asked for where the study file is checked, loaded where they are used."""

import json
import subprocess
import sys

import pytest

from mtl_search.errors import ConfigError
from mtl_search.recipe import Component
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS


@pytest.mark.parametrize(
    ("name", "package"),
    [("cagrad", "clarabel"), ("upgrad", "quadprog")],
)
def test_missing_solver_is_named_with_the_extra_that_brings_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python's own way to say that a module cannot be imported
    with pytest.raises(ConfigError, match=rf"weighting\.{name}: needs.*`solvers`.*mtl_search\[solvers\].*{package}"):
        build(WEIGHTINGS, Component(name))


def test_loading_and_starting_the_family_loads_no_solver() -> None:
    code = (
        "import json, sys; from mtl_search.weighting import WEIGHTINGS\n"
        "for name in ('fixed', 'mgda', 'cagrad', 'gradnorm', 'stch'): WEIGHTINGS[name]().start(['a'], 'cpu')\n"
        "print(json.dumps(sorted({'torchjd', 'clarabel', 'qpsolvers', 'scipy'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
