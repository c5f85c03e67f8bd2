"""Outcomes and trials made by hand: what a study says once it repeats its winners, without running one."""

from typing import Any

from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.results.outcome import Candidate, Outcome, Proposal, TaskOutcome
from mtl_search.results.statistics import Estimate
from mtl_search.results.trial_record import TrialRecord
from mtl_search.storage.reports import EpochReport
from mtl_search.validation.study_file import LoadedStudy, load_study

METRICS = {"kind": "accuracy", "petal": "rmse"}
STEPS = {"base": 0.5, "single": 0.8, "fused": 0.6, "joint": 0.9}


def small_study(**search: Any) -> LoadedStudy:
    """A study of two tasks that searches sharing, weighting and a learning rate."""
    return load_study(
        {
            "name": "tiny",
            "data": {"source": {"sklearn": {"name": "iris", "inputs": ["sepal length (cm)", "sepal width (cm)"]}}},
            "tasks": {
                "kind": {"kind": "classification", "target": "target"},
                "petal": {"kind": "regression", "target": "petal width (cm)"},
            },
            "backbone": {"mlp": {"width": 8, "depth": 3}},
            "space": {
                "sharing": [{"hard": {"depth": {"int": [1, 3]}}}, "cross_stitch"],
                "weighting": ["fixed", "uncertainty"],
                "joint": {"epochs": 2, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}},
            },
            "search": search,
        }
    )


def recipe_of(depth: int = 3, lr: float = 3e-4) -> Recipe:
    return Recipe(
        sharing=Component("hard", {"depth": depth}),
        fusion=Component("mean"),
        weighting=Component("uncertainty"),
        single_task=Schedule(epochs=2),
        joint=Schedule(epochs=2, optimizer=Component("adamw", {"lr": lr})),
    )


def report_of(epoch: int, improvement: float, best: float | None = None) -> EpochReport:
    """What a worker says of an epoch."""
    return EpochReport(
        epoch,
        improvement,
        best_score=improvement if best is None else best,
        metrics={"kind": 0.9, "petal": 0.2},
        validation_loss={"kind": 0.3, "petal": 0.1},
        training_loss={"kind": 0.2, "petal": 0.1},
        weights={"kind": 1.2, "petal": 0.8} if epoch else {},
        lr=1e-3,
        seconds=0.5,
        improvement=improvement,
    )


def record_of(number: int, state: str = "complete", value: float | None = 5.0, **parts: Any) -> TrialRecord:
    metrics = {"kind": 0.9, "petal": 0.2} if state == "complete" else {}
    return TrialRecord(number, state, value, recipe_of(), metrics=metrics, best_epoch=1, **parts)


def outcome_of(number: int = 1, challenger: int | None = 0, worse: bool = True) -> Outcome:
    """A winner with three fresh runs, a cheaper challenger, and a task that loses."""
    interval = Estimate(3.0, 1.0, 0.5, 5.5, 3)
    kind = TaskOutcome("accuracy", True, 0.9, 0.8, 12.5, 0.88, 0.8, 10.0, STEPS, 1.0, (0.79, 0.8, 0.81))
    petal = TaskOutcome("rmse", False, 0.2, 0.19, -5.0, 0.21, 0.2, -5.0, STEPS, 0.7, (0.18, 0.19, 0.2))
    loses = Estimate(-6.0, 0.5, -8.0, -4.0, 3)
    petal = TaskOutcome(**{**vars(petal), "repeated": loses, "worse": worse})
    return Outcome(
        number=number,
        recipe=recipe_of().to_dict(),
        folder="/nowhere/trials/abc",
        improvement=5.0,
        test_improvement=2.5,
        tasks={"kind": kind, "petal": petal},
        best_epoch=1,
        parameters=1200,
        single_parameters=2000,
        multiply_adds=1100,
        single_multiply_adds=1800,
        repeated=interval,
        repeated_test=Estimate(2.0, 1.0, -0.5, 4.5, 3),
        candidates=(
            Candidate(number, "/nowhere/trials/abc", 5.0, interval, 1200, 0.5, True),
            Candidate(0, "/nowhere/trials/def", 4.0, Estimate(2.5, 1.0, 0.0, 5.0, 3), 900, 0.4, True),
        ),
        ties=(number, 0, 7),
        challenger=challenger,
        proposal=Proposal((("kind",), ("petal",)), 2400) if worse else None,
    )
