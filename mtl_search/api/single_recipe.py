"""One recipe: a study whose space holds a single recipe, which is how one is trained at full length.

It goes the way of every study, with baselines, tracking, registered model and export; it has one trial and no stopper.
"""

from collections.abc import Mapping
from typing import Any

from mtl_search.errors import NOTHING, ConfigError, Problem, StudyError
from mtl_search.study_store.folder import StudyFolder
from mtl_search.validation.study_file import LoadedStudy, load_study


def has_study(raw: object) -> bool:
    """Whether a file's plain values are a study's, and not a recipe's alone."""
    return isinstance(raw, Mapping) and "data" in raw


def recipe_of(folder: StudyFolder, trial: int | None = None) -> dict[str, Any]:
    """A trial's recipe as it was tried, plain.

    Args:
        folder: The study.
        trial: Its number; None for the winner.

    Raises:
        StudyError: There is no such study or trial, or the study has not ended.
    """
    config = folder.read_config()
    if trial is None:
        outcome = folder.read_outcome()
        if outcome is None:
            raise StudyError(f"study {folder.name} has no winner yet: it must end first, or name one of its trials")
        trial = outcome["number"]
    records = {record.number: record for record in folder.records(config.search.storage)}
    if trial not in records or (recipe := records[trial].recipe) is None:
        raise StudyError(f"study {folder.name} has no trial {trial} (there: 0 to {max(records, default=0)})")
    return recipe.to_dict()


def load_one_recipe(
    study: Mapping[str, Any],
    recipe: Mapping[str, Any] | None,
    *,
    name: str | None = None,
    epochs: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> LoadedStudy:
    """A study of one recipe, checked.

    Args:
        study: Plain values of the study that it belongs to: data, tasks, backbone, seed, resources.
        recipe: In the form of ``Recipe.to_dict``; None where the study's own space is fixed.
        name: Of the new study; None for ``STUDY-train``, or for the study's own name where the recipe is its own.
        epochs: Of joint training, if not the recipe's.
        overrides: Values by key path that replace the study's, as in ``load_study``.

    Raises:
        ConfigError: Every rule of form that is broken, a domain in the recipe among them.
    """
    space = study.get("space", {}) if recipe is None else recipe
    search = study.get("search", {})
    if isinstance(search, Mapping):
        kept = {key: value for key, value in search.items() if key != "time_budget"}
        once = {"trials": 1, "sampler": "random", "stopper": "none", "repeats": {"runs": 0}}
        search = {**kept, **once}
    raw = {**study, "space": space, "search": search}
    if name is not None or recipe is not None:
        raw["name"] = name or f"{study.get('name')}-train"
    changed = dict(overrides or {}) | ({} if epochs is None else {"space.joint.epochs": epochs})
    loaded = load_study(raw, changed, tried=recipe is not None)
    if loaded.space.domains:
        rule = "must be fixed, with no domain and no list of variants, to train one recipe"
        places = loaded.space.domains
        raise ConfigError([Problem(f"space.{place}" if place else "space", rule, NOTHING) for place in places])
    return loaded
