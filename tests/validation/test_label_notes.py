"""Notes on labels: tiny tasks are named with their counts, many of them folded, and well labelled ones are not."""

from typing import Any

from mtl_search.validation.study_notes import label_notes


def task(
    train: dict[str, Any], validation: dict[str, Any], test: dict[str, Any], kind: str = "classification"
) -> dict[str, Any]:
    return {"kind": kind, "splits": {"train": train, "validation": validation, "test": test}}


def classes(*counts: int) -> dict[str, Any]:
    return {"labels": sum(counts), "classes": {str(number): count for number, count in enumerate(counts)}}


PLENTY = classes(400, 300)


def test_a_task_with_plenty_of_labels_gets_no_note() -> None:
    assert label_notes({"a": task(PLENTY, PLENTY, PLENTY), "y": task(*[{"labels": 500}] * 3, kind="regression")}) == []


def test_few_labels_are_told_with_their_number_and_their_smallest_class() -> None:
    value = task({"labels": 500}, {"labels": 3}, {"labels": 500}, "regression")
    tasks = {"tiny": task(PLENTY, classes(6, 2), PLENTY), "value": value}
    assert label_notes(tasks) == [
        "fewer than 30 labels in validation: tiny (8, smallest class 2), value (3); what they say is mostly chance"
    ]


def test_a_rare_class_is_told_where_there_are_labels_enough() -> None:
    many = {"labels": 600, "positive": {"x": 100, "y": 200}}
    several = {"labels": 200, "positive": {"x": 50, "y": 97}}
    tasks = {"a": task(PLENTY, PLENTY, classes(90, 4)), "tags": task(many, several, many, "multilabel")}
    assert label_notes(tasks) == [
        "fewer than 5 labels of a class in validation: tags (3 of 200)",
        "fewer than 5 labels of a class in test: a (4 of 94)",
    ]


def test_many_tasks_are_folded() -> None:
    tasks = {f"task{number}": task(PLENTY, classes(5, 5), PLENTY) for number in range(139)}
    (note,) = label_notes(tasks)
    assert note.startswith("fewer than 30 labels in validation: task0 (10, smallest class 5), task1 (10")
    assert "and 134 more tasks;" in note
