"""What Ray Train sets up between the workers of a group: torch's process group, and nothing for one worker alone.

The controllers of the groups unpickle this, and import torch only where there are workers to connect: 150 MiB less for
each group of one.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ray.train.backend import Backend, BackendConfig


class ProcessGroup(Backend):
    """As Ray's own backend of torch. One worker gets none: its thread would wake a hundred times a second."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Connect the workers."""
        if len(worker_group) > 1:
            self._call("on_start", worker_group, backend_config)

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        """Tell the workers their ranks."""
        if len(worker_group) > 1:
            self._call("on_training_start", worker_group, backend_config)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Free what the workers hold on their devices."""
        if len(worker_group) > 1:
            self._call("on_shutdown", worker_group, backend_config)

    def _call(self, name: str, worker_group: Any, backend_config: "ProcessGroupConfig") -> None:
        from ray.train.torch.config import TorchConfig, _TorchBackend

        getattr(_TorchBackend(), name)(worker_group, TorchConfig(backend=backend_config.backend))


@dataclass
class ProcessGroupConfig(BackendConfig):
    """How the workers of a group are connected.

    Attributes:
        backend: Of torch's process group: ``gloo`` or ``nccl``.
    """

    backend: str = "gloo"

    @property
    def backend_cls(self) -> type[Backend]:
        """What connects the workers."""
        return ProcessGroup

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Around the training function: its device is the default one."""
        from ray.train.torch.config import TorchConfigContextManager

        context: Callable[[], AbstractContextManager[Any]] = TorchConfigContextManager
        return context

    def to_dict(self) -> dict[str, Any]:
        """For Ray's own records."""
        return {"backend": self.backend}
