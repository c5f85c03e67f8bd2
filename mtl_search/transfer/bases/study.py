"""Study: a base that an earlier study of this project found, so that knowledge goes on to new tasks."""

from torch import Tensor

from mtl_search.transfer.bases.base import Base, Fetch, check_fit


class StudyBase(Base):
    """The trunk of an earlier study's best model.

    For each block the copy that most of its tasks use; where several copies have as many, their mean.

    Args:
        name: A study in this study's storage, the folder of a study or of an exported model, or a model registered
            with MLflow (``models:/NAME@champion``).
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def _state(self, fresh: dict[str, Tensor], fetch: Fetch) -> dict[str, Tensor]:
        return check_fit(fresh, fetch(self.name), "base.study.name")
