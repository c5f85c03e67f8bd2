"""Small real data for the training tests; ``small_workloads`` makes it."""

import pytest
import torch
from small_workloads import EVERY_KIND, data_of, two_data_sets, workspace_of

from mtl_search.data.study_data import StudyData
from mtl_search.training.workspace import Workspace


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def every_kind() -> StudyData:
    """One data set with a task of every kind, each with missing labels."""
    return data_of(EVERY_KIND)


@pytest.fixture(scope="session")
def unequal() -> StudyData:
    """Two data sets of different sizes, with missing labels."""
    return two_data_sets()


@pytest.fixture
def workspace(every_kind: StudyData) -> Workspace:
    return workspace_of(every_kind)
