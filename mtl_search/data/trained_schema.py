"""Data for a model that is trained already: its inputs and preparation, and the tasks that it has.

`gather` asks here where `extend` reads data: nothing that the model has fixed is fitted anew, and what a source says
of the inputs must be what the model has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtl_search.config.study_config import TaskConfig
from mtl_search.data.datasets import DataSet
from mtl_search.data.sources.base import NGRAMS, TEXT_FEATURES
from mtl_search.data.targets import is_labelled
from mtl_search.data.task import Task
from mtl_search.errors import Problem, few_of
from mtl_search.input_kinds import INPUT_KINDS
from mtl_search.input_kinds.encoding import input_columns, parts_of
from mtl_search.input_kinds.preparation import Preparation
from mtl_search.input_kinds.values import number_in, text_of
from mtl_search.recipe import Component
from mtl_search.task_kinds.base import RawTarget
from mtl_search.task_kinds.labels import meant_label


@dataclass(frozen=True, eq=False)
class TrainedSchema:
    """What a trained model has fixed.

    Attributes:
        preparation: From encoded columns to features.
        tasks: Its tasks by name.
    """

    preparation: Preparation
    tasks: Mapping[str, Task]

    @property
    def spec(self) -> dict[str, Any]:
        """What the model's input columns are."""
        return self.preparation.spec

    @property
    def columns(self) -> tuple[str, ...]:
        """The model's input columns."""
        return tuple(input_columns(self.spec))

    @property
    def kinds(self) -> dict[str, str]:
        """The model's input columns, each with the name of its kind."""
        names = {id(kind): name for name, kind in INPUT_KINDS.items()}
        return {column: names[id(kind)] for kind, part in parts_of(self.spec) for column in kind.columns(part)}

    @property
    def _listed(self) -> dict[str, tuple[str, ...]]:
        """Key of a source that names columns of one kind -> the model's columns of that kind."""
        kinds = self.kinds
        return {
            kind.option: tuple(column for column, own in kinds.items() if own == name)
            for name, kind in INPUT_KINDS.items()
            if kind.option
        }

    @property
    def _hashing(self) -> tuple[int, int]:
        text = self.spec.get("text", {})
        return text.get("features", TEXT_FEATURES), text.get("ngrams", NGRAMS)

    def verbatim(self, tasks: Mapping[str, TaskConfig]) -> set[str]:
        """Columns whose values are kept as they are spelled: new labels, and what the model itself read so.

        An older model read a column of numbers as numbers: then its categories and labels are texts of numbers.

        Args:
            tasks: The tasks of one data set.
        """
        found = {
            name
            for kind, part in parts_of(self.spec)
            for name, categories in kind.spelled(part).items()
            if not _plain(categories)
        }
        for name, task in tasks.items():
            if is_labelled(task) and (name not in self.tasks or not _plain(self.tasks[name].labels)):
                found |= set(task.target)
        return found

    def configured(self, tasks: Mapping[str, TaskConfig], problems: list[Problem]) -> dict[str, TaskConfig]:
        """The tasks of a file, those that the model has as it has them; what contradicts the model adds problems."""
        found = {}
        for name, task in tasks.items():
            found[name] = task
            if (old := self.tasks.get(name)) is None:
                continue
            place, positive = f"tasks.{name}", old.behaviour.positive_label(old)
            if task.kind != old.kind:
                problems.append(Problem(f"{place}.kind", "must be the kind that the model's task has", task.kind))
            elif task.positive is not None and meant_label(task.positive, old.labels) != positive:
                rule = f"must be the model's positive label, {positive!r}"
                problems.append(Problem(f"{place}.positive", rule, task.positive))
            if task.order is not None and tuple(meant_label(each, old.labels) for each in task.order) != old.labels:
                rule = "must be left out, or list the labels as the model has them"
                problems.append(Problem(f"{place}.order", rule, task.order, few_of(old.labels)))
            rule = "has no effect: the model has this task already, which is judged and not trained"
            for key, value in (("loss", task.loss), ("class_weight", task.class_weight), ("weight", task.weight)):
                if value is not None:
                    shown = value.name if isinstance(value, Component) else value
                    problems.append(Problem(f"{place}.{key}", rule, shown))
            found[name] = task.model_copy(update={"kind": old.kind, "positive": positive})
        return found

    def dataset(self, dataset: DataSet, problems: list[Problem]) -> DataSet:
        """A data set with the model's inputs in place of what its source says; contradictions add problems."""
        problems += self._contradictions(dataset)
        return replace(
            dataset,
            inputs=self.columns,
            exclude=(),
            listed=self._listed,
            hashing=self._hashing,
            missing=self.spec.get("missing", "error"),
        )

    def choose_inputs(
        self, dataset: DataSet, targeted: Iterable[str], problems: list[Problem], notes: list[str]
    ) -> tuple[str, ...]:
        """The model's input columns, those that exist; what is missing or a target adds problems, nothing a note."""
        for name in sorted(set(targeted).intersection(self.columns)):
            problem = Problem("tasks", "must not have an input column of the model as target", name)
            problems += [] if problem in problems else [problem]
        for split, given in dataset.given.items():
            for name in self.columns:
                if name not in given:
                    rule = f"must have the model's input columns (split {split})"
                    problems.append(Problem(dataset.place, rule, name, few_of(given)))
        return tuple(name for name in self.columns if name in dataset.given["train"])

    def _contradictions(self, dataset: DataSet) -> Iterator[Problem]:
        spec, place, features_and_ngrams = self.spec, dataset.place, self._hashing
        if dataset.inputs is not None and set(dataset.inputs) != set(self.columns):
            rule = "must be left out, or be the model's input columns"
            yield Problem(f"{place}.inputs", rule, list(dataset.inputs), few_of(self.columns))
        for name in set(dataset.exclude).intersection(self.columns):
            yield Problem(f"{place}.exclude", "must not list an input column of the model", name)
        for option, has in self._listed.items():
            for name in dataset.listed[option]:
                if name not in has:
                    rule = f"must not list what the model does not have as {option}"
                    yield Problem(f"{place}.{option}", rule, name, few_of(has))
        if dataset.listed["text"] and dataset.hashing != features_and_ngrams:
            rule = "must have the model's text_features, {}, and ngrams, {}".format(*features_and_ngrams)
            yield Problem(place, rule, list(dataset.hashing))
        if dataset.missing == "impute" and spec.get("missing") != "impute":
            yield Problem(f"{place}.missing", "must be error: the model was not trained with gaps", "impute")

    def task(self, name: str, config: TaskConfig, dataset: str, raw: RawTarget, problems: list[Problem]) -> Task | None:
        """One of the model's tasks, to be judged on a data set; None if its columns are not those of the labels."""
        old = self.tasks[name]
        if wrong := old.behaviour.mismatches(old, raw):
            problems += wrong
            return None
        target = config.target[0] if len(config.target) == 1 else tuple(config.target)
        return replace(old, dataset=dataset, target=target, metric=config.metric or old.metric)


def _plain(texts: Iterable[str]) -> bool:
    """Whether every text is that of a number, as `text_of` gives it, or empty."""
    return all(text == "" or ((number := number_in(text)) is not None and text_of(number) == text) for text in texts)
