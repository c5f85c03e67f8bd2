"""What the pages say of the code is so: keys and defaults, tables of variants, files, the path to the gradient."""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from documentation import PAGES, README, ROOT, page_text, table_rows

from mtl_search.config.fields import Section
from mtl_search.config.search_config import SearchConfig
from mtl_search.config.study_config import DataConfig, ResourcesConfig, StudyConfig, TaskConfig, TrackingConfig
from mtl_search.config.yaml_reading import DEFAULTS
from mtl_search.recipe import Component, Schedule
from mtl_search.results.caveats import RULE
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.validation.study_file import FAMILIES

LARGEST_README = 12 * 1024


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = hooks()


def plain_words(text: str) -> str:
    return " ".join(text.replace("**", "").split())


def test_readme_is_short() -> None:
    assert README.stat().st_size <= LARGEST_README


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_rule_of_gains_stands_as_reports_have_it(page: str) -> None:
    assert RULE in plain_words(page_text(page))


@pytest.mark.parametrize("path", [path for path in PAGES if path.parent == ROOT], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Any) -> None:
    # Links between the pages of docs/ are held by the strict build.
    links = re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def shown_default(value: Any) -> str:
    if isinstance(value, Component):
        return value.name
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return "{}" if value == {} or isinstance(value, Section) else str(value)


def keys_of(section: type[Section], *, nested: bool) -> Iterator[tuple[str, str]]:
    """Keys of a section with their defaults as the pages show them; those of sections within it too, if wanted."""
    for key, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if nested and isinstance(default, Section):
            yield from ((f"{key}.{inner}", value) for inner, value in keys_of(type(default), nested=True))
        else:
            yield key, "required" if field.is_required() else shown_default(default)


SECTIONS: Mapping[str, dict[str, str]] = {
    "## Sections": dict(keys_of(StudyConfig, nested=False)) | {DEFAULTS: "{}"},
    "## Data": dict(keys_of(DataConfig, nested=True)),
    "## Tasks": dict(keys_of(TaskConfig, nested=True)),
    "### Schedules": {key: shown_default(value) for key, value in vars(Schedule()).items()},
    "## Search": dict(keys_of(SearchConfig, nested=True)),
    "## Resources": dict(keys_of(ResourcesConfig, nested=True)),
    "## Tracking": dict(keys_of(TrackingConfig, nested=True)),
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_keys_of_a_study_file_are_all_there_with_their_defaults(heading: str) -> None:
    rows = table_rows("docs/study-file.md", heading)
    assert {key.strip("`"): default.strip("`") for key, default, _ in rows} == SECTIONS[heading]


def test_methods_page_has_a_table_for_every_family() -> None:
    marks = HOOKS.MARK.findall(page_text("docs/methods.md"))
    assert sorted(marks) == sorted(FAMILIES)
    assert page_text("docs/study-file.md").count(HOOKS.KINDS_MARK) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_table_of_a_family_is_made_from_its_constructors(family: str) -> None:
    page = HOOKS.on_page_markdown(f"before\n\n<!-- variants: {family} -->\n\nafter")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [re.findall(r"`([^`]+)`", row)[0] for row in rows] == list(FAMILIES[family])
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}, "four cells, whatever stands in them"


def test_row_of_a_variant_shows_parameters_and_paper() -> None:
    (row,) = (line for line in HOOKS.table_of("fusion").splitlines() if line.startswith("| `dare`"))
    assert row == (
        "| `dare` | DARE with task arithmetic: base + scale \\* sum of the task vectors after drop and rescale. "
        "| `drop`: number &gt;= 0 and &lt; 1, default 0.5<br>`scale`: number &gt; 0, default 0.4 "
        "| [Yu et al., Language Models are Super Mario, ICML 2024](https://arxiv.org/abs/2311.03099) |"
    )
    with pytest.raises(ValueError, match="there is no family 'fusions'"):
        HOOKS.table_of("fusions")


def test_table_of_task_kinds_begins_with_the_defaults() -> None:
    rows = [line for line in HOOKS.kinds_table().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(TASK_KINDS)
    assert rows[2] == (
        "| `regression` | `mse`, `l1`, `huber` | `rmse`, `mse`, `mae`, `r2`, `pearson`, `spearman` |"  # by name, below
    )


def test_page_that_loads_from_the_internet_is_refused() -> None:
    class File:
        src_uri = "index.md"

    class Page:
        file = File()

    fine = (
        '<link rel="canonical" href="https://a.example/"><a href="https://b.example">b</a><script src="c.js"></script>'
    )
    assert HOOKS.on_post_page(fine, Page()) == fine
    for loads in ('<script src="https://c.example/c.js">', '<img alt="" src=https://c.example/c.png>'):
        with pytest.raises(ValueError, match=r"index\.md loads from the internet"):
            HOOKS.on_post_page(fine + loads, Page())


def test_files_that_pages_name_are_there() -> None:
    named = {row[0].strip("`") for row in table_rows("docs/architecture.md", "## Files")}
    named |= {row[0].strip("`") for row in table_rows("docs/cluster.md", "## Starting a cluster")}
    named |= {f"benchmarks/{row[0].strip('`')}" for row in table_rows("docs/benchmarks.md", "# Benchmarks")}
    assert len(named) > 40
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_registries_of_families_are_where_contributors_are_sent() -> None:
    rows = table_rows("docs/contributing.md", "## Add a variant")
    for family, place, base in rows:
        name, path = re.findall(r"`([^`]+)`", place)
        text = page_text(path)
        assert family in FAMILIES
        assert re.search(rf"^{name}\b.*= Registry\($", text, re.MULTILINE), f"{path} has no registry {name}"
        assert base.strip("`") in text


def test_licence_is_apache() -> None:
    assert 'license = "Apache-2.0"\nlicense-files = ["LICENSE"]' in page_text("pyproject.toml")
    assert [line.strip() for line in page_text("LICENSE").splitlines()[1:3]] == [
        "Apache License",
        "Version 2.0, January 2004",
    ]
