"""A recipe on one line: short, and still clear which part each word belongs to."""

from dataclasses import replace

from tiny_studies import recipe

from mtl_search.display import recipe_words
from mtl_search.recipe import Component, Schedule

KEYS = {
    *("sharing", "sharing.depth", "fusion", "base", "base.epochs", "transfer", "auxiliary"),
    *("joint.epochs", "joint.unfreezing", "joint.unfreezing.epochs", "joint.decay", "joint.optimizer.lr"),
    *("single_task.unfreezing", "single_task.epochs"),
}


def test_words_tell_which_part_they_belong_to() -> None:
    joint = replace(recipe().joint, unfreezing=Component("gradual", {"epochs": 2}))
    chosen = replace(recipe(), joint=joint, single_task=Schedule(epochs=2), base=Component("pretrain", {"epochs": 8}))
    assert recipe_words(chosen, KEYS) == (
        "hard depth=1 mean single.epochs=2 single.unfreezing=all epochs=3 lr=0.01 cosine unfreezing=gradual "
        "unfreezing.epochs=2 base=pretrain base.epochs=8 transfer=parameters auxiliary=none"
    )
