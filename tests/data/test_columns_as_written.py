"""What a file says is what a study learns from: leading zeros, long integers, gaps, other notations, dates."""

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared import fitted_table

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.sources.rows import Rows
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.data.trained_schema import TrainedSchema
from mtl_search.errors import DataError
from mtl_search.input_kinds.notation import is_foreign_number
from mtl_search.variants.python_objects import use_objects

ROWS = 60
LONG = [1234567890123456789, 1234567890123456788, 1234567890123456787]
VALUE = {"kind": "regression", "target": "y"}
CLASS = {"kind": "classification", "target": "c"}
rng = np.random.default_rng(0)
Y = rng.normal(size=ROWS).round(3)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(path: str, task: dict[str, Any] | None = None, *, stream: bool = False, **table: Any) -> StudyData:
    data = DataConfig.model_validate({"source": {"table": {"path": path, **table}}, "stream": stream})
    return load_data(data, {"t": TaskConfig.model_validate(task or VALUE)}, 0)


def problem(path: str, task: dict[str, Any] | None = None, **table: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, task, **table)
    return str(caught.value)


def written(name: str, **columns: Any) -> str:
    """A table in a CSV or a Parquet file; texts of a CSV file as they are given."""
    frame = pd.DataFrame({"x": np.arange(ROWS), "y": Y} | columns)
    frame.to_csv(name, index=False) if name.endswith(".csv") else frame.to_parquet(name)
    return name


def repeated(*values: Any) -> list[Any]:
    return [values[row % len(values)] for row in range(ROWS)]


def categories(data: StudyData, name: str) -> list[str]:
    return list(data.preparation.spec["categorical"][name])


def masks(data: StudyData) -> int:
    """Labels that are there, over all splits."""
    return sum(int(parts["main"].masks["t"].sum()) for parts in data.splits.values())


def test_leading_zeros_stay_in_categories_and_labels() -> None:
    path = written("t.csv", zip=repeated("00501", "10001"), c=repeated("01", "1", "2"))
    data = load(path, CLASS, categorical=["zip"], exclude=["y"])
    assert categories(data, "zip") == ["00501", "10001"]
    assert data.tasks[0].labels == ("01", "1", "2")
    assert data.sample["zip"][0] in ("00501", "10001")


def test_numbers_as_programs_write_them_are_categories_as_before() -> None:
    columns = {
        "whole": repeated(1, 2),
        "gap": repeated(1.0, None, 2.0),
        "half": repeated(0.5, 1.5),
        "yes": repeated(1 > 0, 1 < 0),
    }
    data = load(written("t.csv", **columns), categorical=list(columns))
    found = {name: categories(data, name) for name in columns}
    assert found == {"whole": ["1", "2"], "gap": ["", "1", "2"], "half": ["0.5", "1.5"], "yes": ["False", "True"]}
    assert {name: type(data.sample[name][0]) for name in columns if name != "gap"} == {
        "whole": int,
        "half": float,
        "yes": bool,
    }


def test_other_spellings_are_categories_of_their_own() -> None:
    data = load(written("t.csv", version=repeated("1.1", "1.10", " 2", "2.0", "NA")), categorical=["version"])
    assert categories(data, "version") == ["", "1.1", "1.10", "2"]


@pytest.mark.parametrize(("value", "rows"), [("007", 20), ("7", 20), (7, 40), (7.0, 40), ("8", 20), (8, 20)])
def test_where_takes_a_text_as_it_is_and_a_number_in_every_spelling(value: Any, rows: int) -> None:
    for name in ("t.csv", "t.parquet"):
        data = load(written(name, z=repeated("007", "7", "8")), where={"z": value})
        assert sum(parts["main"].rows for parts in data.splits.values()) == rows


@pytest.mark.parametrize("positive", ["01", 1.0])
def test_a_positive_label_is_named_by_its_text_or_its_number(positive: Any) -> None:
    path = written("t.csv", c=repeated("01", "02", "03"))
    data = load(path, {"kind": "binary", "target": "c", "positive": positive}, exclude=["y"])
    assert data.tasks[0].labels == ("not 01", "01")


