"""The same rounds over Flower: its ClientApp, its grid as a transport, its simulation.

Fields travel in a ConfigRecord, weights in an ArrayRecord, what a client remembers lies in its
`context.state`. Written for the message interface of Flower 1.41; nothing else in this project
imports it.
"""

import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgepact.errors import InputError, MarketError
from edgepact.training.federated import offline  # noqa: F401 - before Flower and Ray
from edgepact.training.federated.client import Client, Memory
from edgepact.training.federated.messages import QUESTION, TRAIN
from edgepact.training.federated.options import WORKERS_MAX
from edgepact.training.federated.simulated import Simulated, name_of
from edgepact.training.federated.transport import Reply, Request, Transport, failure_of

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.clientapp.typing import Mod  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip

FIELDS, WEIGHTS, RESIDUAL, MEMORY = "fields", "weights", "residual", "memory"
HELLO = "query.hello"
_TYPES = {QUESTION: "query.question", TRAIN: "train"}

HELLO_TIMEOUT_S = 600.0
"""How long a client may take to say its name; the first one waits for Ray, which on a busy machine
takes minutes to start."""

GATHER_TIMEOUT_S = 600.0
"""How long the server waits for its first clients."""

GATHER_POLL_S = 0.2

OBJECT_STORE_BYTES = 256 * 2**20
"""Shared memory of Ray; by default it would take a third of the machine's."""

ACTOR_RESTARTS = -1
"""A process of Ray that a client takes down with it is started again, without limit."""


def client_app(client_of: Callable[[Context], Client], mods: Sequence[Mod] = ()) -> ClientApp:
    """Flower's side of a client.

    Args:
        client_of: the client of a context; called for every message, in any process.
        mods: what Flower puts around every call.
    """
    app = ClientApp(mods=list(mods))

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        number = int(context.node_config.get("partition-id", -1))
        record = ConfigRecord({"partition": number})
        return Message(RecordDict({FIELDS: record}), reply_to=message)

    @app.query("question")
    def question(message: Message, context: Context) -> Message:
        return _handled(QUESTION, client_of(context), message, context)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _handled(TRAIN, client_of(context), message, context)

    return app


class FlowerTransport:
    """Clients as nodes of a Flower grid.

    A node is asked for its partition once. In a simulation, where all nodes are ours, that names
    the client. In a deployment its name is made of the node's number, which Flower vouches for
    (with registered keys, by a signature): whose word would another be?

    Attributes:
        grid: Flower's.
        simulated: which of the two.
    """

    def __init__(self, grid: Grid, *, simulated: bool) -> None:
        self.grid, self.simulated = grid, simulated
        self._nodes: dict[str, int] = {}

    def gather(self, count: int) -> None:
        """Waits until so many clients are there: nodes come after the server has started.

        Raises:
            MarketError: they did not come.
        """
        deadline = time.monotonic() + GATHER_TIMEOUT_S
        while len(self.clients()) < count:
            if time.monotonic() > deadline:
                found = len(self._nodes)
                raise MarketError(f"{found} of {count} clients came in {GATHER_TIMEOUT_S:g} s")
            time.sleep(GATHER_POLL_S)

    def clients(self) -> Sequence[str]:
        """Names of the nodes that are there just now."""
        present = set(self.grid.get_node_ids())
        self._nodes = {name: node for name, node in self._nodes.items() if node in present}
        new = sorted(present - set(self._nodes.values()))
        if self.simulated:
            self._introduce(new)
        else:
            self._nodes |= {f"node-{node}": node for node in new}
        return sorted(self._nodes)

    def exchange(self, kind: str, requests: Mapping[str, Request], timeout_s: float) -> list[Reply]:
        """One message to each client, and what came back in time."""
        weights: dict[int, ArrayRecord] = {}
        messages = []
        names = {self._nodes[name]: name for name in requests if name in self._nodes}
        for node, name in names.items():
            request = requests[name]
            content = RecordDict({FIELDS: ConfigRecord(dict(request.fields))})
            if request.weights is not None:
                key = id(request.weights)
                if key not in weights:
                    weights[key] = ArrayRecord([request.weights])
                content[WEIGHTS] = weights[key]
            messages.append(Message(content, node, _TYPES[kind], ttl=timeout_s))
        return [
            _reply(names[message.metadata.src_node_id], message)
            for message in self.grid.send_and_receive(messages, timeout=timeout_s)
            if message.metadata.src_node_id in names
        ]

    def _introduce(self, nodes: list[int]) -> None:
        hello = [Message(RecordDict(), node, HELLO, ttl=HELLO_TIMEOUT_S) for node in nodes]
        if not hello:
            return
        for message in self.grid.send_and_receive(hello, timeout=HELLO_TIMEOUT_S):
            reply = _reply("", message)
            number = None if reply.fields is None else reply.fields.get("partition")
            if isinstance(number, int) and number >= 0:
                self._nodes.setdefault(name_of(number), message.metadata.src_node_id)


