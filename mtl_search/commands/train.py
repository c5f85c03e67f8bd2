"""``mtl-search train``: one recipe at full length, as a study of its own."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_search.commands.search import carry_out
from mtl_search.commands.shared import LOCAL, OUTPUT, STUDY_SUFFIXES, study_folder
from mtl_search.errors import ConfigError, Problem

if TYPE_CHECKING:
    from mtl_search.study_store.folder import StudyFolder
    from mtl_search.validation.study_file import LoadedStudy

HELP = "train one recipe at full length, with baselines and tracking, and register its model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    what = parser.add_mutually_exclusive_group()
    parser.add_argument(
        "recipe",
        nargs="?",
        help="a recipe, as an export holds it (recipe.yaml), or a study file with a fixed space; with --trial a study",
    )
    what.add_argument("--best", metavar="STUDY", help="train the best recipe of a study")
    what.add_argument("--trial", type=int, metavar="N", help="train the recipe of this trial of the study named")
    parser.add_argument("--study", help="study, or its file, that gives a recipe file its data, tasks and backbone")
    parser.add_argument("--epochs", type=int, help="epochs of joint training (default: the recipe's)")
    parser.add_argument("--name", help="name of the new study (default: STUDY-train)")
    parser.add_argument("--resume", action="store_true", help="go on with the training of this name")
    parser.add_argument("--seed", type=int, help="seed of everything (default: the study's)")
    parser.add_argument("--output", help=OUTPUT)
    parser.add_argument("--local", action="store_true", help=LOCAL)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.validation.prepare import check_rows_of, prepare

    loaded, found_in = _loaded(arguments)
    prepared = prepare(loaded)
    if found_in is not None:
        check_rows_of(found_in, prepared)
    words = {name: getattr(arguments, name) for name in ("best", "trial", "study", "epochs", "name", "seed", "output")}
    options = [f"--{name} {value}" for name, value in words.items() if value is not None]
    options += ["--local"] if arguments.local else []
    again = " ".join(["mtl-search train", *options, *([arguments.recipe] if arguments.recipe else []), "--resume"])
    return carry_out(prepared, again, resume=arguments.resume, local=arguments.local)


def _loaded(arguments: argparse.Namespace) -> "tuple[LoadedStudy, StudyFolder | None]":
    """The study of one recipe that the arguments ask for, and the study that the recipe was found in.

    Raises:
        ConfigError: They do not say which recipe, or of which study; or the recipe breaks a rule.
        StudyError: There is no such study or trial.
    """
    from mtl_search.api.single_recipe import has_study, load_one_recipe, recipe_of
    from mtl_search.config.yaml_reading import read_yaml
    from mtl_search.study_store.user_modules import use_folders

    recipe: Mapping[str, Any] | None
    found_in: StudyFolder | None = None
    if arguments.best is not None or arguments.trial is not None:
        name = arguments.best if arguments.best is not None else arguments.recipe
        if name is None or (arguments.best is not None and arguments.recipe is not None):
            raise ConfigError([Problem("train", "needs one study: --best STUDY, or --trial N STUDY")])
        if arguments.study is not None:
            raise ConfigError([Problem("--study", "has no effect: the recipe's own study counts", arguments.study)])
        found_in = study_folder(arguments, name)
        study, recipe = _written(found_in), recipe_of(found_in, arguments.trial)
    elif arguments.recipe is None:
        raise ConfigError([Problem("train", "needs a recipe: RECIPE.yaml, --best STUDY, or --trial N STUDY")])
    else:
        file = Path(arguments.recipe)
        recipe = _mapping(read_yaml(file, "recipe file"), file)
        if has_study(recipe):
            if arguments.study is not None:
                raise ConfigError([Problem("--study", "has no effect: the file is a study of its own", str(file))])
            use_folders(file.parent)
            study, recipe = dict(recipe), None
        else:
            study = _study(arguments)
    names = {"seed": "seed", "output": "storage"}
    chosen = {place: getattr(arguments, name) for name, place in names.items()}
    overrides = {place: value for place, value in chosen.items() if value is not None}
    loaded = load_one_recipe(study, recipe, name=arguments.name, epochs=arguments.epochs, overrides=overrides)
    return loaded, found_in


def _study(arguments: argparse.Namespace) -> dict[str, Any]:
    """Plain values of the study that a recipe file belongs to: from its file, or from what was written when it ran."""
    from mtl_search.config.yaml_reading import read_yaml
    from mtl_search.errors import StudyError
    from mtl_search.study_store.user_modules import use_folders
    from mtl_search.validation.study_file import find_study

    if arguments.study is None:
        rule = "is needed beside a recipe file: the study, or its file, with data, tasks and backbone"
        raise ConfigError([Problem("--study", rule)])
    if Path(arguments.study).suffix not in STUDY_SUFFIXES:
        try:
            return _written(study_folder(arguments, arguments.study))
        except StudyError:
            pass  # a shipped study that was never run, perhaps
    path = find_study(arguments.study)
    use_folders(path.parent)
    return dict(_mapping(read_yaml(path), path))


def _written(folder: "StudyFolder") -> dict[str, Any]:
    """Plain values of a study that was run; its storage is where it lies, wherever the command is typed."""
    return folder.read_config().model_dump(mode="json") | {"storage": str(folder.storage)}


def _mapping(raw: object, file: Path) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigError([Problem("", "must be a file of a recipe's parts, or of a study's sections", str(file))])
    return raw