@pytest.mark.parametrize("trained", ["00501", "501"])
def test_columns_of_a_trained_model_are_read_as_its_own_categories_are_spelled(trained: str) -> None:
    """A model that was trained when leading zeros were dropped finds its categories again."""
    preparation = fitted_table(
        {"x": np.arange(4.0), "zip": np.array([trained, "10001"] * 2, dtype=object)}, ["x"], ["zip"]
    )
    path = written("t.csv", zip=repeated("00501", "10001"), c=repeated("01", "1"))
    for categorical in ([], ["zip"]):
        table = {"path": path, "exclude": ["y"]} | ({"categorical": categorical} if categorical else {})
        data = DataConfig.model_validate({"source": {"table": table}})
        found = load_data(data, {"t": TaskConfig.model_validate(CLASS)}, 0, known=TrainedSchema(preparation, {}))
        assert set(found.splits["train"]["main"].encoded[1].ravel().tolist()) == {1, 2}
        assert found.tasks[0].labels == ("01", "1")


def gapped(values: list[int]) -> "pd.Series[Any]":
    return pd.Series([None if row == 3 else values[row % len(values)] for row in range(ROWS)], dtype="Int64")


def files_of_long_integers() -> list[tuple[str, bool]]:
    written("t.csv", id=gapped(LONG))
    written("pandas.parquet", id=gapped(LONG))
    pq.write_table(pa.table({"x": np.arange(ROWS), "y": Y, "id": pa.array(gapped(LONG))}), "bare.parquet")
    return [
        ("t.csv", False),
        *((name, stream) for name in ("pandas.parquet", "bare.parquet") for stream in (False, True)),
    ]


def test_long_integers_beside_a_gap_keep_their_digits_in_categories() -> None:
    found = [load(p, stream=stream, categorical=["id"]) for p, stream in files_of_long_integers()]
    for data in found:
        assert set(categories(data, "id")) >= {str(value) for value in LONG}
        assert {value for value in data.sample["id"] if value is not None} <= {str(value) for value in LONG}
    assert len({data.key for data in found}) == 1


def test_long_integers_beside_a_gap_keep_their_digits_in_labels() -> None:
    task = {"kind": "classification", "target": "id"}
    found = [load(p, task, stream=stream, inputs=["x"]) for p, stream in files_of_long_integers()]
    for data in found:
        assert data.tasks[0].labels == tuple(sorted(map(str, LONG)))
        assert masks(data) == ROWS - 1
    assert len({data.key for data in found}) == 1


def test_long_integers_of_a_frame_keep_their_digits_and_stay_numbers_among_the_inputs() -> None:
    for ids in (gapped(LONG), gapped(LONG).astype(object)):
        rows = Rows(pd.DataFrame({"x": np.arange(ROWS), "id": ids, "n": ids}), missing="impute", inputs=["x", "n"])
        with use_objects({"object:Rows-1": rows}):
            data = load_data(
                DataConfig.model_validate({"source": "object:Rows-1"}),
                {"t": TaskConfig.model_validate({"kind": "classification", "target": "id"})},
                0,
            )
        assert data.tasks[0].labels == tuple(sorted(map(str, LONG)))
        assert data.preparation.spec["numeric"] == ["x", "n"]


def test_data_sets_of_one_category_may_hold_it_with_and_without_gaps() -> None:
    written("one.csv", id=repeated(*LONG))
    written("two.csv", id=repeated("5", None))
    sources = {name: {"table": {"path": f"{name}.csv", "categorical": ["id"]}} for name in ("one", "two")}
    tasks = {name: TaskConfig.model_validate({**VALUE, "data": name}) for name in sources}
    data = load_data(DataConfig.model_validate({"sources": sources}), tasks, 0)
    assert categories(data, "id") == sorted(["", "5", *map(str, LONG)])


