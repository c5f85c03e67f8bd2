"""The driver's machine while a study runs: MLflow's own monitors, read every few seconds into the journal.

MLflow's `SystemMetricsMonitor` writes to the server itself; here the points go through the tracker like all others, so
they outlive a server that is away.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mtl_search.tracking.tracker import Tracker

INTERVAL = 10.0
"""Seconds between two points."""


@contextmanager
def system_metrics(tracker: Tracker, interval: float = INTERVAL) -> Iterator[None]:
    """Log processor, memory, disk, network and GPUs of this machine as ``system/...`` of the parent run in the block.

    A point's step is the second of the study, so that the curves of a resumed one go on.

    Args:
        tracker: Started.
        interval: Seconds between two points; one more is taken at the end.
    """
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]  # type: ignore[no-untyped-call]
    with suppress(RuntimeError):  # no NVIDIA driver here
        monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
    ended = threading.Event()

    def sample() -> None:
        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()  # type: ignore[no-untyped-call]
            values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}  # type: ignore[no-untyped-call]
            monitor.clear_metrics()  # type: ignore[no-untyped-call]
        tracker.log_metrics(None, values, int(tracker.age))

    def watch() -> None:
        while not ended.wait(interval):
            sample()

    thread = threading.Thread(target=watch, name="mtl_search-system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        sample()
