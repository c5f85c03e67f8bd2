"""Going on: what to type next about a study; on a command line, or in Python where it needs objects that no file holds.

The terminal, the HTML report and MLflow's description say it, all in these words.
"""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from mtl_search.config.study_config import StudyConfig
from mtl_search.variants.python_objects import PREFIX, is_object


def resume_command(config: StudyConfig) -> str:
    """Goes on with a study that has not ended."""
    if _objects(config.model_dump(mode="json")):
        return "mtl_search.run_study(..., resume=True)  # with the same objects"
    return f"mtl-search search STUDY_FILE --resume{output_option(config)}"


def export_command(config: StudyConfig, recipe: Mapping[str, Any], to: str | None = None) -> str:
    """Writes the winner for deployment.

    Args:
        config: The study file.
        recipe: The winner's, plain.
        to: The folder; None for the default.
    """
    if _objects(recipe) or is_object(config.backbone.name):
        return f"{_opened(config, recipe)}.export({'' if to is None else repr(to)})"
    return f"mtl-search export {config.name}{'' if to is None else f' --to {to}'}{output_option(config)}"


def train_command(config: StudyConfig, recipe: Mapping[str, Any]) -> str:
    """Trains the winner's recipe anew.

    Args:
        config: The study file.
        recipe: The winner's, plain.
    """
    data = _objects(config.data.model_dump(mode="json"))
    if data or _objects(recipe) or is_object(config.backbone.name):
        return f"mtl_search.train(study={_opened(config, recipe)}{', data=...' if data else ''})"
    return f"mtl-search train --best {config.name}{output_option(config)}"


def output_option(config: StudyConfig) -> str:
    """Where the study lies, for a command line; empty for the usual place."""
    return f" --output {shlex.quote(config.storage)}" if _elsewhere(config) else ""


def _elsewhere(config: StudyConfig) -> bool:
    return bool(config.storage != type(config).model_fields["storage"].default)


def _opened(config: StudyConfig, recipe: Mapping[str, Any]) -> str:
    """The study in Python, with a place for every object."""
    parts = [repr(config.name)]
    if _elsewhere(config):
        parts.append(f"storage={config.storage!r}")
    if is_object(config.backbone.name):
        parts.append("backbone=...")
    if names := _objects(recipe):
        made = ", ".join(f"{name.removeprefix(PREFIX).rpartition('-')[0]}(...)" for name in names)
        parts.append(f"objects=[{made}]")
    return f"mtl_search.open_study({', '.join(parts)})"


def _objects(plain: Any) -> list[str]:
    """Names of the objects among plain values, each once."""
    return list(dict.fromkeys(text for text in _texts(plain) if is_object(text)))


def _texts(plain: Any) -> Iterator[str]:
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, Mapping):
        for name, value in plain.items():
            yield str(name)
            yield from _texts(value)
    elif isinstance(plain, list | tuple):
        for value in plain:
            yield from _texts(value)
