"""The HTML report: a study as one page that works offline, for every reader of its results.

The answer first, then every task, the figures, the recipe, how to go on, and all trials.
"""

from pathlib import Path

from mtl_search.analysis.overview import Overview
from mtl_search.figures import draw_figures
from mtl_search.figures.rendering import page
from mtl_search.report.answer import answer_of
from mtl_search.report.tables import (
    baselines_of,
    candidates_of,
    commands_of,
    recipe_of,
    study_file_of,
    tasks_of,
    trials_of,
)
from mtl_search.storage.files import replace_file
from mtl_search.study_store.folder import StudyFolder

_TEMPLATE = Path(__file__).with_name("page.html")


def write_html(folder: StudyFolder, to: Path) -> Path:
    """Write the page.

    Args:
        folder: The study's; it need not have ended.
        to: The file.

    Returns:
        The file.

    Raises:
        StudyError: There is no such study.
        StorageError: The file cannot be written.
    """
    made = html_of(Overview(folder))
    with replace_file(to) as temporary:
        temporary.write_text(made, encoding="utf-8")
    return to


def html_of(overview: Overview) -> str:
    """The page of a study.

    Args:
        overview: The study, ended or not.
    """
    figures = draw_figures(overview)
    return page(
        _TEMPLATE,
        config=overview.config,
        outcome=overview.outcome,
        answer=answer_of(overview),
        tables=[
            table
            for table in (tasks_of(overview), baselines_of(overview), candidates_of(overview))
            if table is not None
        ],
        trials=trials_of(overview),
        commands=commands_of(overview),
        recipe=recipe_of(overview),
        study_file=study_file_of(overview),
        shown={name: figure for name, figure in figures.items() if figure.spec is not None},
        absent=[figure for figure in figures.values() if figure.spec is None],
        specs={f"spec-{name}": figure.spec for name, figure in figures.items() if figure.spec is not None},
    )
