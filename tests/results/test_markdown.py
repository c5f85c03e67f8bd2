"""What a study says it found: the figure, how far to trust it, what loses, what to do about it."""

from dataclasses import replace

from made_outcomes import outcome_of

from mtl_search.results.caveats import RULE
from mtl_search.results.outcome import Outcome


def test_alarm_stands_right_under_the_headline_with_what_to_do_instead() -> None:
    headline, alarm, proposal, rule, trust, *_ = outcome_of().to_markdown().split("\n\n")
    assert headline.startswith(
        "**+3.00 [+0.50, +5.50] %** over the best single-task models on validation, **+2.00 [-0.50, +4.50] %** on test"
    )
    assert "mean over 3 fresh seeds, with its 95 % interval" in headline
    assert alarm == "**Alarm: worse than alone, with 95 % confidence: petal.**"
    assert "**kind | petal**" in proposal
    assert "2,400 parameters against 1,200" in proposal
    assert rule == RULE
    assert "+5.00 % on validation, 2.00 points above the fresh runs (the optimism gap" in trust


def test_every_table_stands_behind_a_sentence() -> None:
    parts = outcome_of().to_markdown().split("\n\n")
    tables = [number for number, part in enumerate(parts) if part.startswith("|")]
    assert len(tables) == 3
    assert all(parts[number - 1].endswith((".", ":")) for number in tables)


def test_candidates_ties_and_challenger_are_named() -> None:
    text = outcome_of().to_markdown()
    assert "| 1 | +5.00 % | +3.00 [+0.50, +5.50] % | 1,200 | 0.5 | winner |" in text
    assert "| 0 | +4.00 % | +2.50 [+0.00, +5.00] % | 900 | 0.4 | yes |" in text
    assert "Of these, the winner cannot be told from: 0, 7." in text
    assert "**Challenger: trial 0**" in text
    assert "| kind | accuracy | 0.88 | 0.8 | +10.00 % | +12.50 % |  |  |" in text
    assert "-6.00 [-8.00, -4.00] % (worse)" in text


def test_what_was_not_measured_is_not_mentioned() -> None:
    outcome = outcome_of(challenger=None, worse=False)
    tasks = {name: replace(task, repeated=None, baseline_runs=()) for name, task in outcome.tasks.items()}
    plain = replace(outcome, tasks=tasks, repeated=None, repeated_test=None, candidates=(), ties=())
    text = plain.to_markdown().lower()
    assert not [word for word in ("fresh seed", "alarm", "challenger", "tied", "optimism", "±") if word in text]


def test_outcome_comes_back_from_its_file_with_the_same_words() -> None:
    outcome = outcome_of()
    assert Outcome.from_dict(outcome.to_dict()).to_markdown() == outcome.to_markdown()
