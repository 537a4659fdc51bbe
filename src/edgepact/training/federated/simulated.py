"""Clients of a simulation: their images and their private costs, drawn from a seed."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgepact.errors import InputError
from edgepact.mechanisms.contract import Contract
from edgepact.mechanisms.quality import CostForm
from edgepact.training.fashion_mnist import LabelledImages
from edgepact.training.federated.client import Client
from edgepact.training.federated.engagement import PrivateCost
from edgepact.training.federated.rounds import CLIENTS_MAX
from edgepact.training.federated.shards import Shards, dirichlet_shards
from edgepact.training.federated.task import TaskConfig, read_data, task_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTypes:
    """What costs occur and how often; as hashable as the process's caches want it.

    Attributes:
        psi: credits per unit of c(rate), by type.
        probability: of each type.
        form: of c.
        participation_credits: of everybody.
    """

    psi: tuple[float, ...]
    probability: tuple[float, ...]
    form: CostForm
    participation_credits: float

    @classmethod
    def of(cls, contract: Contract) -> "CostTypes":
        """The types a contract expects."""
        total = float(np.sum(contract.probability))
        return cls(
            psi=tuple(float(each) for each in contract.psi),
            probability=tuple(float(each) / total for each in contract.probability),
            form=contract.cost,
            participation_credits=contract.participation_cost,
        )

    def drawn(self, seed: int, client: int) -> int:
        """The type of one client, its place among the types."""
        random = np.random.default_rng([seed, client, 0xC7])
        return int(random.choice(len(self.psi), p=self.probability))

    def cost(self, at: int) -> PrivateCost:
        """The cost of a type."""
        return PrivateCost(
            psi=self.psi[at], form=self.form, participation_credits=self.participation_credits
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A whole fleet of clients; any process can make any of them.

    Attributes:
        task: what they train.
        clients: how many.
        dirichlet: concentration of the labels; infinity for an even split.
        costs: what an update may cost them; None for nothing.
        seed: of shards, costs and training.
    """

    task: TaskConfig
    clients: int
    dirichlet: float
    costs: CostTypes | None
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.clients <= CLIENTS_MAX:
            raise InputError("train", "--clients", f"1 to {CLIENTS_MAX}", self.clients)

    def client(self, number: int) -> Client:
        """One of them, counted from 0."""
        shared = read_data(self.task).shared
        places = _shards(self)[number]
        cost = PrivateCost()
        if self.costs is not None:
            cost = self.costs.cost(self.costs.drawn(self.seed, number))
        return Client(
            task=task_of(self.task),
            images=LabelledImages(images=shared.images[places], labels=shared.labels[places]),
            cost=cost,
            seed=(self.seed, number),
        )


def name_of(number: int) -> str:
    """Name of a simulated client."""
    return f"client-{number:03d}"


@lru_cache(maxsize=2)
def _shards(fleet: Simulated) -> Shards:
    labels = read_data(fleet.task).shared.labels
    return dirichlet_shards(labels, fleet.clients, fleet.dirichlet, seed=fleet.seed)
