"""The journal on disk: whole lines, in order, whatever happens to the writer."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.errors import StudyError
from mtl_search.tracking.journal import PARENT, Event, Journal, Position, plan
from mtl_search.tracking.tracker import Tracker

KEYS = st.sampled_from([PARENT, "0", "1", "2"])
EVENTS = st.lists(st.tuples(st.sampled_from(["start", "metrics", "text", "tags", "end"]), KEYS), max_size=60).map(
    lambda pairs: [Event(kind, key, time) for time, (kind, key) in enumerate(pairs)]
)


@given(EVENTS)
def test_plan_holds_every_event_once_and_keeps_the_order_within_each_run(events: list[Event]) -> None:
    planned = [event for operation in plan(events) for event in operation.events]
    assert sorted(planned, key=lambda event: event.time) == events
    for key in {event.key for event in events}:
        assert [event for event in planned if event.key == key] == [event for event in events if event.key == key]


@given(EVENTS)
def test_study_ends_after_everything_said_before_its_end(events: list[Event]) -> None:
    planned = [event for operation in plan(events) for event in operation.events]
    for place, event in enumerate(planned):
        if event.kind == "end" and event.key == PARENT:
            assert {before.time for before in events[: event.time]} <= {before.time for before in planned[:place]}


def test_metrics_of_one_run_become_one_operation() -> None:
    events = [Event("metrics", key, time) for time, key in enumerate(["0", "1"] * 50)]
    assert [(operation.key, len(operation.events)) for operation in plan(events)] == [("0", 50), ("1", 50)]


@given(values=st.lists(st.floats(width=64), max_size=5), text=st.text(max_size=30))
def test_event_comes_back_as_it_was_said(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], text: str
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal"), "s")
    journal.append("metrics", "0", 7, values=values, text=text)
    (event,), end = journal.read(0)
    assert repr(event) == repr(Event("metrics", "0", 7, {"values": values, "text": text}))  # repr: NaN is not NaN
    assert end == journal.path.stat().st_size
    assert journal.read(end) == ([], end)
    journal.close()


def test_event_longer_than_a_reading_chunk_is_read_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "s")
    journal.append("text", "0", 1, text="x" * 300_000)
    journal.append("end", "0", 2)
    events, end = journal.read(0)
    rest, _ = journal.read(end)
    assert [event.kind for event in events + rest] == ["text", "end"]
    assert (journal.waiting(0), journal.waiting(end)) == (2, len(rest))
    journal.close()


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_line_torn_by_a_kill_does_not_harm_the_lines_around_it(tmp_path: Path, cut: int) -> None:
    first = Journal(tmp_path, "s")
    first.append("start", "0", 1)
    first.append("start", "1", 2)
    first.close()
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-cut])
    again = Journal(tmp_path, "s")
    assert again.id == first.id
    again.append("start", "2", 3)
    events, _ = again.read(0)
    last = json.loads(whole.splitlines()[-1])
    assert [event.key for event in events if event.kind == "start"] == (["0", "1", "2"] if cut == 1 else ["0", "2"])
    assert cut == 1 or "torn" in [event.kind for event in events]
    assert last["key"] == "1"
    again.close()


def test_journal_killed_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"kind":"jour')
    journal = Journal(tmp_path, "s")
    journal.append("start", "0", 1)
    assert [event.key for event in journal.read(0)[0]] == ["0"]
    journal.close()


def test_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(StudyError, match=r"events\.jsonl is not a tracking journal"):
        Journal(tmp_path, "s")
    assert (tmp_path / "events.jsonl").read_text() == '{"mine": 1}\n'


def test_position_survives_and_a_broken_one_means_the_beginning(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "s")
    journal.append("start", "0", 1)
    _, end = journal.read(0)
    Position(journal, "here", "e").save(end, 1)
    assert (Position(journal, "here", "e").offset, Position(journal, "here", "e").runs) == (end, 1)
    assert Position(journal, "elsewhere", "e").offset == 0
    for file in tmp_path.glob("delivered-*.json"):
        file.write_text('{"offset"')
    assert Position(journal, "here", "e").offset == 0
    journal.close()


def test_position_of_another_journal_does_not_count(tmp_path: Path) -> None:
    first = Journal(tmp_path, "s")
    Position(first, "here").save(first.path.stat().st_size, 1)
    first.close()
    first.path.unlink()
    second = Journal(tmp_path, "s")
    assert Position(second, "here").offset == 0
    second.close()


def test_driver_may_write_before_anything_is_started_and_without_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mtl_search.tracking.tracker import Tracker\n"
        "tracker = Tracker(Path(sys.argv[1]), 'http://127.0.0.1:9', 'e', 's')\n"
        "tracker.start_study({}, {}); tracker.log_metrics(None, {'a': 1}, 0)\n"
        "assert tracker.close(timeout=0) == 2 and tracker.run_id('0') is None and tracker.problem is None\n"
        "assert 'mlflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_next_tracker_on_a_folder_knows_what_was_told_to_its_end_though_nothing_was_delivered(tmp_path: Path) -> None:
    first = Tracker(tmp_path, "http://127.0.0.1:9", "e", "s")
    for key in "abcd":
        first.start_run(key, key, {}, {})
        first.log_metrics(key, {"improvement": 1.0, "val/improvement": 9.0}, 0)
    first.end_run("a", "FINISHED")
    first.end_run("b", "FAILED")
    first.end_run("c", "FINISHED")
    first.start_run("c", "c", {}, {})
    first.log_metrics("c", {"improvement": 2.0}, 1)
    second = Tracker(tmp_path, "http://127.0.0.1:9", "e", "s")
    for tracker in (first, second):
        assert [key for key in "abcd" if tracker.ended(key)] == ["a"]
        assert tracker.last_told("improvement") == {"a": 1.0, "b": 1.0, "c": 2.0, "d": 1.0}
        tracker.close()


def test_what_any_driver_said_last_is_known_to_all_who_follow(tmp_path: Path) -> None:
    place = (tmp_path, "http://127.0.0.1:9", "e", "s")
    for driver, tags in (("a", {"one": True}), ("b", {"one": False, "two": True}), (None, {})):
        tracker = Tracker(*place, driver)
        for key, best in tags.items():
            tracker.set_tags(key, {"best": best})
        assert tracker.last_tagged("best") == ({"one": True} if driver == "a" else {"one": False, "two": True})
        tracker.close(0)
        time.sleep(0.002)  # times are in milliseconds


def test_trial_may_not_take_the_key_of_the_study(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, "http://127.0.0.1:9", "e", "s")
    for key in ("", PARENT):
        with pytest.raises(ValueError, match="parent"):
            tracker.start_run(key, "trial", {}, {})
    tracker.close()
