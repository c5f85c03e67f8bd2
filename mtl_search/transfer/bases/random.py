"""Random: a base that knows nothing yet."""

from torch import Tensor

from mtl_search.transfer.bases.base import Base, Fetch


class RandomBase(Base):
    """Random parameters, drawn from the study's seed."""

    def _state(self, fresh: dict[str, Tensor], fetch: Fetch) -> dict[str, Tensor]:
        return fresh
