"""A request of the Open Inference Protocol, whatever carries it: paid work, or unpaid.

HTTP and gRPC decode into `oip.InferRequest`, ask here, and encode `Answer`. A request that names a
round is an exchange of a piece that a device is paid for; one that names none is unpaid.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgepact.errors import MarketError
from edgepact.fields import check_whole
from edgepact.market.evidence import amount_of, chosen_codec, cut_name
from edgepact.market.exchanges import Exchange
from edgepact.market.ledger import PieceState, Settlement
from edgepact.market.logs import Log
from edgepact.market.metrics import Metrics
from edgepact.market.play import Market
from edgepact.market.protocol import messages, oip
from edgepact.market.protocol.model_facts import VERSION, model_config, model_metadata
from edgepact.market.tracing import trace_of
from edgepact.market.unpaid import BATCH_MAX, is_batched
from edgepact.market.witness import ExchangeSeen
from edgepact.tensors import Codec, Tensors, TensorSpec, bytes_of
from edgepact.work import EXCHANGES_MAX

SOURCE = "infer request"

OPERATOR = "operator"
"""Whom unpaid work of the operator is counted for; devices count as `device NAME`."""


class NoSuchModel(MarketError):
    """There is no model of this name and version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an inference request is answered.

    Attributes:
        id: of the request.
        model: name of the model.
        outputs: tensors that are wanted, packed.
        parameters: further facts, as JSON values.
    """

    id: str
    model: str
    outputs: Tensors
    parameters: Mapping[str, object]


@dataclass(slots=True)
class ModelCounts:
    """What one model has done since the server started.

    Attributes:
        pieces, requests, failed: how many.
        ok_s, failed_s, compute_s: seconds, in all.
        last_s: when it was asked last, seconds since 1970.
    """

    pieces: int = 0
    requests: int = 0
    failed: int = 0
    ok_s: float = 0.0
    failed_s: float = 0.0
    compute_s: float = 0.0
    last_s: float = 0.0

    def as_json(self, name: str) -> dict[str, object]:
        """As Triton's statistics extension tells it: nanoseconds, milliseconds."""

        def spent(count: int, seconds: float) -> dict[str, int]:
            return {"count": count, "ns": int(seconds * 1e9)}

        waited_s = max(0.0, self.ok_s - self.compute_s)
        return {
            "name": name,
            "version": VERSION,
            "last_inference": int(self.last_s * 1e3),
            "inference_count": self.pieces,
            "execution_count": self.requests,
            "inference_stats": {
                "success": spent(self.requests, self.ok_s),
                "fail": spent(self.failed, self.failed_s),
                "queue": spent(self.requests, waited_s),
                "compute_input": spent(self.requests, 0.0),
                "compute_infer": spent(self.requests, self.compute_s),
                "compute_output": spent(self.requests, 0.0),
            },
            "batch_stats": [],
        }


