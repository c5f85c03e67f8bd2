"""The HTML report: the answer first, everything explained, nothing loaded, nothing of a user's run as code."""

import json
import re
import shutil
import subprocess
import threading
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from made_up_studies import HARMFUL, MadeUp

from mtl_search.analysis.overview import Overview
from mtl_search.api.frames import trials_frame
from mtl_search.cli import main
from mtl_search.errors import StorageError
from mtl_search.report.answer import answer_of
from mtl_search.report.html_page import html_of, write_html
from mtl_search.report.tables import commands_of, trials_of
from mtl_search.report.terminal import print_report
from mtl_search.storage.files import read_json, write_json
from mtl_search.study_store.folder import StudyFolder
from mtl_search.tracking.description import describe


class Reader(HTMLParser):
    """Reads a page's words, and checks that every element is closed in its turn."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        assert not {"src", "href", "onerror", "onload"} & {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return MadeUp(tmp_path_factory.mktemp("ended"), 3, 16).end().folder


@pytest.fixture(scope="module")
def page(ended: StudyFolder) -> str:
    return html_of(Overview(ended))


def test_answer_comes_first_with_interval_alarm_gap_ties_and_challenger(ended: StudyFolder, page: str) -> None:
    outcome = Overview(ended).outcome
    assert outcome is not None
    assert outcome.repeated is not None
    text, found = Reader(page).text, outcome.repeated
    headline = f"{found.mean:+.2f} % [{found.low:+.2f}, {found.high:+.2f}]"
    places = [
        text.index(said) for said in (headline, "Alarm.", "Optimism gap", "Every task", "Figures", "Do it yourself")
    ]
    assert places == sorted(places)
    assert "A task does worse than alone, with confidence: task_1 -4.00 % [-5.00, -3.00]" in text
    assert "these groups should share a trunk each: task_0; task_1, task_2 (10,000 parameters)" in text
    assert "+1.00 The search's one run had" in text
    assert f"cannot be told from the winner: {outcome.challenger}." in text
    assert f"trial {outcome.challenger} The cheapest of the candidates tied with the winner" in text


def test_every_table_and_figure_stands_under_a_sentence(page: str) -> None:
    assert len(re.findall(r"<section>", page)) == len(re.findall(r"<section>\s*<h2>[^<]+</h2>\s*<p>[^<]+\.</p>", page))
    figures = re.findall(r"<figure[^>]*><h3>[^<]+</h3><figcaption>[^<]+\.</figcaption><div data-figure", page)
    assert len(figures) == page.count("<figure ") == 11


def test_page_loads_nothing_and_runs_nothing_of_the_user(page: str) -> None:
    reader = Reader(page)
    assert HARMFUL not in page
    assert HARMFUL in reader.text, "the reason of a failed trial is shown as words"
    assert not {"img", "link", "iframe"} & set(reader.tags)
    assert "default-src 'none'" in unescape(page)
    assert page.count("<script") == 11 + 3


def test_baselines_trials_and_commands_are_there(page: str) -> None:
    text = Reader(page).text
    assert "0.51 0.01 3 – – 1 the default recipe" in text, "mean, std and seeds of a baseline"
    assert "All 16 trials" in text
    for command in (
        "mtl-search train --best made_up",
        "mtl-search export made_up --to",
        "--prefer task_0=2",
        "mlflow models serve",
    ):
        assert command in text


def test_page_tells_no_password(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, 2, 0)
    plain = read_json(made.folder.config_file)
    plain["tracking"]["uri"] = "postgresql://anna:s3cret@db/mlflow"
    plain["data"] = {"source": {"csv": {"path": "https://s3cret@host/rows.csv?token=s3cret"}}}
    write_json(made.folder.config_file, plain)
    page = html_of(Overview(made.folder))
    assert "postgresql://anna:***@db/mlflow" in page
    assert "s3cret" not in page


def test_a_column_s_name_is_shown_as_words(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, 2, 4)
    plain = read_json(made.folder.config_file)
    plain["tasks"]["task_0"]["target"] = [HARMFUL]
    plain["data"] = {"source": {"table": {"path": "rows.csv", "inputs": [HARMFUL], "categorical": [HARMFUL]}}}
    write_json(made.folder.config_file, plain)
    page = html_of(Overview(made.folder))
    assert HARMFUL not in page
    assert HARMFUL in Reader(page).text


def test_without_fresh_runs_the_figure_is_called_too_high(tmp_path: Path) -> None:
    answer = answer_of(Overview(MadeUp(tmp_path, 2, 12).end(repeated=False).folder))
    assert "one run each, and so too high" in answer.sentence
    assert answer.alarm == ""
    assert [fact.figure for fact in answer.facts if fact.name == "Tasks worse than alone"] == ["not tested"]


def test_no_alarm_is_not_called_proof_and_not_called_a_test_where_there_was_none(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, 2, 12).end()
    written = made.folder.read_outcome()
    assert written is not None
    for task in written["tasks"].values():
        task["worse"] = False
    for low, figure, said in (
        (-1.0, "none found", "No task is shown to do worse than alone (95 % confidence over all tasks together)."),
        (None, "not tested", "(search.repeats)"),
    ):
        written["tasks"]["task_0"]["repeated"]["low"] = low
        write_json(made.folder.outcome_file, written)
        (fact,) = (f for f in answer_of(Overview(made.folder)).facts if f.name == "Tasks worse than alone")
        assert (fact.figure, fact.tone) == (figure, "")
        assert said in fact.sentence


def test_a_study_of_objects_gets_lines_of_python(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, 2, 12).end()
    plain, written = read_json(made.folder.config_file), read_json(made.folder.outcome_file)
    plain["backbone"] = {"object:Blocks-0123456789ab": {}}
    written["recipe"]["weighting"] = {"object:ByLoss-0123456789ab": {}}
    write_json(made.folder.config_file, plain)
    write_json(made.folder.outcome_file, written)
    overview = Overview(made.folder)
    assert overview.outcome is not None
    opened = "mtl_search.open_study('made_up', backbone=..., objects=[ByLoss(...)])"
    lines = [command.line for command in commands_of(overview)]
    assert lines[:2] == [f"mtl_search.train(study={opened})", f"{opened}.export('made_up-model')"]
    assert not [line for line in lines if line.startswith("mtl-search")]
    described = describe(overview.config, dict.fromkeys(made.tasks, "rmse"), {"rows": {}}, None, [], overview.outcome)
    assert f"`{opened}.export()`" in described
    made.folder.outcome_file.unlink()
    assert "run_study(..., resume=True)" in commands_of(Overview(made.folder))[0].line


@pytest.mark.parametrize("trials", [0, 12])
def test_a_study_that_has_not_ended_gets_a_page_too(trials: int, tmp_path: Path) -> None:
    text = Reader(html_of(Overview(MadeUp(tmp_path, 2, trials).folder))).text
    assert "The study has not ended" in text
    assert "--resume" in text
    assert ("so far" in text) == (trials > 0)
    assert f"{trials} trials of its budget, {max(trials, 1)} trials" in text


def test_every_trial_is_judged_by_the_outcome_s_baselines(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, 2, 12).end()
    written = made.folder.read_outcome()
    assert written is not None
    for task in written["tasks"].values():
        task["baseline"] *= 1.1
    write_json(made.folder.outcome_file, written)
    overview = Overview(made.folder)
    assert overview.outcome is not None
    stopped = next(point for point in overview.points if point.stopped)
    value = overview.outcome.objective.improvement(stopped.metrics)
    row = next(row for row in trials_of(overview).rows if row[0] == str(stopped.trial))
    assert row[1:3] == ("pruned", f"{value:+.3f}")
    assert row[3] == f"{stopped.metrics['task_0']:.4g}"
    frame = trials_frame(overview)
    assert frame.loc[stopped.trial, "improvement"] == value
    assert frame.loc[stopped.trial, "metrics.task_0"] == stopped.metrics["task_0"]


def test_command_writes_the_page(ended: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "report.html"
    assert main(["report", "made_up", "--html", str(file), "--output", str(ended.storage)]) == 0
    assert capsys.readouterr().out == f"wrote {file}\n"
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_html(ended, tmp_path / "taken" / "report.html")


def test_a_narrow_page_names_the_column_in_every_cell_and_wraps_what_is_long(page: str) -> None:
    style = page[: page.index("</style>")]
    assert "white-space: pre-wrap" in style
    narrow = style[style.index("@media (max-width: 700px)") : style.index("@media print")]
    for rule in ("thead { display: none", "tr { display: flex; flex-wrap: wrap", "content: attr(data-column)"):
        assert rule in narrow
    assert "overflow-x: auto" not in narrow
    for table in re.findall(r"<table>\n<thead>.*?</table>", page, re.DOTALL):
        head = re.findall(r"<th[^>]*>([^<]+)</th>", table)
        cells = re.findall(r'<td data-column="([^"]+)"', table)
        assert len(cells) == table.count("<td")
        assert cells == head * (len(cells) // len(head))


_MEASURE = """<!doctype html><title>none</title><iframe id="it" src="report.html" style="border:0"></iframe><script>
const frame = document.getElementById("it"), found = [];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
frame.onload = async () => {
  const page = frame.contentDocument;
  page.querySelectorAll("section details").forEach((each) => { each.open = true; });
  for (const width of [320, 360, 640, 1280]) {
    frame.style.width = width + "px";
    await pause(3000);
    const inside = [...page.querySelectorAll("main, main *:not(svg *)")].filter((each) => each.clientWidth);
    const scrolls = inside.filter((each) => each.scrollWidth > each.clientWidth + 1 &&
      frame.contentWindow.getComputedStyle(each).overflowX !== "visible");
    found.push([width, page.documentElement.scrollWidth, page.querySelectorAll(".marks").length,
      scrolls.map((each) => each.tagName + "." + each.className)]);
  }
  document.title = JSON.stringify(found);
};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_browser_scrolls_nothing_sideways(tmp_path: Path) -> None:
    made = html_of(Overview(MadeUp(tmp_path / "runs", 12, 30).end().folder))
    long = "assay_of_the_receptor_" + "y" * 40
    (tmp_path / "report.html").write_text(re.sub(r"\btask_(\d+)", rf"{long}\1", made), encoding="utf-8")
    (tmp_path / "measure.html").write_text(_MEASURE, encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    words += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}/browser"]
    words += ["--hide-scrollbars", "--window-size=1400,900", "--virtual-time-budget=60000", "--dump-dom"]
    try:
        page = f"http://127.0.0.1:{server.server_port}/measure.html"
        done = subprocess.run(["chromium", *words, page], capture_output=True, text=True, timeout=120, check=True)
    finally:
        server.shutdown()
        server.server_close()
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    found = json.loads(unescape(title[1]))
    assert [(width, seen) for width, seen, _, _ in found] == [(320, 320), (360, 360), (640, 640), (1280, 1280)]
    assert {figures for _, _, figures, _ in found} == {11}
    assert [scrolls for width, _, _, scrolls in found if width <= 640] == [[], [], []]


def test_columns_of_tasks_are_told_from_the_other_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = MadeUp(tmp_path, 2, 6)
    config = read_json(made.folder.config_file)
    config["tasks"] = dict(zip(("seconds", "task_1"), config["tasks"].values(), strict=True))
    write_json(made.folder.config_file, config)
    head = trials_of(Overview(made.folder)).head
    assert head[3:] == ("task seconds", "task_1", "seconds", "MiB", "recipe")
    print_report(made.folder)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" trial")]
    assert line.split() == ["trial", "state", "objective", "task", "seconds", "task_1", "worker-s", "recipe"]
