"""A job, a mechanism, and the pact of both, added to edgepact from outside."""

from dataclasses import dataclass, replace

import numpy as np

from edgepact.credits import MICRO, rounded_up
from edgepact.engagement import Item, Question, taken
from edgepact.fields import Table
from edgepact.files.written import written_toml
from edgepact.framework import Sheet
from edgepact.market.device_config import DeviceConfig
from edgepact.market.own_cost import computing_cost
from edgepact.market.processes import played
from edgepact.market.serve_config import ServeOptions
from edgepact.tables import Shown
from edgepact.tensors import TensorSpec
from edgepact.work import Model, Reply

BLOCKS, WIDTH = 8, 100
PRIVATE = ("alpha", "capacity", "A", "B")


def primes_of(interval, block):
    start = (interval * BLOCKS + block) * WIDTH
    numbers = range(max(start, 2), start + WIDTH)
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in numbers)


class Half:
    """Both halves: the device counts the first blocks of an interval, the server the others."""

    model, about, audit_power = Model(name="primes", amount_max=BLOCKS), {}, 1.0

    def pieces(self):
        return range(1, 10_000)

    def prepare(self, amount=0): ...

    warm = prepare

    def expects(self, amount, exchange):
        return (TensorSpec(name="counted", datatype="INT64", shape=(2,)),)

    def returns(self, amount):
        return (TensorSpec(name="total", datatype="INT64", shape=(1,)),)

    def work(self, piece, amount):
        for block in range(max(amount, 1)):
            count = primes_of(piece, block) if amount else 0
            reply = yield {"counted": np.array([piece, count])}
        return {"interval": piece, "primes": int(reply.outputs["total"][0])}

    def source(self, piece):
        return str(piece).encode()

    def begin(self, amount, seed):
        return amount, []

    def answer(self, batch):
        return [self._summed(sent["counted"], *session) for session, sent in batch]

    def _summed(self, sent, amount, counts):
        counts.append(int(sent[1]))
        if len(counts) < amount:
            return Reply(outputs={}, finished=False)
        rest = (primes_of(int(sent[0]), block) for block in range(amount, BLOCKS))
        return Reply(outputs={"total": np.array([sum(counts) + sum(rest)])})

    def evidence(self, amount, exchange, sent, reply, key):
        return str(int(sent["counted"][1])).encode()

    def passes_audit(self, amount, evidence, source, *, seed, codec, key):
        own = [primes_of(int(source), block) for block in range(amount)]
        return own == [int(each) for each in evidence]


class Primes:
    name, unit, step, codecs = "primes", "interval", "block", ("fp32",)
    about = "Counts the primes of an interval, each block in an exchange of its own."

    def device_part(self, *stated):
        return Half()

    server_part = device_part


@dataclass(frozen=True)
class Fee(Shown):
    """Terms and a fee, credits: the mechanism's answer, and the mechanism at work."""

    public: str  # the scenario without what only devices know
    saving: float  # credits that a block done by a device is worth to the server
    share: int  # blocks that the fee buys
    devices: tuple  # what only they know
    fee: float = 0.0

    def costs(self):
        costs = [computing_cost(**own, satisfaction="log1p") for own in self.devices]
        return [cost(self.share) / MICRO for cost in costs]

    def utility(self):
        return sum(c <= self.fee for c in self.costs()) * (self.saving * self.share - self.fee)

    @property
    def broken(self):
        return () if self.utility() >= 0 else ("the server does not lose",)

    def to_dict(self):
        return {"fee": self.fee, "server_utility": self.utility()}

    @property
    def sheets(self):
        rows = tuple((name, f"{value:.6g}") for name, value in self.to_dict().items())
        return (Sheet(title="A flat fee", head=("figure", "credits"), rows=rows),)

    def engagement(self, model, seed):
        return self

    def question(self, round):
        item = Item(amount=self.share, reward_microcredits=rounded_up(self.fee))
        return Question(menu=(item,))

    def engage(self, round, question, answers):
        return taken(question, answers)


class FlatFee:
    name = "flat-fee"
    about = "The server offers one fee for a share of the work, to be taken or left."

    def read(self, source, document, smoke=False):
        server = Table(source, "server", document.get("server"))
        rows = [Table(source, "device", row) for row in document.get("device", [])]
        own = tuple({name: row.number(name, least=0) for name in PRIVATE} for row in rows)
        public = written_toml({name: part for name, part in document.items() if name != "device"})
        return Fee(public, server.number("saving"), server.whole("share", least=1, most=8), own)

    def solve(self, terms):
        """The best fee is what it costs some device: another pays more to the same takers."""
        fees = [replace(terms, fee=cost) for cost in terms.costs() if np.isfinite(cost)]
        return max(fees, key=Fee.utility, default=terms)


class Pact:
    name, method = "partition-flat-fee-primes", "partition"
    mechanism, job, compress, solvers = "flat-fee", "primes", None, ("half",)

    read = FlatFee.read

    def measure(self, terms, run):
        return terms

    def optimum(self, terms, measured):
        return MECHANISM.solve(terms)

    def decide(self, terms, measured):
        return replace(terms, fee=terms.saving * terms.share / 2)

    def engage(self, terms, measured, decision, run):
        public, url = run.out / "public.toml", f"sqlite:///{run.out.resolve() / 'ledger.db'}"
        public.write_text(terms.public)
        config = {"scenario": public, "ledger_url": url, "port": 0, "audit_probability": 0.5}
        count = len(terms.devices)
        server = ServeOptions(rounds=2, units_per_round=3, devices_min=count, **config)
        alike = {"server_url": "http://filled-in", "job": "primes"}
        devices = [
            DeviceConfig(name=name, results=run.out / f"{name}.jsonl", **alike, **own)
            for name, own in zip("abcdefgh", terms.devices, strict=False)
        ]
        run.on_live()
        return played(run.out, server, devices).statement


JOB, MECHANISM, PACT = Primes(), FlatFee(), Pact()