@dataclass(slots=True)
class Inference:
    """All models of a market, for those who speak the protocol.

    Attributes:
        market: behind it.
        metrics: what is counted for Prometheus.
        log: told of every exchange that is paid for.
    """

    market: Market
    metrics: Metrics
    log: Log = field(default_factory=Log)
    _counts: dict[int, ModelCounts] = field(default_factory=dict)

    def amount(self, name: str, version: str = VERSION) -> int:
        """Where a model cuts.

        Raises:
            NoSuchModel: there is none of this name and version.
        """
        model = self.market.part.model
        amount = amount_of(model, name)
        if amount is None:
            first, last = cut_name(model, 0), cut_name(model, model.amount_max)
            raise NoSuchModel(f"there is no model {name!r}, expected {first} to {last}")
        if version not in ("", VERSION):
            raise NoSuchModel(f"there is no version {version!r} of {name!r}, expected {VERSION}")
        return amount

    def metadata(self, amount: int) -> dict[str, object]:
        """What a model takes and gives."""
        market, name = self.market, cut_name(self.market.part.model, amount)
        batches = self._batch_max(amount) > 0
        return model_metadata(market.part, market.codecs, name, amount, batches=batches)

    def config(self, amount: int) -> dict[str, object]:
        """A model's configuration."""
        market, name = self.market, cut_name(self.market.part.model, amount)
        most = self._batch_max(amount)
        return model_config(market.part, market.codecs, name, amount, batch_max=most)

    def statistics(self, amount: int | None) -> dict[str, object]:
        """What a model has done, or each of those that were asked."""
        model = self.market.part.model
        amounts = sorted(self._counts) if amount is None else [amount]
        told = [
            self._counts.get(each, ModelCounts()).as_json(cut_name(model, each)) for each in amounts
        ]
        return {"model_stats": told}

    async def infer(
        self,
        device: str | None,
        amount: int,
        asked: oip.InferRequest,
        *,
        trace: str | None = None,
        body_s: float = 0.0,
    ) -> Answer:
        """Answers a request.

        Args:
            device: that asks; None for the operator.
            amount: of the model.
            asked: decoded.
            trace: that the request belongs to, if it names one.
            body_s: seconds that its body took to come, for the log.

        Raises:
            Busy: too much is in flight.
            Crowded: the client has asked for too much.
            InputError: the request does not fit the model.
            LostSession: the piece has to be begun again.
            MarketError: the device may not deliver it; nothing is paid.
        """
        start_s = time.perf_counter()
        counts = self._counts.setdefault(amount, ModelCounts())
        counts.last_s = time.time()
        try:
            answer, compute_s, pieces = await self._infer(device, amount, asked, start_s)
        except BaseException:
            counts.failed += 1
            counts.failed_s += time.perf_counter() - start_s
            raise
        server_s = time.perf_counter() - start_s
        self._show(device, amount, asked, answer, body_s, compute_s, server_s)
        counts.requests += 1
        counts.pieces += pieces
        counts.ok_s += server_s
        counts.compute_s += compute_s
        self.metrics.exchange(server_s, compute_s)
        told = answer.parameters
        if device is not None and "queue_seconds" in told and self.log.tells("info"):
            self.log.info(
                "exchange",
                trace=trace or trace_of(device, asked.id),
                device=device,
                piece=asked.id,
                round=asked.parameters.get("round"),
                exchange=told["exchange"],
                amount=amount,
                state=told.get("state"),
                body_s=body_s,
                queue_s=told["queue_seconds"],
                compute_s=compute_s,
                ledger_s=told["ledger_seconds"],
                server_s=server_s,
            )
        return answer

    async def _infer(
        self, device: str | None, amount: int, asked: oip.InferRequest, start_s: float
    ) -> tuple[Answer, float, int]:
        market, parameters = self.market, asked.parameters
        at = check_whole(
            SOURCE,
            "parameters.exchange",
            parameters.get("exchange", 0),
            least=0,
            most=EXCHANGES_MAX - 1,
        )
        specs = market.part.returns(amount)
        takes = market.part.expects(amount, at)
        codec = chosen_codec(parameters.get("codec"), market.codecs, asked.inputs, takes)
        oip.check_outputs(asked.outputs, codec.packed(specs))
        told: dict[str, object]
        if "round" in parameters or not market.unpaid.offered:
            number = messages.check_round(SOURCE, parameters.get("round"))
            if device is None:
                raise MarketError("devices alone are paid for a round's work")
            exchange = Exchange(
                device=device,
                round=number,
                piece=messages.check_piece(SOURCE, asked.id),
                at=at,
                amount=amount,
                commitment=messages.check_commitment(SOURCE, parameters.get("commitment")),
                sent=asked.inputs,
                request=parameters.get("request"),
            )
            answered = await market.exchange(exchange, codec.name)
            given = answered.reply.outputs
            outputs: Tensors = answered.codec.pack(given, [s for s in specs if s.name in given])
            told = {**answered.reply.told, **_progress(answered.settlement)}
            told |= {"from_books": answered.from_books, "audits": market.due(device)}
            told |= {"queue_seconds": answered.queue_s, "ledger_seconds": answered.ledger_s}
            compute_s, pieces = answered.compute_s, 1
            if not answered.from_books:
                parts = answered.queue_s, answered.together, answered.ledger_s
                self.metrics.paid_exchange(*parts)
        else:
            who = OPERATOR if device is None else f"device {device}"
            done = await market.unpaid.infer(who, asked.id, at, amount, codec, asked.inputs)
            outputs = done.outputs
            told = {**done.told, "finished": done.finished, "unpaid": True}
            compute_s, pieces = done.compute_s, done.pieces
        told |= {
            "exchange": at,
            "compute_seconds": compute_s,
            "server_seconds": time.perf_counter() - start_s,
        }
        answer = Answer(
            id=asked.id,
            model=cut_name(market.part.model, amount),
            outputs=_wanted(outputs, specs, codec, asked.outputs),
            parameters=told,
        )
        return answer, compute_s, pieces

    def _show(
        self,
        device: str | None,
        amount: int,
        asked: oip.InferRequest,
        answer: Answer,
        body_s: float,
        compute_s: float,
        server_s: float,
    ) -> None:
        """Lets the market's witness see an exchange that is paid for and was computed now."""
        told, witness = answer.parameters, self.market.witness
        if witness is None or device is None or told.get("from_books", True):
            return
        seen = ExchangeSeen(
            device=device,
            piece=asked.id,
            round=int(str(asked.parameters["round"])),
            exchange=int(str(told["exchange"])),
            amount=amount,
            began_s=time.time() - server_s - body_s,
            body_s=body_s,
            queue_s=float(str(told["queue_seconds"])),
            compute_s=compute_s,
            ledger_s=float(str(told["ledger_seconds"])),
            server_s=server_s,
            bytes_in=bytes_of(asked.inputs),
            bytes_out=bytes_of(answer.outputs),
            state=str(told["state"]) if "state" in told else None,
            told={name: value for name, value in told.items() if name not in OWN_WORDS},
        )
        witness.exchanged(seen)

    def _batch_max(self, amount: int) -> int:
        """Pieces of a batch; 0 where they come one by one."""
        part = self.market.part
        specs = (*part.expects(amount, 0), *part.returns(amount))
        return BATCH_MAX if self.market.unpaid.offered and is_batched(specs) else 0


