"""Holds the figures of the house: few root modules, few imports, few arguments, few fragments, the field's words."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mtl_search"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}

FAMILIES = (  # a file of these is a variant, which may be as short as it is
    "alignment", "commands", "data/sources", "extension", "figures", "fusion", "input_kinds", "models/backbones",
    "models/sharing", "task_kinds", "transfer", "weighting",
)  # fmt: skip
MOST_ROOT_MODULES = 4
MOST_IMPORTS = 14
MOST_ARGUMENTS = 7
SHORT, MOST_SHORT = 60, 0.12
README_BYTES = 12 * 1024
MANY_IMPORTS = {
    "mtl_search.search.study": 36,
    "mtl_search.search.finalize": 25,
    "mtl_search.search.jobs": 25,
    "mtl_search.training.stages": 24,
    "mtl_search.api.launch": 23,
    "mtl_search.training.fusing": 24,
    "mtl_search.training.loop": 23,
    "mtl_search.training.workspace": 24,
    "mtl_search.training.step": 20,
    "mtl_search.commands.search": 16,
    "mtl_search.extension.extend": 16,
    "mtl_search.extension.own_parts": 17,
    "mtl_search.extension.request": 16,
    "mtl_search.tracking.recorder": 16,
    "mtl_search.validation.prepare": 16,
    "mtl_search.api.result": 15,
    "mtl_search.export.champion": 15,
    "mtl_search.figures": 15,
    "mtl_search.training.canonical": 16,
    "mtl_search.validation.section_rules": 16,
    "mtl_search.validation.study_file": 15,
}
"""Modules that import more of ours than most may, and how many. No number here may rise."""
MANY_ARGUMENTS = {
    "mtl_search.data.sources.table:TableSource": 16,
    "mtl_search.training.loop:Loop": 14,
    "mtl_search.training.step:Step": 11,
    "mtl_search.data.sources.rows:Rows": 9,
    "mtl_search.data.batching:BatchPlan": 8,
    "mtl_search.pool.pool:Pool": 8,
}
"""Constructors that take more arguments than most may, and how many. No number here may rise."""
OLD_WORDS = frozenset(
    [
        "AffinityFile",
        "Auxiliaries",
        "Balancing",
        "Boundaries",
        "Caretaker",
        "Common",
        "Conclusion",
        "Couple",
        "Coupling",
        "Distant",
        "Drivers",
        "Ended",
        "Entry",
        "Extended",
        "Facts",
        "Findings",
        "Follower",
        "Gathered",
        "Ground",
        "Growth",
        "HandedOver",
        "Home",
        "Horizon",
        "Judge",
        "KeptInStorage",
        "Known",
        "Labels",
        "Layout",
        "Ledger",
        "Live",
        "Luggage",
        "MailBox",
        "Mailbox",
        "Measuring",
        "Meeting",
        "Messages",
        "Mirror",
        "Ownership",
        "PartialWatcher",
        "Passing",
        "Portion",
        "Rejoin",
        "Rerun",
        "Retire",
        "Routing",
        "Searched",
        "Standing",
        "StudyWatcher",
        "Submitted",
        "TakingUp",
        "Ticket",
        "Told",
        "Verdict",
        "Warden",
        "Watcher",
        "World",
        "_Way",
        "_mend",
        "approach",
        "at_home",
        "beat",
        "beginning",
        "boundaries",
        "bury",
        "caretaker",
        "conclusion",
        "corners",
        "couple",
        "coupling",
        "dispatcher",
        "drawn",
        "entrance",
        "findings",
        "finished",
        "fitted",
        "forgetting",
        "gathered",
        "going_on",
        "gone",
        "grouped",
        "growing",
        "growth",
        "handing_over",
        "hangs",
        "homes",
        "horizon",
        "intact",
        "known",
        "ledger",
        "mailbox",
        "mirror",
        "moved",
        "notes",
        "outliving",
        "own_ray",
        "ownership",
        "packing",
        "passing",
        "patience",
        "picking",
        "places",
        "portion",
        "presume",
        "price",
        "publishing",
        "queueing",
        "quiet",
        "reach",
        "remembered",
        "routing",
        "say",
        "say_left",
        "settling",
        "shipment",
        "standing",
        "steps",
        "streams",
        "taking_up",
        "tried",
        "trimmed",
        "turned",
        "watchers",
        "weighed",
        "world",
    ]
)
"""What classes, functions and files were called once, in words of our own instead of the field's."""


def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def own_imports(path: Path, tree: ast.Module) -> set[str]:
    """Modules of ours that a module imports, wherever in it."""
    known = set(NAMES.values())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known or {node.module}
    return found - {NAMES[path]}


def constructors(tree: ast.Module) -> dict[str, int]:
    """Arguments of each class's constructor; of a dataclass, its fields."""
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        made = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
        if made is not None:
            found[node.name] = len(made.args.args) - 1 + len(made.args.kwonlyargs)
    return found


def short_files() -> list[str]:
    """Files that hold less than an idea: neither a variant of a family nor a package's ``__init__``."""
    return [
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if path.name not in ("__init__.py", "__main__.py")
        and not path.relative_to(PACKAGE).as_posix().startswith(tuple(f"{family}/" for family in FAMILIES))
        and len(path.read_text(encoding="utf-8").splitlines()) <= SHORT
    ]


def test_few_modules_stand_at_the_root() -> None:
    assert len([path for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]) <= MOST_ROOT_MODULES


def test_no_module_imports_many_others() -> None:
    counts = {NAMES[path]: len(own_imports(path, tree)) for path, tree in trees().items()}
    assert {name: count for name, count in counts.items() if count > MANY_IMPORTS.get(name, MOST_IMPORTS)} == {}


def test_no_constructor_takes_many_arguments() -> None:
    counts = {f"{NAMES[path]}:{name}": n for path, tree in trees().items() for name, n in constructors(tree).items()}
    assert {name: count for name, count in counts.items() if count > MANY_ARGUMENTS.get(name, MOST_ARGUMENTS)} == {}


@pytest.mark.parametrize("table", [MANY_IMPORTS, MANY_ARGUMENTS], ids=["imports", "arguments"])
def test_no_exception_outlives_its_reason(table: dict[str, int]) -> None:
    classes = {f"{NAMES[path]}:{name}" for path, tree in trees().items() for name in constructors(tree)}
    assert set(table) <= set(NAMES.values()) | classes


def test_few_files_are_fragments() -> None:
    assert len(short_files()) <= MOST_SHORT * len(MODULES), short_files()


def test_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_old_words_are_gone() -> None:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for tree in trees().values() for node in ast.walk(tree) if isinstance(node, kinds)}
    names |= {path.stem for path in MODULES}
    assert names & OLD_WORDS == set()
