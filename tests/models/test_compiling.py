"""torch's compiler stays away from processes that compile nothing, and nothing they compute differs for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtl_search.balancing.representation_gradients import backward
from mtl_search.models.compiling import step_plainly
from mtl_search.transfer import OPTIMIZERS

SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from small_workloads import *
from mtl_search.models.cost import multiply_adds
workspace = workspace_of(data_of(EVERY_KIND), BATCH_NORM)
recipe = recipe_of(Schedule(epochs=2), Schedule(epochs=1), weighting=Component("pcgrad", {{"at": "representation"}}))
for stage in single_stages(workspace, recipe, Path("singles")).values():
    run_stage(stage, workspace)
run_stage(joint_stage(workspace, recipe, Path(".")), workspace)
model = model_of(workspace)
assert multiply_adds(model, workspace.workload.data.preparation.feature_shape) > 0
print(json.dumps([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules]))
"""


def test_a_worker_that_compiles_nothing_never_loads_the_compiler(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1] / "training")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=tests)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_controller_of_one_worker_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "import mtl_search.pool.process_group, mtl_search.pool.settled_policy, mtl_search.pool.group_callbacks\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_plain_steps_are_those_of_torch_to_the_bit(name: str) -> None:
    def trained(plainly: bool) -> torch.Tensor:
        torch.manual_seed(3)
        layer = torch.nn.Linear(5, 3)
        optimizer = OPTIMIZERS[name]().build(layer.parameters())
        if plainly:
            step_plainly(optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            layer(torch.randn(7, 5)).square().sum().backward()
            optimizer.step()
        assert all(parameter.requires_grad for parameter in layer.parameters())
        return torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])

    assert torch.equal(trained(plainly=True), trained(plainly=False))


def test_gradients_of_roots_with_seeds_are_those_of_torch_to_the_bit() -> None:
    def gradients(ours: bool) -> list[torch.Tensor]:
        torch.manual_seed(4)
        leaf = torch.randn(6, 4).requires_grad_()
        roots = [(leaf * 1.7).tanh(), leaf.exp().sum(1), torch.ones(3)]
        seeds = [torch.randn_like(root) * 10.0**power for root, power in zip(roots, (-20, 9, 0), strict=True)]
        backward(roots, seeds) if ours else torch.autograd.backward(roots[:2], seeds[:2])
        assert leaf.grad is not None
        return [leaf.grad]

    assert all(torch.equal(one, other) for one, other in zip(gradients(True), gradients(False), strict=True))
