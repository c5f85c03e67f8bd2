"""What a training step costs: every weighting against a plain sum of losses, and that against a hand-written loop.

Measured for 2, 4, 8 and 16 tasks that share a whole trunk, a small residual convolutional net or a transformer of four
layers (``side_by_side`` says how time and memory are measured; figures are ratios to this project's own step with
``fixed`` weights):

- every weighting, those that balance gradients at the last shared representation and at all shared parameters;
  ``fixed`` against a second ``fixed`` shows how far noise goes;
- a hand-written loop: the same layers, batches of the same size, the same optimiser and equal weights, in ten lines of
  PyTorch that do nothing else;
- torchjd's ``mtl_backward``, and LibMTL's weightings where it is installed, in the same loop.

A weighting's ``at`` is where it takes gradients; ``look_ahead`` for one that learns from the losses after a trial step,
which costs three forward passes and a backward pass more.

    python benchmarks/step_cost.py [--quick] [--json FILE] [--device cpu] [--models ..] [--tasks ..] [--weightings ..]
"""

import argparse
import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
from figures import write_figures
from side_by_side import BATCH, MODELS, SCHEDULE, Loop, Table, device_of, own_loop, peak_bytes, say, time_ratio
from side_by_side import workspace_of as workspace_for
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.errors import ConfigError
from mtl_search.recipe import Component, build
from mtl_search.training.workspace import Workspace
from mtl_search.transfer import OPTIMIZERS
from mtl_search.weighting import WEIGHTINGS, LookAhead
