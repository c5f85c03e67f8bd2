"""What a node says of a storage; `tests/search/test_unshared_folder.py` asks two real ones."""

from pathlib import Path

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from s3_server import S3

from mtl_search.errors import StudyError
from mtl_search.pool import storage_check
from mtl_search.pool.storage_check import TOKEN_FILE, StudyLocation, _sees_storage, check_storage_here
from mtl_search.storage.paths import storage_path


def test_a_node_that_sees_the_folder_is_content_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_bytes(b"mine")
    check_storage_here(None)
    check_storage_here(StudyLocation(str(tmp_path), b"mine"))
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]


def test_a_node_that_sees_another_folder_or_none_says_so(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_bytes(b"another's")
    assert _sees_storage(StudyLocation(str(tmp_path), b"mine")) == "it sees another folder of that name"
    with pytest.raises(StudyError, match=r"storage .*/none is not shared by all nodes .*it does not see .*or a URL"):
        check_storage_here(StudyLocation(str(tmp_path / "none"), b"mine"))


def test_a_node_without_credentials_says_so(s3: S3) -> None:
    location = storage_path("s3://bucket/runs/studies/tiny")
    (location / TOKEN_FILE).write_bytes(b"mine")
    check_storage_here(StudyLocation(str(location), b"mine"))
    with pytest.raises(StudyError, match=r"storage s3://none/x cannot be used from every node"):
        check_storage_here(StudyLocation("s3://none/x", b"mine"))


@pytest.mark.usefixtures("cluster")
def test_a_node_that_has_just_died_keeps_no_study_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_check, "_DYING", 0.5)
    gone, (here,) = "0" * 56, [node["NodeID"] for node in ray.nodes()]
    look = ray.remote(num_cpus=0, max_retries=0)(lambda: "it cannot be seen")
    asked = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(gone, soft=False)).remote()
    assert storage_check._node_answer(asked, gone) == ""
    assert "it gave no answer" in storage_check._node_answer(asked, here), "a node that lives should have one"
