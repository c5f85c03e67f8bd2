"""MkDocs hooks: the tables of the methods page, made from the code, and the rule that no page loads from the internet.

MkDocs calls ``on_page_markdown`` for every page before it is rendered, and ``on_post_page`` with the finished HTML.
"""

import re
from collections.abc import Iterable
from html import escape
from typing import Any

from mtl_search.task_kinds import TASK_KINDS
from mtl_search.validation.schema import VariantText, describe_variant
from mtl_search.validation.study_file import FAMILIES

MARK = re.compile(r"^<!-- variants: (\w+) -->$", re.MULTILINE)
"""Stands in a page where the table of a family is to be."""
KINDS_MARK = "<!-- task kinds -->"
"""Stands in a page where the table of the kinds of tasks is to be."""
_LOADS = re.compile(
    r"""<(?:script|img|iframe|source|link(?![^>]*rel="?canonical))\b[^>]*(?:src|href)=["']?https?://[^>]*"""
)
_HEADER = ("| variant | what it does | parameters | paper |", "|---|---|---|---|")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put a table in the place of each mark."""
    return MARK.sub(lambda mark: table_of(mark[1]), markdown).replace(KINDS_MARK, kinds_table())


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Check that a page loads nothing from the internet.

    Raises:
        ValueError: It does.
    """
    if found := _LOADS.search(output):
        raise ValueError(f"{page.file.src_uri} loads from the internet: {found[0]}")
    return output


def table_of(family: str) -> str:
    """A family's variants as a Markdown table.

    Raises:
        ValueError: There is no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}, only {', '.join(FAMILIES)}")
    variants = FAMILIES[family]
    texts = [describe_variant(name, variants.describe(name)) for name in variants]
    return "\n".join([*_HEADER, *map(_row, texts)])


def kinds_table() -> str:
    """The kinds of tasks with their losses and metrics as a Markdown table; the default comes first."""
    lines = ["| kind | losses | short names of metrics |", "|---|---|---|"]
    for name, kind in TASK_KINDS.items():
        metrics = [kind.default_metric, *(alias for alias in kind.aliases if alias != kind.default_metric)]
        lines.append(f"| `{name}` | {_codes(kind.losses)} | {_codes(metrics)} |")
    return "\n".join(lines)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _row(text: VariantText) -> str:
    parameters = [f"`{name}`: {_plain(words)}, {_plain(default)}" for name, words, default in text.parameters]
    cells = (f"`{text.name}`", _plain(text.about), "<br>".join(parameters), "<br>".join(map(_linked, text.papers)))
    return f"| {' | '.join(cells)} |"


def _plain(words: str) -> str:
    """Words that Markdown leaves as they are, in a cell of a table."""
    return escape(re.sub(r"([\\`*_|\[\]])", r"\\\1", words), quote=False)


def _linked(paper: str) -> str:
    """A paper whose title links to its address, where it has one."""
    words, _, address = paper.rpartition(", http")
    return f"[{_plain(words)}](http{address})" if words else _plain(paper)
