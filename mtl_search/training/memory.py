"""Peak memory of a stage on one worker: the device's own count on a GPU, resident memory of the process elsewhere."""

import re
import resource
from pathlib import Path

import torch

_MIB = 1 << 20


class PeakMemory:
    """Watches from its making on.

    Args:
        device: Where the stage runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak so far (man 5 proc)
        except OSError:  # not Linux, or not allowed: the peak then is that of the process's whole life
            self._resets = False
        else:
            self._resets = True

    def mib(self) -> float:
        """The most so far, in MiB."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / _MIB
        if self._resets:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
            if found is not None:
                return int(found[1]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
