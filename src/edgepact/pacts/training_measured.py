"""Step 1 of pacts that train: what the open variable costs or saves, measured on the clients."""

from dataclasses import asdict, dataclass

import numpy as np

from edgepact.efficiency.compression import at_rate, measure
from edgepact.framework import Json, Sheet
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.pacts.training_terms import TrainingTerms
from edgepact.training.federated.contract import items
from edgepact.training.federated.run import expect_ready
from edgepact.training.federated.simulated import Simulated
from edgepact.training.federated.task import task_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFound:
    """An update at one rate.

    Attributes:
        rate: share of the bytes of float32.
        bytes: of the update.
        times_fewer: bytes than float32.
        relative_error: of the update as it is read back.
    """

    rate: float
    bytes: int
    times_fewer: float
    relative_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RatesFound:
    """What rates save and lose, on the first update of a client."""

    rates: tuple[RateFound, ...]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        return (
            Sheet(
                title="Compression: each client sends its update at a rate r of the bytes of "
                "float32",
                head=("rate", "bytes of an update", "times fewer", "relative error"),
                rows=tuple(
                    (
                        f"{each.rate:.4f}",
                        f"{each.bytes:,}",
                        f"{each.times_fewer:.1f}",
                        f"{each.relative_error:.4f}",
                    )
                    for each in self.rates
                ),
                notes=(
                    "Measured on one client's first update; what is cut off is added to its next "
                    "one.",
                ),
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"rates": [asdict(each) for each in self.rates]}


def rates_found(terms: TrainingTerms) -> RatesFound:
    """Trains one client once and packs its update at the rates that matter.

    Raises:
        MissingExtraError, InputError: the training could not be started.
    """
    with terms.stated():
        expect_ready(terms.config)
        client = terms.fleet().client(0)
    start = task_of(terms.config.task).start()
    seed = terms.config.task.seed
    trained, _ = client.task.train(start, client.images, seed=[seed, 0])
    contract = terms.contract
    offered = {item.amount for item in items(contract, sure_menu(contract))}
    random = np.random.default_rng(seed)
    found = []
    for rate in sorted({*offered, contract.quality_max, 1.0}):
        update = measure(at_rate(rate), trained - start, random)
        found.append(
            RateFound(
                rate=rate,
                bytes=update.bytes,
                times_fewer=4 * start.size / update.bytes,
                relative_error=update.relative_error,
            )
        )
    return RatesFound(rates=tuple(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsFound:
    """What clients hold and how slow they are.

    Attributes:
        clients: how many.
        dirichlet: concentration of the labels.
        figures: least, median and most of each, by name.
    """

    clients: int
    dirichlet: float
    figures: dict[str, tuple[float, float, float]]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        spread = f"labels spread by a Dirichlet distribution of {self.dirichlet:g}"
        return (
            Sheet(
                title="Selection: in each round some of the clients train",
                head=("of a client", "least", "median", "most"),
                rows=tuple(
                    (name, *(f"{each:.4g}" for each in figures))
                    for name, figures in self.figures.items()
                ),
                notes=(f"{self.clients} clients, {spread}.",),
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"clients": self.clients, "figures": {n: list(f) for n, f in self.figures.items()}}


def clients_found(terms: TrainingTerms) -> ClientsFound:
    """Looks at all clients.

    Raises:
        MissingExtraError, InputError: the training could not be started.
    """
    with terms.stated():
        expect_ready(terms.config)
        fleet = terms.fleet()
        columns = _columns(fleet, terms.config.rate)
    return ClientsFound(
        clients=fleet.clients,
        dirichlet=fleet.dirichlet,
        figures={
            name: (
                float(np.min(column)),
                float(np.quantile(column, 0.5)),
                float(np.max(column)),
            )
            for name, column in columns.items()
        },
    )


def _columns(fleet: Simulated, rate: float) -> dict[str, np.ndarray]:
    clients = [fleet.client(number) for number in range(fleet.clients)]
    speeds = [each.speed for each in clients if each.speed is not None]
    return {
        "images held": np.array([len(each.images) for each in clients], float),
        "kinds of garments": np.array([len(np.unique(each.images.labels)) for each in clients]),
        "seconds of training": np.array([each.compute_s for each in speeds]),
        "seconds of sending": np.array([rate * each.upload_s for each in speeds]),
    }
