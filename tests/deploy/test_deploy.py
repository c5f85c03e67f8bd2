"""What deploy/ holds is valid by the schemas of those who read it, and names the versions of this repository."""

import copy
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from live_processes import RAY
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv
from small_studies import study_of, write_study

from mtl_search.cli import main
from mtl_search.cluster.study_job import STORAGE, STUDY
from mtl_search.study_store.folder import StudyFolder

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCHEMA = json.loads((Path(__file__).parent / "kuberay_fields.json").read_text())
VERSION = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index]
IMAGE = f"REGISTRY/mtl-search:{VERSION}"


def manifest(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return read


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_kuberay_manifest_holds_known_fields_and_valid_pods(name: str) -> None:
    read = manifest(name)
    jsonschema.validate(read, SCHEMA)
    cluster = read["spec"] if read["kind"] == "RayCluster" else read["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, **group["template"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        (container,) = pod["spec"]["containers"]
        assert container["image"] == IMAGE
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert (cluster["enableInTreeAutoscaling"], workers["minReplicas"]) == (True, 0)


def test_a_kuberay_job_brings_the_cluster_of_the_other_manifest_and_is_found_by_its_study() -> None:
    job = manifest("kuberay-job.yaml")["spec"]
    assert job["rayClusterSpec"] == manifest("kuberay-cluster.yaml")["spec"]
    assert job["metadata"].keys() == {STUDY, STORAGE}
    RuntimeEnv(**yaml.safe_load(job["runtimeEnvYAML"]))
    assert_known_command(job["entrypoint"])


def test_a_misspelt_field_would_be_noticed() -> None:
    read = manifest("kuberay-cluster.yaml")
    read["spec"]["enableInTreeAutoscalling"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read, SCHEMA)


def test_ray_up_s_own_check_takes_the_launcher_file() -> None:
    read = manifest("ray-up.yaml")
    validate_config(prepare_config(copy.deepcopy(read)))
    jsonschema.validate(read, json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text()))
    assert read["docker"]["image"] == IMAGE
    for command in read["head_start_ray_commands"] + read["worker_start_ray_commands"]:
        assert_ray_knows(command)


def assert_ray_knows(command: str) -> None:
    """Ray's own command line has every option of the command."""
    words = [word for word in shlex.split(command) if "RAY_AUTH_MODE" not in word]
    known = subprocess.run([RAY, words[1], "--help"], capture_output=True, text=True)
    assert known.returncode == 0
    for word in words[2:]:
        assert word.partition("=")[0] in known.stdout


def assert_known_command(command: str) -> None:
    """This command line has every option of the command, and only the study file is missing here."""
    program, *words = shlex.split(command)
    assert program == "mtl-search"
    assert main(words) == 2


def test_shell_scripts_pass_shellcheck() -> None:
    for script in DEPLOY.glob("*.sh"):
        found = subprocess.run([Path(sys.executable).parent / "shellcheck", script], capture_output=True, text=True)
        assert (found.returncode, found.stdout) == (0, "")


def test_the_image_is_pinned_takes_the_pins_and_runs_as_a_user() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^FROM python:\d+\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert "--constraint /opt/mtl_search/constraints.txt" in text
    assert text.rindex("\nUSER 1000") > text.rindex("\nRUN")
    copied = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}\n" in ignored


def test_slurm_script_starts_the_study_on_a_ray_of_its_own_nodes(tmp_path: Path) -> None:
    """With Slurm's programs and ``ray`` in the form of scripts that write down how they were called."""
    fake = tmp_path / "bin"
    fake.mkdir()
    scripts = {
        "scontrol": 'printf "node1\\nnode2\\n"',
        "hostname": "echo 192.0.2.1 192.0.2.9",
        "ray": f'printf "%s\\n" "$RAY_AUTH_MODE" "${{#RAY_AUTH_TOKEN}}" "$@" > {tmp_path}/called',
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    }
    for name, body in scripts.items():
        (fake / name).write_text(f"#!/bin/bash\n{body}\n")
        (fake / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "1234567"}
    path = f"{fake}:{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [DEPLOY / "slurm.sh", "study.yaml", "--trials", "3"],
        env={**slurm, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    mode, token, *words = (tmp_path / "called").read_text().splitlines()
    assert (mode, token) == ("token", "64")
    separator = words.index("--")
    assert words[:separator] == [
        *("symmetric-run", "--address", "192.0.2.1:24567", "--min-nodes", "2", "--disable-usage-stats")
    ]
    study = ["search", "study.yaml", "--address", "192.0.2.1:24567", "--trials", "3"]
    assert words[separator + 1 :] == ["mtl-search", *study]
    missing = subprocess.run([DEPLOY / "slurm.sh"], env={**slurm, "PATH": path}, capture_output=True, text=True)
    assert missing.returncode != 0
    assert "usage: sbatch deploy/slurm.sh" in missing.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_slurm_script_runs_a_study_to_its_end_on_one_node(tmp_path: Path) -> None:
    """Slurm's own programs alone are scripts; Ray and the study are real."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, body in {"scontrol": "hostname", "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"'}.items():
        (fake / name).write_text(f"#!/bin/bash\n{body}\n")
        (fake / name).chmod(0o755)
    joint = {"epochs": 2, "batch_size": 32, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}
    raw = {**study_of(tmp_path, 2, joint), "resources": {"concurrent_trials": 1}, "storage": str(tmp_path / "runs")}
    write_study(tmp_path, raw)
    slurm = {"SLURM_JOB_NODELIST": "this", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_ID": str(os.getpid())}
    path = f"{fake}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    script, *options = DEPLOY / "slurm.sh", "tiny.yaml", "--trials", "2"
    done = subprocess.run(
        # Ray refuses where it sees another Ray on the machine: here it sees none.
        [*("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"), script, *options],
        cwd=tmp_path,
        env={**os.environ, **slurm, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "improvement over the best single-task models" in done.stdout
    assert [record.state for record in StudyFolder(tmp_path / "runs", "tiny").records("journal")] == ["complete"] * 2