@pytest.mark.parametrize("gap", ["NaN", "nan", "-nan", "<NA>", "#N/A"])
def test_a_missing_value_written_out_is_a_gap_in_labels_and_categories(gap: str) -> None:
    columns = {"c": repeated("a", "b", gap), "w": repeated("p", gap)}
    for name in ("t.csv", "t.parquet"):
        data = load(written(name, **columns), CLASS, exclude=["y"])
        assert data.tasks[0].labels == ("a", "b")
        assert masks(data) == ROWS * 2 // 3
        assert categories(data, "w") == ["", "p"]


def test_a_word_that_may_mean_a_gap_stays_a_label_and_is_told() -> None:
    path = written("t.csv", c=repeated("a", "b", "NA"))
    data = load(path, CLASS, exclude=["y"])
    assert data.tasks[0].labels == ("NA", "a", "b")
    assert data.notes == ("tasks.t.target: 'NA' is a label in 20 rows; `missing: NA` would make it none",)
    assert load(path, CLASS | {"missing": "NA"}, exclude=["y"]).notes == ()


@pytest.mark.parametrize("missing", ["-999", "-999.0", -999])
def test_a_mark_of_a_missing_label_is_compared_as_a_number(missing: Any) -> None:
    path = written("t.csv", y=np.where(np.arange(ROWS) % 6 == 1, -999, Y))
    data = load(path, VALUE | {"missing": missing})
    assert masks(data) == 50
    assert data.notes == ()
    assert abs(data.tasks[0].center) < 1


def test_a_mark_that_is_read_as_a_gap_anyway_is_no_surprise() -> None:
    assert load(written("t.csv", y=repeated(1.5, "NA", 2.5)), VALUE | {"missing": "NA"}).notes == ()


@pytest.mark.parametrize("task", [VALUE, CLASS], ids=["regression", "classification"])
def test_a_mark_that_no_row_holds_is_told(task: dict[str, Any]) -> None:
    path = written("t.csv", c=repeated("a", "b"))
    (note,) = load(path, task | {"missing": -999}, inputs=["x"]).notes
    assert note == "tasks.t.missing: no row holds -999, so it marks no label as missing"


@pytest.mark.parametrize(
    "text", ["3,7", "1,045", "1.045,5", "$3.1", "12%", "-1 250", "1'000.5", "€ 5", "5 €", "\u2212 4"]
)
def test_numbers_in_another_notation_are_refused_among_the_inputs(text: str) -> None:
    path = written("t.csv", v=repeated("1", "2", text))
    told = problem(path)
    assert f"got {text!r}" in told
    assert "(column 'v', split train); `decimal` and `thousands` of a table say" in told
    assert "in row 2 (from 0)" in told
    assert categories(load(path, categorical=["v"]), "v") == sorted(["1", "2", text])


def test_many_numbers_in_another_notation_are_told_once() -> None:
    pd.DataFrame({"v": [f"{row},5" for row in range(1200)], "y": np.arange(1200.0)}).to_csv("t.csv", index=False)
    assert len(problem("t.csv").splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["18-25", "65+", ">50K", "1.2.3", "2020-01-01", "01.02.2020", "12:30", "5kg", "A1", "", "-"]
)
def test_words_with_digits_are_categories(text: str) -> None:
    assert not is_foreign_number(text)


def test_a_target_in_another_notation_names_the_settings() -> None:
    told = problem(written("t.csv", y=repeated("3,7", "2,1")))
    assert re.search(r"tasks.t.target: must hold numbers \(`decimal` and `thousands` .*in row 0 .*got '3,7'", told)


def test_another_separator_than_the_file_has_is_named() -> None:
    pd.DataFrame({"x": repeated("3,7", "2,1"), "y": repeated("1,5")}).to_csv("t.csv", sep=";", index=False)
    told = problem("t.csv")
    assert re.search(r"must name a column for each value of a row, with ',' .*`separator`.*got 'x;y'", told)


