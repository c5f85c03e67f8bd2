"""Trunks: what an earlier study learned, as the base of another.

The ``study`` base asks for one by name; it comes from a study's folder.
"""

from pathlib import Path

import torch
from torch import Tensor

from mtl_search.export.champion import load_champion
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.search.folder import StudyFolder


def trunk(name: str, storage: Path, uri: str) -> dict[str, Tensor]:
    """The trunk of an earlier model.

    Args:
        name: A study in the storage, or the folder of a study.
        storage: Where studies lie.
        uri: MLflow's.

    Returns:
        For each block the copy that most tasks use, keys ``{l}.<name>``; where several have as many, their mean.

    Raises:
        StudyError: There is no such model.
    """
    path = Path(name).expanduser().resolve()
    elsewhere = (path / "study.json").is_file()
    folder = StudyFolder(path.parent.parent if elsewhere else storage, path.name if elsewhere else name)
    return trunk_of(load_champion(folder).model)


def trunk_of(model: MultiTaskModel) -> dict[str, Tensor]:
    """For each block the copy that most tasks use, keys ``{l}.<name>``; where several have as many, their mean."""
    found = {}
    for number, (copies, groups) in enumerate(zip(model.blocks, model.plan.groups, strict=True)):
        most = max(map(len, groups))
        pairs = zip(copies.children(), groups, strict=True)
        chosen = [copy.state_dict() for copy, group in pairs if len(group) == most]
        for name, first in chosen[0].items():
            values = [state[name] for state in chosen]
            mean = torch.stack([value.double() for value in values]).mean(0) if first.is_floating_point() else first
            found[f"{number}.{name}"] = mean.to(first.dtype)
    return found