def simulate(
    fleet: Simulated,
    serve: Callable[[Transport], None],
    *,
    workers: int,
    log: Path,
    mods: Sequence[Mod] = (),
) -> None:
    """Runs a server and a fleet of clients on this machine, on Flower's Ray backend.

    Args:
        fleet: the clients.
        serve: plays the rounds; runs in a thread, and its errors are raised here.
        workers: processes of Ray, each of which plays one client at a time.
        log: file that takes what Flower and Ray say.
        mods: Flower mods around every client.

    Raises:
        MarketError: Flower or Ray broke down.
    """
    if not 1 <= workers <= WORKERS_MAX:
        raise InputError("train", "workers", f"1 to {WORKERS_MAX}", workers)
    app = ServerApp()
    failed: list[Exception] = []
    done: list[bool] = []

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            transport = FlowerTransport(grid, simulated=True)
            transport.gather(fleet.clients)
            serve(transport)
            done.append(True)
        except Exception as error:
            failed.append(error)

    # Flower itself warns that this way in will go. `flwr run` would want a project, a SuperLink
    # process and a home folder for a run on one machine.
    from flwr.simulation import run_simulation

    with _logged(log), _ray_folder() as folder:
        try:
            run_simulation(
                server_app=app,
                client_app=client_app(SimulatedClient(fleet), mods),
                num_supernodes=fleet.clients,
                backend_config={
                    # Flower hands these to Ray's `options` as they are.
                    "client_resources": {"num_cpus": 1, "max_restarts": ACTOR_RESTARTS},
                    "init_args": {
                        "num_cpus": workers,
                        "include_dashboard": False,
                        "log_to_driver": False,
                        "logging_level": logging.ERROR,
                        "object_store_memory": OBJECT_STORE_BYTES,
                        "_temp_dir": str(folder),
                    },
                },
            )
        except (Exception, SystemExit) as error:
            if not failed:
                raise MarketError(f"the simulation broke down, see {log}: {error}") from error
    if failed:
        raise failed[0]
    if not done:
        raise MarketError(f"the simulation ended before its time, see {log}")


class SimulatedClient:
    """Makes the client of a context, in whatever process it is called."""

    def __init__(self, fleet: Simulated) -> None:
        self.fleet = fleet

    def __call__(self, context: Context) -> Client:
        """The client of a node."""
        return self.fleet.client(int(context.node_config["partition-id"]))


def _handled(kind: str, client: Client, message: Message, context: Context) -> Message:
    weights = None
    if WEIGHTS in message.content:
        (weights,) = message.content[WEIGHTS].to_numpy_ndarrays()
    request = Request(fields=dict(message.content[FIELDS]), weights=weights)
    fields, memory = client.handle(kind, request, _recalled(context))
    if kind == TRAIN:
        assert memory.residual is not None
        context.state[RESIDUAL] = ArrayRecord([memory.residual])
        assert memory.loss is not None
        facts = {"seconds": memory.seconds, "loss": memory.loss}
        context.state[MEMORY] = ConfigRecord(dict(facts))
    return Message(RecordDict({FIELDS: ConfigRecord(dict(fields))}), reply_to=message)


def _recalled(context: Context) -> Memory:
    if RESIDUAL not in context.state:
        return Memory()
    (residual,) = context.state[RESIDUAL].to_numpy_ndarrays()
    facts = context.state[MEMORY]
    return Memory(
        residual=np.asarray(residual, np.float32),
        seconds=float(facts["seconds"]),
        loss=float(facts["loss"]),
    )


def _reply(name: str, message: Message) -> Reply:
    """What a node sent, whatever it was."""
    if message.has_error():
        return Reply(client=name, failure=failure_of(message.error.reason or "it failed"))
    record = message.content.get(FIELDS)
    if not isinstance(record, ConfigRecord):
        return Reply(client=name, failure="a message without fields")
    return Reply(client=name, fields=dict(record))


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What Flower says goes to a file and not to the screen."""
    logger = logging.getLogger("flwr")
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before, propagate = list(logger.handlers), logger.propagate
    for handler in before:
        logger.removeHandler(handler)
    logger.addHandler(file)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            # Ray opens logs that it leaves to the garbage collector, and starts its processes by
            # fork and at once exec, which does JAX no harm.
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            yield
    finally:
        logger.removeHandler(file)
        file.close()
        for handler in before:
            logger.addHandler(handler)
        logger.propagate = propagate


@contextmanager
def _ray_folder() -> Iterator[Path]:
    """A folder for Ray's sockets and logs that goes when it goes; sockets want short paths."""
    folder = Path(tempfile.mkdtemp(prefix="ep-ray-", dir="/tmp" if os.path.isdir("/tmp") else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
