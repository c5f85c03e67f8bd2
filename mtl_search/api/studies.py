"""Studies from Python: searched, trained as one recipe, or opened again."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtl_search.api.from_python import PythonStudy, as_backbone, from_python, name_of
from mtl_search.api.result import StudyResult
from mtl_search.api.running import run_prepared
from mtl_search.api.single_recipe import has_study, load_one_recipe
from mtl_search.config.yaml_reading import read_yaml
from mtl_search.errors import ConfigError, Problem, StudyError
from mtl_search.recipe import Recipe
from mtl_search.study_store.folder import StudyFolder
from mtl_search.study_store.user_modules import use_folders, use_folders_of
from mtl_search.validation.prepare import check_rows_of, prepare, storage_of
from mtl_search.validation.study_file import LoadedStudy, find_study, load_study
from mtl_search.variants.python_objects import is_object, use_objects

Study = str | Path | Mapping[str, Any]
"""A study file, the name of a shipped one, or its sections."""
STORAGE = "mtl_search_runs"


def run_study(
    config: Study | None = None,
    *,
    trials: int | None = None,
    resume: bool = False,
    verbose: bool = True,
    local: bool = False,
    **sections: Any,
) -> StudyResult:
    """Search for the best multi-task model, and register it.

    Args:
        config: A study file, the name of a shipped one, or sections as a mapping; None where ``sections`` say all.
        trials: Trials in all, in place of ``search.trials``; more extend a study.
        resume: Whether to go on with the study of this name; objects must be the same as when it began.
        verbose: Whether to show how it goes.
        local: Whether to run it in this process, without Ray: one job after the other, where breakpoints are met.
        sections: Sections of a study file (``name``, ``data``, ``tasks``, ``backbone``, ``space``, ...) that replace
            those of ``config``, with objects in the places of names: blocks as ``backbone`` (their present parameters
            are the base), rows in memory as ``data``, objects of the families' classes in ``space``.

    Returns:
        The study, ended.

    Raises:
        ConfigError: Every rule that is broken.
        DataError: The data breaks a rule.
        StudyError: Another driver runs the study, or it exists and is not to be resumed.
        NothingSucceededError: Every baseline or every trial failed.
    """
    given = from_python({**_sections(config), **sections})
    with use_objects(given.objects):
        loaded = load_study(given.plain, {} if trials is None else {"search.trials": trials})
        return _run(loaded, given, resume=resume, verbose=verbose, local=local)


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    *,
    study: StudyResult | Study | None = None,
    trial: int | None = None,
    epochs: int | None = None,
    resume: bool = False,
    verbose: bool = True,
    local: bool = False,
    **sections: Any,
) -> StudyResult:
    """Train one recipe at full length, as a study of its own with baselines, tracking and a registered model.

    Args:
        recipe: A recipe, or a file of one as an export writes it; None for one of ``study``'s.
        study: What the recipe belongs to: data, tasks, backbone and seed. A study that was run, its name, a study file
            or sections. May be left out where ``recipe`` is a study file whose space is fixed, or ``sections`` say all.
        trial: Whose recipe of ``study`` to train, where none is given; None for the winner's.
        epochs: Of joint training, if not the recipe's.
        resume: Whether to go on with an earlier training of this name.
        verbose: Whether to show how it goes.
        local: Whether to run it in this process, without Ray: one job after the other, where breakpoints are met.
        sections: Sections that replace those of the study, as in ``run_study``; ``name`` is ``STUDY-train`` by default.

    Returns:
        The study of one trial, ended.

    Raises:
        ConfigError: Every rule that is broken.
        StudyError: There is no such study or trial, its rows have changed since, or one of the new study's name exists
            and is not to be resumed.
    """
    base, plain, objects, found_in = _chosen(recipe, study, trial, sections.get("storage", STORAGE))
    if {"data", "tasks", "source_tasks"} & sections.keys():
        found_in = None
    given = from_python({**base, **sections} | ({} if plain is None else {"space": plain}))
    given = PythonStudy(given.plain, {**objects, **given.objects})
    with use_objects(given.objects):
        fixed = None if plain is None else given.plain["space"]
        loaded = load_one_recipe(given.plain, fixed, name=sections.get("name"), epochs=epochs)
        return _run(loaded, given, found_in, resume=resume, verbose=verbose, local=local)


def _chosen(
    recipe: str | Path | Mapping[str, Any] | Recipe | None,
    study: StudyResult | Study | None,
    trial: int | None,
    storage: str | Path,
) -> tuple[dict[str, Any], dict[str, Any] | None, Mapping[str, object], StudyFolder | None]:
    """A study's sections, the recipe (None: the space holds it), their objects, and where the recipe was found."""
    recipe = recipe.to_dict() if isinstance(recipe, Recipe) else recipe
    plain = None if recipe is None else _values(recipe, "recipe file")
    if plain is not None and has_study(plain):
        if study is not None:
            raise ConfigError([Problem("study", "has no effect: the recipe's file is a study of its own")])
        return plain, None, {}, None
    ran = study if isinstance(study, StudyResult) else _opened(study, storage)
    if trial is not None and (plain is not None or ran is None):
        raise ConfigError([Problem("trial", "must go with a study that was run, and without a recipe", trial)])
    if ran is not None:
        base = ran.config.model_dump(mode="json") | {"storage": str(ran.storage)}
        if plain is not None:
            return base, plain, ran.objects, None
        return base, ran.recipe_of(trial), ran.objects, StudyFolder(ran.storage, ran.name)
    assert not isinstance(study, StudyResult)
    return _sections(study), plain, {}, None