def test_decimal_and_thousands_say_how_numbers_are_written() -> None:
    plain = {
        "v": repeated(1045.5, 3.7, -2.0, None),
        "w": repeated(1000000, 7),
        "day": repeated("01.02.2020", "02.02.2020"),
    }
    wanted = load(written("plain.csv", **plain), missing="impute")
    text = {
        "v": repeated("1.045,5", "3,7", "-2,0", "NA"),
        "w": repeated("1.000.000", "7"),
        "y": [f"{y}".replace(".", ",") for y in Y],
    }
    pd.DataFrame({"x": np.arange(ROWS)} | text | {"day": plain["day"]}).to_csv("de.csv", sep=";", index=False)
    data = load("de.csv", separator=";", decimal=",", thousands=".", missing="impute")
    assert data.key == wanted.key
    assert data.preparation.spec["numeric"] == ["x", "v", "w"]
    spaced = written(
        "fr.csv", v=repeated("1\u202f045.5", "3.7", "-2.0", ""), w=repeated("1 000 000", "7"), day=plain["day"]
    )
    assert load(spaced, thousands=" ", missing="impute").key == wanted.key


def test_a_target_with_a_mark_is_read_in_the_format_of_its_file() -> None:
    text = [f"{y}".replace(".", ",") if row % 6 else "?" for row, y in enumerate(Y)]
    pd.DataFrame({"x": np.arange(ROWS), "y": text}).to_csv("t.csv", sep=";", index=False)
    data = load("t.csv", VALUE | {"missing": "?"}, separator=";", decimal=",")
    assert masks(data) == 50
    part = data.splits["test"]["main"]
    first = int(part.encoded[0][:, 0].astype(int)[part.masks["t"]][0])
    assert part.targets["t"][part.masks["t"]][0] * data.tasks[0].scale + data.tasks[0].center == pytest.approx(Y[first])


def test_two_columns_of_one_name_are_refused() -> None:
    Path("t.csv").write_text("u,v,y,y\n" + "1,2,3,4\n" * ROWS)
    assert problem("t.csv") == (
        "data.source.table.path: must give every column a name of its own (t.csv has this one twice), got 'y'"
    )


def test_short_rows_are_told() -> None:
    rows = [f"{row},a,{y}" if row % 9 != 4 else f"{row},a" for row, y in enumerate(Y)]
    Path("t.csv").write_text("\n".join(["x,w,y", *rows[:5], "", *rows[5:]]))
    (note,) = load("t.csv").notes
    assert note.startswith(
        "data.source.table.path: 7 of 60 rows of t.csv are shorter than its header, the first is row 4"
    )
    Path("t.csv").write_text("\n".join(["x,w,y", *rows]).replace("a\n", "a,\n"))
    assert load("t.csv").notes == ()


def test_short_rows_of_a_packed_table_with_quotes_and_blanks_are_told(tmp_path: Path) -> None:
    quoted = pd.DataFrame({"x": np.arange(ROWS), "w": repeated('a "b", c\nd', "e"), "y": Y})
    quoted.to_csv("t.csv.gz", index=False)
    assert load("t.csv.gz").notes == ()
    lines = [f"{x} {y}" if x else f"{x}" for x, y in zip(range(ROWS), Y, strict=True)]
    Path("t.txt").write_text("\n".join(["x y", *lines]))
    (note,) = load("t.txt", separator=r"\s+").notes
    assert "1 of 60 rows of t.txt" in note


def test_a_column_without_a_name_is_no_input_unless_it_is_listed() -> None:
    frame = pd.DataFrame({"x": np.arange(ROWS) * 2, "y": Y})
    frame.to_csv("t.csv")
    data = load("t.csv")
    assert list(data.sample) == ["x"]
    assert data.notes == (
        "data.source.table.inputs: a column without a name (Unnamed: 0) is taken for the rows' numbers and is no input "
        "unless it is listed",
    )
    pd.read_csv("t.csv").to_parquet("t.parquet")
    assert load("t.parquet", stream=True).key == data.key
    listed = load("t.csv", inputs=["Unnamed: 0", "x"])
    assert list(listed.sample) == ["Unnamed: 0", "x"]
    assert listed.notes == load("t.csv", exclude=["Unnamed: 0"]).notes == ()


