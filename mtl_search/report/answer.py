"""The answer of a study in words: what was gained, how sure that is, what to watch for."""

from collections import Counter
from dataclasses import dataclass

from mtl_search.analysis.overview import Overview
from mtl_search.report.summary import no_alarm, percent, task_gain
from mtl_search.results.caveats import RULE, caveats, unrepeated_note
from mtl_search.results.markdown import omitted_notes
from mtl_search.results.outcome import Outcome
from mtl_search.results.statistics import Estimate


@dataclass(frozen=True)
class Fact:
    """One finding.

    Attributes:
        name: What it is about.
        figure: The number, or the word, in large letters; empty for a sentence alone.
        sentence: What it says.
        tone: ``good``, ``bad`` or empty.
    """

    name: str
    figure: str
    sentence: str
    tone: str = ""


@dataclass(frozen=True)
class Answer:
    """What stands on top of the page.

    Attributes:
        headline: The figure that counts, in large letters.
        sentence: What it is.
        alarm: What a reader must not miss; empty for nothing.
        facts: The rest, in order of weight.
    """

    headline: str
    sentence: str
    alarm: str
    facts: tuple[Fact, ...]


def answer_of(overview: Overview) -> Answer:
    """The answer, or how far the study has come."""
    return _unfinished(overview) if overview.outcome is None else _found(overview, overview.outcome)


def _unfinished(overview: Overview) -> Answer:
    counts = Counter(record.state for record in overview.records)
    said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"
    best = max(overview.improvements.items(), key=lambda item: item[1], default=None)
    headline = "not ended" if best is None else f"{best[1]:+.2f} so far"
    budget = overview.config.search.budget
    sentence = (
        f"The study has not ended: {len(overview.records)} trials of its budget, {budget} ({said}). "
        "What is measured against settled baselines, on test data or over fresh runs comes at its end."
    )
    if best is not None:
        sentence = f"Highest {overview.judged_by} yet, of trial {best[0]}. {sentence}"
    return Answer(headline, sentence, "", ())


def _found(overview: Overview, outcome: Outcome) -> Answer:
    singles = "the single-task model" if len(outcome.tasks) == 1 else f"{len(outcome.tasks)} single-task models"
    if outcome.repeated is None:
        sentence = (
            f"Improvement of one model over {singles} on validation: the mean over tasks of the relative gain. It is "
            f"the highest figure of {len(overview.records)} trials, one run each, and so too high."
        )
    else:
        sentence = (
            f"Improvement of one model over {singles} on validation: the mean over tasks of the relative gain, over "
            f"{_runs(outcome.repeated)} of the best recipe, with its 95 % interval. {RULE}"
        )
    headline = percent(outcome.improvement if outcome.repeated is None else outcome.repeated)
    facts = [_test(outcome), *_caveats(outcome), _size(outcome), *_optimism(outcome), *_worse(outcome), *_ties(outcome)]
    return Answer(headline, sentence, _alarm(outcome), tuple(facts))


def _runs(estimate: Estimate) -> str:
    return "one fresh run" if estimate.runs == 1 else f"{estimate.runs} fresh runs"


def _test(outcome: Outcome) -> Fact:
    said = "One reading, of the winner and of its baselines."
    if outcome.repeated_test is not None:
        said = f"Mean over {_runs(outcome.repeated_test)}. The winner's own model: {percent(outcome.test_improvement)}."
    figure = percent(outcome.repeated_test or outcome.test_improvement)
    return Fact("On test", figure, f"{said} {omitted_notes(outcome)}".strip())


def _caveats(outcome: Outcome) -> list[Fact]:
    said = caveats(outcome)
    if not said:
        return []
    return [Fact("To bear in mind", "", " ".join(f"{each[0].upper()}{each[1:]}." for each in said))]


def _size(outcome: Outcome) -> Fact:
    share = outcome.parameters / max(outcome.single_parameters, 1)
    adds = outcome.multiply_adds / max(outcome.single_multiply_adds, 1)
    sentence = (
        f"{outcome.parameters:,} parameters, against {outcome.single_parameters:,} of the single-task models together; "
        f"{outcome.multiply_adds:,} multiply-adds a sample ({adds:.0%})."
    )
    return Fact("Size", f"{share:.0%}", sentence)


def _optimism(outcome: Outcome) -> list[Fact]:
    if outcome.optimism is None:
        return []
    said = (
        f"The search's one run had {percent(outcome.improvement)}, so many points more than its fresh runs on average: "
        "the best of many is often the luckiest."
    )
    return [Fact("Optimism gap", f"{outcome.optimism:+.2f}", said)]


def _worse(outcome: Outcome) -> list[Fact]:
    if outcome.worse:
        return []
    if not outcome.untested:
        return [Fact("Tasks worse than alone", "none found", no_alarm(outcome))]
    below = [name for name, task in outcome.tasks.items() if task_gain(task).mean < 0]
    said = f"{_named(below)} lost a little. " if below else ""
    return [Fact("Tasks worse than alone", "not tested", f"{said}{no_alarm(outcome)}")]


def _alarm(outcome: Outcome) -> str:
    if not outcome.worse:
        return ""
    said = "; ".join(f"{name} {percent(outcome.tasks[name].repeated)}" for name in outcome.worse)
    many = "Tasks do" if len(outcome.worse) > 1 else "A task does"
    alarm = f"{many} worse than alone, with confidence: {said}."
    if outcome.proposal is not None:
        groups = "; ".join(", ".join(group) for group in outcome.proposal.groups)
        alarm += (
            f" By their affinity, these groups should share a trunk each: {groups} "
            f"({outcome.proposal.parameters:,} parameters)."
        )
    return alarm


def _ties(outcome: Outcome) -> list[Fact]:
    facts = []
    ties, cheap = outcome.tied_others, outcome.cheaper
    if outcome.candidates:
        said = (
            f"Trials that cannot be told from the winner: {', '.join(map(str, ties[:12]))}"
            f"{' and more' if len(ties) > 12 else ''}."
            if ties
            else "Every other trial that was run again is worse with confidence."
        )
        single = unrepeated_note(outcome)
        said += f" {single[0].upper()}{single[1:]}." if single else ""
        facts.append(Fact("Ties", str(len(ties)), said))
    if cheap is not None:
        facts.append(
            Fact(
                "Challenger",
                f"trial {cheap.number}",
                f"The cheapest of the candidates tied with the winner: {percent(cheap.repeated)} over fresh runs, "
                f"{cheap.parameters:,} parameters, {cheap.epoch_seconds:.2g} s an epoch.",
            )
        )
    return facts


def _named(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} tasks"
