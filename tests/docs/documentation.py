"""The pages of the documentation and their code blocks, for the tests of this folder."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: The page's path below the repository.
        line: Number of the block's first line in the page.
        language: What the block is written in.
        title: The file that the block is; empty for none.
        text: Its lines.
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page_text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(*languages: str, page: str | None = None) -> list[Block]:
    """Every code block in some languages (in any language if none is given), of one page or of all."""
    found = []
    for path in PAGES:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        if page in (None, name):
            for fence in _FENCE.finditer(text):
                line = text.count("\n", 0, fence.start("text")) + 1
                found.append(Block(name, line, fence["language"], fence["title"] or "", fence["text"]))
    return [block for block in found if not languages or block.language in languages]


def commands_of(block: Block) -> list[str]:
    """The commands of a console block: lines after ``$``, or all lines where none has it."""
    lines = [line for line in block.text.splitlines() if line.strip()]
    asked = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return asked or lines


def table_rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without the table's head."""
    _, _, below = f"\n{page_text(page)}".partition(f"\n{heading}\n")
    assert below, f"{page} has no heading {heading!r}"
    table = re.search(r"(?:^\|.*\|\n)+", below, re.MULTILINE)
    assert table is not None, f"{page} has no table below {heading!r}"
    rows = [re.split(r"(?<!\\)\|", line.strip("|\n ")) for line in table[0].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]