DAYS = [datetime.date(2020, 1, 1 + row % 3) for row in range(ROWS)]
ODD = {
    "zone": pd.Series(pd.to_datetime(DAYS)).dt.tz_localize("UTC"),
    "naive": pd.Series(pd.to_datetime(DAYS)),
    "dates": DAYS,
    "mappings": repeated({"a": 1}, {"a": 2}),
    "bytes": repeated(b"a", b"\xff"),
    "texts": repeated(["a"], ["a", "b"]),
    "mixed": repeated("a", None),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", sorted(ODD.keys() - {"mixed"}))
def test_what_is_neither_number_nor_text_is_refused_everywhere(kind: str, stream: bool) -> None:
    path = written("t.parquet", o=ODD[kind])
    kinds = "(numbers or text|arrays of numbers of one shape)"
    rule = rf"data.source.table.inputs: must hold {kinds} \(column 'o', split train\)"
    assert re.match(rule, problem(path, stream=stream))
    assert re.match(rule, problem(path, stream=stream, categorical=["o"]))
    told = problem(path, {"kind": "classification", "target": "o"}, stream=stream, inputs=["x"])
    assert told.startswith("tasks.t.target: must hold labels, numbers or text, ")
    told = problem(path, {"kind": "regression", "target": "o"}, stream=stream, inputs=["x"])
    assert told.startswith("tasks.t.target: must hold numbers, ")
    load(path, stream=stream, exclude=["o"])


def test_odd_values_are_refused_among_texts_too() -> None:
    rows = {"x": np.arange(ROWS), "y": Y, "o": repeated("a", datetime.date(2020, 1, 1))}
    with (
        use_objects({"object:Rows-2": Rows(rows)}),
        pytest.raises(DataError, match=r"in row 1 \(from 0\), got datetime.date"),
    ):
        load_data(DataConfig.model_validate({"source": "object:Rows-2"}), {"t": TaskConfig.model_validate(VALUE)}, 0)


@pytest.mark.parametrize("kind", ["classification", "binary"])
def test_a_number_as_a_class_names_the_task_and_the_labels(kind: str) -> None:
    told = problem(written("t.csv"), {"kind": kind, "target": "y"})
    assert told == (
        "tasks.t.target: must hold labels that rows share, to be cut into splits (a number to predict is a "
        f"regression), got {len(set(Y))} different labels in 60 rows"
    )


def ragged(rows: int = 9000, at: int = 8500) -> str:
    lists = [[1.0, 2.0] if row != at else [1.0] for row in range(rows)]
    pq.write_table(pa.table({"x": lists, "y": np.arange(float(rows))}), "t.parquet")
    return "t.parquet"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rows", [60, 9000])
def test_a_column_of_lists_that_differ_in_length_is_refused(rows: int, stream: bool) -> None:
    told = problem(ragged(rows, rows - 10), stream=stream)
    assert told == (
        "data.source.table.inputs: must hold arrays of numbers of one shape (column 'x', split train), "
        f"in row {rows - 10} (from 0), got array([1.])"
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("column", ["x", "w", "y"])
def test_a_damaged_page_is_told_as_one_line(column: str, stream: bool) -> None:
    names = ["x", "w", "y"]
    made = pa.table({"x": rng.normal(size=9000), "w": rng.choice(["a", "b"], 9000), "y": rng.normal(size=9000)})
    pq.write_table(made, "t.parquet", row_group_size=3000)
    start = pq.ParquetFile("t.parquet").metadata.row_group(1).column(names.index(column)).data_page_offset
    content = bytearray(Path("t.parquet").read_bytes())
    content[start : start + 200] = b"\xff" * 200
    Path("t.parquet").write_bytes(content)
    told = problem("t.parquet", stream=stream)
    assert re.fullmatch(r"data\.source\.table\.path: must be a readable file \(OSError: .*\), got 't\.parquet'", told)
