"""What reaches MLflow: a journal on disk that the driver writes, and a thread that delivers it.

Hop 7 of the data path. The driver appends to the journal (microseconds, no network), so the search never waits for
MLflow, and nothing is lost when the server is away or the driver is killed. Importing this package does not import
MLflow.
"""

from mtl_search.tracking.tracker import Tracker, deliver_left

__all__ = ["Tracker", "deliver_left"]