def open_study(
    study: str | Path,
    *,
    storage: str | Path = STORAGE,
    backbone: Any = None,
    objects: Iterable[object] = (),
) -> StudyResult:
    """Take up a study that was run earlier, in another process perhaps.

    Args:
        study: Its name, or its folder.
        storage: Where studies lie.
        backbone: The blocks, where they were handed over in Python: of the same structure, whatever their parameters.
        objects: Whatever else was handed over, as it was.

    Raises:
        StudyError: There is no such study.
        ConfigError: The backbone is no list of blocks, or the study needs none.
    """
    folder = StudyFolder.at(study, storage)
    config = folder.read_config()
    use_folders_of(folder)
    found = {name_of(each, f"objects[{number}]"): each for number, each in enumerate(objects)}
    if backbone is not None:
        if not is_object(config.backbone.name):
            rule = "has no effect: the study's backbone was not handed over in Python"
            raise ConfigError([Problem("backbone", rule, config.backbone.name)])
        found[config.backbone.name] = as_backbone(backbone)
    return StudyResult(folder, found)


def _run(
    loaded: LoadedStudy,
    given: PythonStudy,
    found_in: StudyFolder | None = None,
    *,
    resume: bool,
    verbose: bool,
    local: bool,
) -> StudyResult:
    prepared = prepare(loaded)
    if found_in is not None:
        check_rows_of(found_in, prepared)
    run_prepared(prepared, resume=resume, verbose=verbose, local=local)
    config = loaded.config
    return StudyResult(StudyFolder(storage_of(config), config.name), given.objects)


def _sections(config: Study | None) -> dict[str, Any]:
    """A study's sections, read where they are in a file."""
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    path = find_study(str(config))
    use_folders(path.parent)
    return _values(path, "study file")


def _opened(study: Study | None, storage: str | Path | None) -> StudyResult | None:
    """The study that a name means, where there is one that was run."""
    if not isinstance(study, str | Path) or Path(study).suffix in (".yaml", ".yml"):
        return None
    try:
        return open_study(study, storage=storage or STORAGE)
    except StudyError:
        return None


def _values(source: str | Path | Mapping[str, Any], what: str) -> dict[str, Any]:
    """Plain values of a mapping, or of the file that holds one."""
    raw = source if isinstance(source, Mapping) else read_yaml(Path(source), what)
    if not isinstance(raw, Mapping):
        raise ConfigError([Problem("", f"the {what} must be a mapping", raw)])
    return dict(raw)
