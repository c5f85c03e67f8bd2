"""None: joint training from the base, to show what fusion is worth."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.fusion.base import Fusion, Site


class NoFusion(Fusion):
    """No fusion: joint training starts from the base, with heads and sharing module as freshly initialised.

    The single-task models are baselines only. Joint training then has all of the way to go: give it more epochs than a
    fused start needs before comparing the two.
    """

    from_base = True

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        return base
