"""The size of a worker group where nothing can be added to the cluster: as it was asked for.

Ray Train's own policy announces what a group needs to an actor that speaks to the autoscaler, a process of 115 MiB.
"""

from typing import Any, final

from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy


@final
class SettledPolicy(FixedScalingPolicy):
    """Ray's policy of a fixed size, which announces nothing."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nobody is told."""

    def _maybe_send_resource_request(self) -> None:
        pass

    def _send_resource_request(self) -> None:
        pass
