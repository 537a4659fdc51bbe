r"""From the clients' updates to the next weights.

FedAvg (McMahan et al. 2017, arXiv 1602.05629) moves the weights by the mean update
$\Delta = \sum_k n_k \Delta_k / \sum_k n_k$. FedAdam (Reddi et al. 2021, arXiv 2003.00295, alg. 2)
takes it for a gradient:

$$m \leftarrow \beta_1 m + (1 - \beta_1) \Delta,\quad
  v \leftarrow \beta_2 v + (1 - \beta_2) \Delta^2,\quad
  x \leftarrow x + \eta\, m / (\sqrt v + \tau).$$

NumPy, float32 vectors of all weights; sums in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepact.efficiency.compression import Vector
from edgepact.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """The weights, and what the aggregation remembers beside them.

    Attributes:
        weights: [n].
        first, second: moments of FedAdam [n]; empty for FedAvg.
    """

    weights: Vector
    first: Vector
    second: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAvg:
    """The mean update, as it is."""

    def start(self, weights: Vector) -> Model:
        """Before the first round."""
        return Model(weights=weights, first=np.zeros(0, np.float32), second=np.zeros(0, np.float32))

    def move(self, model: Model, mean: Vector) -> Model:
        """The weights moved by the mean update [n]."""
        return Model(weights=model.weights + mean, first=model.first, second=model.second)


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAdam:
    """The mean update as Adam's gradient.

    Attributes:
        learning_rate: eta.
        beta1, beta2: how long the moments remember.
        tau: how adaptive it is; the larger, the less.
    """

    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def start(self, weights: Vector) -> Model:
        """Before the first round."""
        return Model(weights=weights, first=np.zeros_like(weights), second=np.zeros_like(weights))

    def move(self, model: Model, mean: Vector) -> Model:
        """The weights and moments after a mean update [n]."""
        first = self.beta1 * model.first + (1 - self.beta1) * mean
        second = self.beta2 * model.second + (1 - self.beta2) * mean * mean
        step = self.learning_rate * first / (np.sqrt(second) + self.tau)
        return Model(
            weights=(model.weights + step).astype(np.float32),
            first=first.astype(np.float32),
            second=second.astype(np.float32),
        )


Aggregate = FedAvg | FedAdam
AGGREGATES: dict[str, Aggregate] = {"fedavg": FedAvg(), "fedadam": FedAdam()}


def mean_update(updates: Sequence[Vector], examples: Sequence[int]) -> Vector:
    """The mean of updates [n], each weighed by its examples.

    Raises:
        InputError: there are none, or their shapes or weights do not fit.
    """
    if not updates or len(updates) != len(examples) or min(examples) < 1:
        found = f"{len(updates)} updates, {len(examples)} weights"
        raise InputError("aggregate", "updates", "one or more, each with a weight above 0", found)
    total = float(sum(examples))
    mean = np.zeros(updates[0].shape, np.float64)
    for update, weight in zip(updates, examples, strict=True):
        if update.shape != mean.shape:
            raise InputError("aggregate", "updates", f"shape {mean.shape}", update.shape)
        mean += (weight / total) * update
    return mean.astype(np.float32)
