"""A driver killed, its files damaged, its cluster lost: the next driver goes on with what was whole."""

from pathlib import Path

import pytest
from driver_processes import second_driver
from fault_cluster import FaultCluster
from fault_studies import EPOCH, Begin, Story, check_end, steps, study_of
from small_studies import folder_of

pytestmark = [pytest.mark.timeout(700), pytest.mark.slow]

TRIALS = 24
"""So many that some are left however long the drivers take to start."""


def truncate(path: Path) -> None:
    """Cut off a file's second half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path: Path) -> None:
    """Flip one bit in the second half of a file, where the numbers are, and keep its length and date."""
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 4
    path.write_bytes(data)


def kill_driver(story: Story) -> None:
    story.command.process.kill()
    story.command.process.wait(30)


def test_a_second_driver_is_refused_and_the_killed_one_s_study_goes_on_without_its_damaged_files(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1, count=2)
    folder = folder_of(tmp_path / "mtl_search_runs")
    # Slow steps: the study is to outlast the second driver's start.
    with begun(tmp_path, study_of(tmp_path, TRIALS, seconds=0.5, resources={"concurrent_trials": 2})) as story:
        story.command.wait_until(lambda: any(folder.trials.glob("*/result.json")))
        refused = second_driver(tmp_path)
        assert refused.returncode == 2
        assert "study tiny is being run by" in refused.stderr
        assert f"{story.command.process.pid}" in refused.stderr
        story.hit("driver", lambda: kill_driver(story))
        story.again()
        story.goes_on()
        story.hit("driver, and a checkpoint cut short", lambda: kill_driver(story))
        truncate(folder.trials / story.events[-1].keys[0] / "checkpoint.pt")
        models = {model: model.read_bytes() for model in folder.cache.glob("*/model.safetensors")}
        assert models
        for model in models:
            flip(model)
        story.again()
        assert story.command.end() == 0, story.command.printed
    check_end(tmp_path, TRIALS, retried=True)
    story.note("resumed")
    assert story.costs()["driver"].epochs <= 1
    met = story.events[-1].keys[0]
    first_epochs = [step for step in steps(tmp_path) if step.key == met and step.epoch == 1]
    assert len(first_epochs) > EPOCH, "a stage whose checkpoint is damaged starts anew"
    assert {model: model.read_bytes() for model in models} == models, "damaged models are made anew, to the same bits"


def test_a_checkpoint_with_one_flipped_bit_is_not_gone_on_from(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1)
    folder = folder_of(tmp_path / "mtl_search_runs")
    with begun(tmp_path, study_of(tmp_path, 2, resources={"concurrent_trials": 1})) as story:
        story.hit("driver", lambda: kill_driver(story))
        flip(folder.trials / story.events[-1].keys[0] / "checkpoint.pt")
        story.again()
        assert story.command.end() == 0, story.command.printed
    check_end(tmp_path, 2, retried=True)
    met = story.events[-1].keys[0]
    assert sum(step.key == met and step.epoch == 1 for step in steps(tmp_path)) > EPOCH
