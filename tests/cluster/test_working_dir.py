"""What travels to a cluster with a study file, what stays behind, and what is too much."""

import os
import zipfile
from pathlib import Path

import pytest

from mtl_search.cluster.working_dir import pack_working_dir
from mtl_search.errors import ConfigError


def packed_names(folder: Path, archive: Path) -> set[str]:
    packed = pack_working_dir(folder, archive)
    names = set(zipfile.ZipFile(archive).namelist())
    assert packed.files == len(names)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = ["study.yaml", "my_net.py", "data/train.csv", "data/large.bin", "notes/draft.txt", "notes/.gitignore"]
    files += [".git/config", ".venv/bin/python", "sub/.venv/x", "mtl_search_runs/a", "mlruns/0", "mlflow.db"]
    files += [".env", ".ssh/id_ed25519", "server.pem", "sub/.aws/credentials", "__pycache__/my_net.pyc", ".gitignore"]
    for name in files:
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_text("draft.txt\n" if name == "notes/.gitignore" else "")
    (tmp_path / "work" / ".gitignore").write_text("*.bin\n")
    return tmp_path / "work"


def test_results_environments_credentials_and_what_git_ignores_stay_behind(folder: Path, tmp_path: Path) -> None:
    kept = {"study.yaml", "my_net.py", "data/train.csv", ".gitignore", "notes/.gitignore"}
    assert packed_names(folder, tmp_path / "a.zip") == kept
    (folder / ".rayignore").write_text("data/\n")
    assert packed_names(folder, tmp_path / "b.zip") == kept - {"data/train.csv"} | {".rayignore"}


def test_a_link_to_a_folder_outside_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert not any("secret" in name for name in packed_names(folder, tmp_path / "a.zip"))


def test_too_much_is_told_with_the_largest_files(folder: Path, tmp_path: Path) -> None:
    with (folder / "data" / "train.csv").open("wb") as file:
        file.write(os.urandom(101 * 2**20))
    with pytest.raises(ConfigError, match=r"more than the 100 MiB .* data/train\.csv \(101 MiB\).*\.rayignore"):
        pack_working_dir(folder, tmp_path / "a.zip")


@pytest.mark.parametrize("place", ["/", "/tmp", "home"])
def test_a_home_or_system_folder_does_not_travel(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="must lie in a folder of its own"):
        pack_working_dir(tmp_path if place == "home" else Path(place), tmp_path / "a.zip")
