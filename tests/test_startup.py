"""Commands that read and describe start without the libraries that compute: they import no torch, no Ray, no MLflow."""

import inspect
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mtl_search.validation.study_file import FAMILIES
from mtl_search.variants.signatures import signature_of

TEXT = ("transformers", "tokenizers", "huggingface_hub")
HEAVY = (
    *("torch", "torchmetrics", "ray", "mlflow", "optuna", "sqlalchemy", "pandas", "pyarrow", "sklearn", "matplotlib"),
    *("scipy.optimize", "scipy.signal", *TEXT),
)
EARLIER = Path(__file__).parent / "earlier" / "study.tar.xz"


def imported_by(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Exit code of a command in a fresh process, and which heavy libraries it has imported at its end."""
    code = (
        "import sys, json\n"
        "from mtl_search.cli import main\n"
        f"code = main({list(arguments)!r})\n"
        f"print('\\n' + json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr
    exit_code, found = json.loads(done.stdout.splitlines()[-1])
    return exit_code, found


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that has ended, in the storage ``runs``."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(EARLIER) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("schema",),
        ("status", "earlier", "--output", "runs"),
        ("report", "earlier", "--output", "runs"),
        ("report", "earlier", "--output", "runs", "--json"),
        ("compare", "earlier", "earlier", "--output", "runs"),
    ],
    ids=" ".join,
)
def test_commands_that_describe_import_nothing_heavy(earlier: Path, arguments: tuple[str, ...]) -> None:
    exit_code, found = imported_by(earlier, *arguments)
    assert exit_code == 0
    assert found in ([], ["optuna"])  # which reads a study's trials


@pytest.mark.parametrize(
    "text", ["", "- a list\n", "name: [1\n", "a: 1\na: 2\n"], ids=["empty", "list", "torn", "twice"]
)
def test_a_file_that_cannot_be_read_is_told_without_anything_heavy(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    assert imported_by(tmp_path, "validate", "broken.yaml") == (2, [])
    assert imported_by(tmp_path, "validate", "missing.yaml") == (2, [])


def test_validate_imports_what_it_computes_with_and_nothing_else(earlier: Path) -> None:
    exit_code, found = imported_by(earlier, "validate", "quickstart")
    assert exit_code == 0
    assert "torch" in found
    assert not {"ray", "mlflow", "optuna", "sqlalchemy", "scipy.signal", "matplotlib", *TEXT} & set(found)


def test_an_array_file_is_checked_without_pandas_and_the_solvers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x=rng.normal(size=(90, 4)), y=rng.normal(size=90), z=rng.normal(size=90))
    study = {
        "name": "arrays",
        "data": {"source": {"arrays": {"path": "rows.npz"}}},
        "tasks": {name: {"kind": "regression", "target": name} for name in ("y", "z")},
        "backbone": {"mlp": {"width": 8, "depth": 2}},
        "space": {"weighting": ["fixed", "uncertainty"]},
    }
    (tmp_path / "arrays.yaml").write_text(json.dumps(study))
    exit_code, found = imported_by(tmp_path, "validate", "arrays.yaml")
    assert exit_code == 0
    assert not {"pandas", "sklearn", "scipy.optimize"} & set(found)


def test_metrics_are_drawn_with_a_library_that_is_imported_only_then(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "from mtl_search.training.torchmetrics_import import torchmetrics\n"
        "assert not {'matplotlib', 'scipy.signal'} & set(sys.modules)\n"
        "metric = torchmetrics.classification.MulticlassAccuracy(2)\n"
        "metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))\n"
        "metric.plot()[0].savefig('plot.png')"
    )
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=tmp_path, env=environment)
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_metrics_do_not_import_transformers_where_that_is_installed(tmp_path: Path) -> None:
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "transformers-5.0.0.dist-info").mkdir()
    (tmp_path / "transformers-5.0.0.dist-info" / "METADATA").write_text("Name: transformers\nVersion: 5.0.0\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import mtl_search.training.torchmetrics_import\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, kinds in FAMILIES.items() for name in kinds])
def test_the_text_of_a_module_tells_what_its_variant_takes(family: str, name: str) -> None:
    described, constructor = FAMILIES[family].describe(name), FAMILIES[family][name]
    assert described.parameters == signature_of(constructor)
    assert described.text == inspect.getdoc(constructor)
