"""Every figure of every kind of study can be drawn, offline, and says in words what it shows or why it does not."""

import json
import re
import warnings
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from made_up_studies import MadeUp

from mtl_search.analysis.overview import Overview, running_minimum
from mtl_search.errors import StudyError
from mtl_search.figures import FIGURES, figures_of, write_figures
from mtl_search.figures.base import MANY, Figure
from mtl_search.figures.rendering import to_html, to_png, to_svg
from mtl_search.study_store.folder import StudyFolder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return MadeUp(tmp_path_factory.mktemp("two"), 2, 16).end().folder


@pytest.fixture(scope="module")
def figures(two: StudyFolder) -> dict[str, Figure]:
    return figures_of(two)


def parts(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of a specification, its data left out."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key != "data":
                yield key, value
                yield from parts(value)
    elif isinstance(node, list):
        for value in node:
            yield from parts(value)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_a_finished_study_is_drawn_and_says_what_it_shows(name: str, figures: dict[str, Figure]) -> None:
    figure = figures[name]
    assert figure.spec is not None, figure.reason
    assert figure.sentence.endswith(".")
    assert json.loads(json.dumps(figure.spec, allow_nan=False)) == figure.spec
    svg = to_svg(figure)
    assert svg.startswith("<svg")
    assert figure.title in svg
    assert "NaN" not in svg


@pytest.mark.parametrize(("tasks", "repeated"), [(1, False), (3, False), (6, True), (MANY + 5, True)])
def test_studies_of_one_and_of_many_tasks_are_drawn_too(tasks: int, repeated: bool, tmp_path: Path) -> None:
    for name, figure in figures_of(MadeUp(tmp_path, tasks, 15).end(repeated=repeated).folder).items():
        if figure.spec is None:
            assert (name, tasks) in {("pareto", 1), ("hypervolume", 1), ("affinity", 1)}, figure.reason
            assert "single task" in figure.reason or name == "affinity"
        else:
            vl_convert.vegalite_to_vega(figure.spec)


@pytest.mark.parametrize("trials", [0, 12])
def test_a_study_that_has_not_ended_shows_what_it_has_and_says_what_is_missing(trials: int, tmp_path: Path) -> None:
    found = figures_of(MadeUp(tmp_path, 2, trials).folder)
    assert {name for name, figure in found.items() if figure.spec is None} >= {"gains", "pareto", "weights", "affinity"}
    assert (found["history"].spec is not None) == (trials > 0)
    for figure in found.values():
        assert (figure.spec is None) == bool(figure.reason)
        if figure.spec is not None:
            vl_convert.vegalite_to_vega(figure.spec)


def test_names_are_data_and_stand_in_no_field_or_expression(figures: dict[str, Figure]) -> None:
    for figure in figures.values():
        for key, value in parts(figure.spec):
            if key in ("field", "test", "expr"):
                assert re.fullmatch(r"[a-z]+|datum\.[a-z]+", value), (key, value)


def test_page_of_a_figure_loads_nothing_and_escapes_everything() -> None:
    harmful = "</script><script>alert(1)</script>"
    spec = {"layer": [{"data": {"values": [{"x": harmful}]}, "mark": "point", "encoding": {"x": {"field": "x"}}}]}
    page = to_html(Figure(harmful, f"{harmful} & more.", spec))
    assert harmful not in page
    assert "default-src 'none'" in unescape(page)
    assert re.findall(r"<script[^>]*src=", page) == []
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r"(?:src|href)=|url\(|@import", outside) == []
    assert page.count("<script") == page.count("</script>") == 4, "two sets of colours, a specification, the libraries"
    assert "prefers-color-scheme: dark" in page


def test_written_figures_are_pages_and_pictures(two: StudyFolder, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("mtl_search.figures.FIGURES", {name: FIGURES[name] for name in ("history", "gains")})
    written = write_figures(two, tmp_path / "new")
    assert [path.name for path in written] == ["history.html", "history.png", "gains.html", "gains.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written if path.suffix == ".png")
    with pytest.raises(StudyError, match="no study 'gone'"):
        write_figures(StudyFolder(tmp_path, "gone"), tmp_path)


def test_pictures_are_the_same_every_time(figures: dict[str, Figure]) -> None:
    assert to_png(figures["gains"]) == to_png(figures["gains"])


def test_a_trial_that_went_badly_does_not_flatten_the_others(two: StudyFolder, figures: dict[str, Figure]) -> None:
    overview = Overview(two)
    assert overview.improvements[5] < -200
    low = running_minimum(list(overview.improvements.values()))
    assert -30 < low < max(overview.improvements.values())
    spec = figures["history"].spec
    assert spec is not None
    drawn = [row["value"] for layer in spec["layer"] for row in layer["data"]["values"] if "value" in row]
    assert min(drawn) == low
    assert "drawn at its lower end: 1" in figures["history"].sentence


def test_overview_judges_every_trial_by_the_baselines_that_count_in_the_end(tmp_path: Path) -> None:
    study = MadeUp(tmp_path, 2, 16)
    before = Overview(study.folder)
    assert before.improvements.keys() == {number for number in range(16) if number != 3}
    assert before.points == []
    after = Overview(study.end().folder)
    assert after.improvements == pytest.approx(before.improvements)
    assert [point.trial for point in after.points if point.stopped] == [4, 9, 14]
    assert after.hypervolumes[-1][0] == 15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(after.importances[0].shares) == {each.name for each in after.searched}
    assert 0 < len(after.dependences) <= 4
