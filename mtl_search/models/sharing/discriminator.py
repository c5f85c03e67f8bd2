"""Discriminator: tells the data sets of rows apart behind gradient reversal, so that what is before it forgets them.

The adversarial sharing has one on its shared trunk, the adversarial alignment one wherever data sets meet.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.models.sharing.sharing_module import draw_uniform


@final
class Discriminator(nn.Module):
    """A linear classifier of rows, or one with a hidden layer of rectified units.

    Its parameters learn to tell the data sets apart. What its input is made from gets the reversed gradient.

    Args:
        features: Width of a row.
        datasets: How many there are to tell apart.
        hidden: Units of the hidden layer; 0 for none.
    """

    def __init__(self, features: int, datasets: int, hidden: int = 0) -> None:
        super().__init__()
        # Zeros, because nn.Linear would move the global random state on: ``initialise`` draws from the seed alone.
        self.hidden = nn.ParameterDict(
            {"weight": torch.zeros(hidden, features), "bias": torch.zeros(hidden)} if hidden else {}
        )
        self.weight = nn.Parameter(torch.zeros(datasets, hidden or features))
        self.bias = nn.Parameter(torch.zeros(datasets))

    def forward(self, rows: Tensor, sizes: Sequence[int], reversal: float = 1.0) -> Tensor:
        """Cross-entropy of its guesses, summed over the rows.

        Args:
            rows: (n, features) float32, the rows of the data sets one after the other.
            sizes: Rows of each data set, summing to n.
            reversal: The rows get the gradient times minus this number.

        Returns:
            A scalar.
        """
        h = reverse_gradient(rows, reversal)
        if self.hidden:
            h = functional.linear(h, self.hidden["weight"], self.hidden["bias"]).relu()
        guesses = functional.linear(h, self.weight, self.bias).log_softmax(1)
        parts = torch.split(guesses, list(sizes))
        return -torch.stack([part[:, place].sum() for place, part in enumerate(parts)]).sum()

    def initialise(self, *key: object) -> None:
        """Draw the parameters from the key alone."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                width = self.hidden["weight"].shape[1] if name.startswith("hidden") else self.weight.shape[1]
                parameter.copy_(draw_uniform(parameter.shape, width**-0.5, *key, name))


def reverse_gradient(x: Tensor, reversal: float) -> Tensor:
    """``x`` itself, whose gradient goes back times ``-reversal``."""
    still = x.detach()
    return still - reversal * (x - still)
