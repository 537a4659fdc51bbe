"""Clients of a simulation: their images and their private costs, drawn from a seed."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgepact.errors import InputError, check_choice
from edgepact.mechanisms.contract.quality import COST_FORMS, CostForm
from edgepact.mechanisms.contract.terms import Contract
from edgepact.training.fashion_mnist import LabelledImages
from edgepact.training.federated.client import Client
from edgepact.training.federated.options import BUDGET_CREDITS_MAX, CLIENTS_MAX
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.shards import Shards, dirichlet_shards
from edgepact.training.federated.speed import drawn_speed
from edgepact.training.federated.task import read_data, task_of
from edgepact.training.federated.task_config import TaskConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTypes:
    """What costs occur and how often; as hashable as the process's caches want it.

    Attributes:
        psi: credits per unit of c(amount), by type.
        probability: of each type.
        form: of c.
        participation_credits: of everybody.
    """

    psi: tuple[float, ...]
    probability: tuple[float, ...]
    form: CostForm
    participation_credits: float

    def __post_init__(self) -> None:
        check_choice("clients", "form", self.form, COST_FORMS)

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
class CostRange:
    """Costs of an update that are evenly spread, whatever its rate.

    Attributes:
        low, high: credits.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= BUDGET_CREDITS_MAX:
            expected = f"0 <= low <= high <= {BUDGET_CREDITS_MAX:g} credits"
            raise InputError("train", "costs", expected, f"{self.low:g}, {self.high:g}")

    def cost(self, seed: int, client: int) -> PrivateCost:
        """The cost of one client."""
        share = np.random.default_rng([seed, client, 0xC7]).uniform()
        return PrivateCost(participation_credits=self.low + share * (self.high - self.low))


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A whole fleet of clients; any process can make any of them.

    Attributes:
        task: what they train.
        clients: how many.
        dirichlet: concentration of the labels; infinity for an even split.
        costs: what an update may cost them; None for nothing.
        seed: of shards, costs and training.
        lies: by what clients multiply their cost when they bid, in turns; all tell the truth
            if there are none.
    """

    task: TaskConfig
    clients: int
    dirichlet: float
    costs: CostTypes | CostRange | None
    seed: int
    lies: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.clients <= CLIENTS_MAX:
            raise InputError("train", "clients", f"1 to {CLIENTS_MAX}", self.clients)

    def client(self, number: int) -> Client:
        """One of them, counted from 0."""
        shared = read_data(self.task).shared
        places = _shards(self)[number]
        task = task_of(self.task)
        return Client(
            task=task,
            images=LabelledImages(images=shared.images[places], labels=shared.labels[places]),
            cost=self.cost(number),
            seed=(self.seed, number),
            speed=drawn_speed(self.seed, number, self.clients, task=task),
            claimed=self.lies[number % len(self.lies)] if self.lies else 1.0,
        )

    def cost(self, number: int) -> PrivateCost:
        """The private cost of one of them."""
        if isinstance(self.costs, CostRange):
            return self.costs.cost(self.seed, number)
        if self.costs is None:
            return PrivateCost()
        return self.costs.cost(self.costs.drawn(self.seed, number))


def name_of(number: int) -> str:
    """Name of a simulated client."""
    return f"client-{number:03d}"


@lru_cache(maxsize=2)
def _shards(fleet: Simulated) -> Shards:
    labels = read_data(fleet.task).shared.labels
    return dirichlet_shards(labels, fleet.clients, fleet.dirichlet, seed=fleet.seed)