OWN_WORDS = frozenset(
    (
        "finished", "state", "audited", "units", "paid_microcredits", "pending_microcredits",
        "repeated", "from_books", "audits", "queue_seconds", "ledger_seconds", "exchange",
        "compute_seconds", "server_seconds", "unpaid",
    )
)  # fmt: skip
"""Parameters of an answer that are the market's; all others are the job's."""


def outcome(settled: Settlement) -> dict[str, object]:
    """What has become of a piece's payment, for the device."""
    return {
        "state": settled.state.value,
        "audited": settled.audited,
        "units": settled.units,
        "paid_microcredits": settled.paid_microcredits,
        "pending_microcredits": (
            settled.microcredits if settled.state is PieceState.PENDING else 0
        ),
        "repeated": settled.repeated,
    }


# ---------------------------------------------------------------- private


def _progress(settlement: Settlement | None) -> dict[str, object]:
    """Whether the piece is finished, and then what has become of its payment."""
    if settlement is None:
        return {"finished": False}
    return {"finished": True, **outcome(settlement)}


def _wanted(
    outputs: Tensors, specs: Sequence[TensorSpec], codec: Codec, wanted: Sequence[str] | None
) -> Tensors:
    """The tensors that are wanted, each with those that its codec packs it into."""
    if wanted is None:
        return outputs
    names = set(wanted)
    for spec in specs:
        if spec.name in names:
            names |= {each.name for each in codec.packed([spec])}
    return {name: value for name, value in outputs.items() if name in names}
