"""Holds the layout: who may import whom, what an import may start, how a file looks.

Imports are read from the source (`ast`), so one inside a function or under TYPE_CHECKING counts too.
"""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mtl_search"
MODULES = sorted(PACKAGE.rglob("*.py"))
FILES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]

FAMILIES = frozenset({"data", "models", "weighting", "fusion", "transfer", "alignment"})
LAYERS = (  # a unit (module or folder directly under the package) may import from the layers before its own
    # what everything stands on
    frozenset({"errors", "passwords", "recipe", "storage", "input_kinds", "task_kinds", "variants", "space", "config"}),
    FAMILIES,
    # training in one process group
    frozenset({"results", "balancing", "training"}),
    # where jobs run, and where a study is kept
    frozenset({"pool", "study_store"}),
    # the search, and what is read from its store
    frozenset({"search", "analysis"}),
    # who shows and hands out results
    frozenset({"display", "figures", "report", "tracking", "export", "extension"}),
    # a whole study file
    frozenset({"validation"}),
    # a study as a whole: here, or on a cluster
    frozenset({"api", "cluster"}),
    # the command line
    frozenset({"commands"}),
    frozenset({"cli", "__main__"}),
)
WITHIN = {  # ... and these families from another
    "models": {"data"},
    "fusion": {"data", "models"},
    "transfer": {"data", "models"},
    "alignment": {"data", "models"},
}
OWNERS = {
    "ray": {"cluster", "pool", "search"},
    "optuna": {"analysis", "results", "search", "study_store"},
    "mlflow": {"export", "tracking"},
    "transformers": {"models"},
}

MAX_FILE_LINES = {True: 400, False: 600}  # in the package, and beside it
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "core"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unit_of(path: Path) -> str:
    """The module or folder directly under the package that holds the file; "" for the package's own __init__."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of(path: Path) -> Iterator[str]:
    """Every imported module, absolute; `from a import b` gives both a and a.b, since b may be a module."""
    package = ["mtl_search", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def units_imported_by(path: Path) -> set[str]:
    ours = [name for name in imports_of(path) if name.startswith("mtl_search.")]
    own = {name.split(".")[1] for name in ours}
    return {unit for unit in own if (PACKAGE / unit).is_dir() or (PACKAGE / f"{unit}.py").is_file()}


def allowed_for(unit: str) -> frozenset[str]:
    rank = next((rank for rank, layer in enumerate(LAYERS) if unit in layer), None)
    assert rank is not None, f"mtl_search/{unit} has no place in LAYERS: give it one, or move it into a folder that has"
    below = frozenset().union(*LAYERS[:rank])
    beside = WITHIN.get(unit, frozenset()) if unit in FAMILIES else LAYERS[rank]
    return below | beside | {unit}


def fresh_interpreter(code: str) -> object:
    """Runs code that leaves its findings in `found`, in a process that has imported nothing yet."""
    script = f"import json, sys, threading\n{code}\nprint('\\n' + json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_dependencies_point_one_way(path: Path) -> None:
    unit = unit_of(path)
    if unit:
        assert units_imported_by(path) <= allowed_for(unit)


def test_no_two_units_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        if unit_of(path):
            graph.setdefault(unit_of(path), set()).update(units_imported_by(path) - {unit_of(path)})
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("library", OWNERS)
def test_library_is_imported_by_its_owners_only(library: str) -> None:
    users = {unit_of(path) for path in MODULES if any(name.split(".")[0] == library for name in imports_of(path))}
    assert users <= OWNERS[library]


@pytest.mark.parametrize("path", sorted((PACKAGE / "input_kinds").glob("*.py")), ids=name_of)
def test_input_kinds_ship_alone(path: Path) -> None:
    # A copy of this package lies inside every exported model, where mtl_search is not installed.
    roots = {name.split(".")[0] for name in imports_of(path) if not name.startswith("mtl_search.input_kinds")}
    assert roots <= {"numpy", "torch", "scipy", "sklearn", *sys.stdlib_module_names}  # scipy and sklearn for text alone
    absolute = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom) and not node.level]
    assert not [node.module for node in absolute if str(node.module).startswith("mtl_search")], "relative, as a copy"


def test_importing_the_package_starts_nothing_and_imports_nothing_heavy() -> None:
    found = fresh_interpreter(
        "import mtl_search\n"
        "heavy = sorted({'ray', 'mlflow', 'torch', 'optuna', 'pandas', 'sklearn', 'transformers'} & set(sys.modules))\n"
        "import psutil\n"
        "children = len(psutil.Process().children())\n"
        "found = {'heavy': heavy, 'threads': threading.active_count(), 'children': children}"
    )
    assert found == {"heavy": [], "threads": 1, "children": 0}


def test_reading_a_study_file_imports_no_torch() -> None:
    found = fresh_interpreter(
        "import mtl_search.config.yaml_reading\nfound = sorted({'torch', 'torchmetrics', 'pandas'} & set(sys.modules))"
    )
    assert found == []


def test_data_and_encoding_import_no_scikit_learn() -> None:
    # Every worker imports the data package, and a served model without text has no scikit-learn.
    found = fresh_interpreter(
        "import mtl_search.data.batching\nfound = sorted({'scipy', 'sklearn'} & set(sys.modules))"
    )
    assert found == []


def test_tune_trainable_imports_no_torch() -> None:
    # A Tune actor that imports torch starts two seconds later and holds hundreds of megabytes for nothing.
    found = fresh_interpreter("import mtl_search.search.job_trainable\nfound = {'torch': 'torch' in sys.modules}")
    assert found == {"torch": False}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_opens_with_a_docstring_and_stays_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "every file says what it holds"
    assert len(text.splitlines()) <= MAX_FILE_LINES[path.is_relative_to(PACKAGE)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_short(path: Path) -> None:
    long = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            if node.end_lineno - node.lineno + 1 - docstring > MAX_FUNCTION_LINES:
                long.append(node.name)
    assert long == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_name_says_what_it_holds(path: Path) -> None:
    words = {word for part in path.relative_to(PACKAGE).parts for word in part.removesuffix(".py").split("_")}
    assert not words & VAGUE_NAMES


def test_public_methods_are_documented_here_or_in_their_base() -> None:
    classes = {
        node.name: node for path in MODULES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)
    }

    def documented(owner: ast.ClassDef, method: str) -> bool:
        own = {item.name: item for item in owner.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
        bases = [classes[base.id] for base in owner.bases if isinstance(base, ast.Name) and base.id in classes]
        has_own = method in own and ast.get_docstring(own[method]) is not None
        return has_own or any(documented(base, method) for base in bases if base is not owner)

    bare = [
        f"{owner.name}.{item.name}"
        for owner in classes.values()
        if not owner.name.startswith("_")
        and not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in owner.bases)
        for item in owner.body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
        if not item.name.startswith("_") and not documented(owner, item.name)
    ]
    assert bare == []
