"""Modes: modules in evaluation for a while, every part of them back in its own mode afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation while the block runs; frozen batch norms stay what they were before."""
    whole = [(module, module.training) for module in modules]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in whole:
            module.train(training)  # a user's block may do more here than set its mode
        for part, training in modes:
            part.training = training
