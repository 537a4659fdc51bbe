"""The apps of a real deployment: what a SuperLink and its SuperNodes run.

An app folder names `server_app` and `client_app` (`examples/federated_app` is one). The run's
settings come from its `[tool.flwr.app.config]` and are the same for both sides. What is a client's
own comes from its SuperNode's `--node-config` and reaches nobody else:

==============  ===============================================================================
`data`          folder of Fashion-MNIST files, or `samples`
`partition-id`  which share of the data is its own, of `clients` shares; -1 for all of it
`psi`           its private cost, credits per unit of c(rate)
`cost-form`     of c: `linear` or `quadratic`
`fixed-cost`    credits for taking part at all
==============  ===============================================================================

The run config is read by `run_config`: all of what `edgepact train` knows, but for what belongs to
a simulation.
"""

from dataclasses import replace
from functools import lru_cache

from edgepact.errors import InputError, shown
from edgepact.training.federated.client import Client
from edgepact.training.federated.flower import FlowerTransport, client_app
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.run import Trained, train_over
from edgepact.training.federated.run_config import read_run_config, read_shared
from edgepact.training.federated.simulated import Simulated
from edgepact.training.federated.task import read_data, task_of
from edgepact.training.federated.task_config import TaskConfig

from flwr.app import Context  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip


def client_of(context: Context) -> Client:
    """The client of a SuperNode, from its node config."""
    config, node = read_shared(context.run_config), dict(context.node_config)
    return _client(
        replace(config.task, data=str(node.get("data", config.task.data))),
        config.clients,
        config.dirichlet,
        int(node.get("partition-id", -1)),
        float(node.get("psi", 0.0)),
        str(node.get("cost-form", "linear")),
        float(node.get("fixed-cost", 0.0)),
    )


@lru_cache(maxsize=4)
def _client(
    task: TaskConfig,
    clients: int,
    dirichlet: float,
    partition: int,
    psi: float,
    form: str,
    fixed: float,
) -> Client:
    if form not in ("linear", "quadratic"):
        raise InputError("node config", "cost-form", "linear or quadratic", shown(form))
    cost = PrivateCost(
        psi=psi,
        form="linear" if form == "linear" else "quadratic",
        participation_credits=fixed,
    )
    if partition < 0:
        images = read_data(task).shared
        return Client(task=task_of(task), images=images, cost=cost, seed=(task.seed,))
    fleet = Simulated(task=task, clients=clients, dirichlet=dirichlet, costs=None, seed=task.seed)
    if partition >= clients:
        raise InputError("node config", "partition-id", f"-1 to {clients - 1}", partition)
    own = fleet.client(partition)
    return Client(task=own.task, images=own.images, cost=cost, seed=own.seed)


client_side = client_app(client_of)
server_side = ServerApp()


@server_side.main()
def main(grid: Grid, context: Context) -> None:
    """Waits for the clients, plays the rounds, writes the folder."""
    config = read_run_config(context.run_config)
    transport = FlowerTransport(grid, simulated=False)
    transport.gather(config.clients)
    trained: Trained = train_over(config, lambda serve: serve(transport))
    print(f"edgepact: {trained.history[-1].number} rounds, accuracy {trained.accuracy:.4f}")
