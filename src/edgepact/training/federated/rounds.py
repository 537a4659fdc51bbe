"""The server's rounds: ask, engage, let train, judge, aggregate, keep, pay.

A round is kept before it is paid. The checkpoint of round r holds the new weights *and* what
round r owes to whom; only then does the ledger pay, job by job, each known by `round-client`. So
a server that is killed

- before the checkpoint of r is in place has promised nothing for r: the round is played again,
- after it pays what is left when it starts again, and what was paid already is known by its job.

No payment is lost or repeated, and no update is in the weights without its payment.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from edgepact.engagement import (
    Answer,
    Engagement,
    Finished,
    Item,
    Learning,
    Question,
    check_engaged,
)
from edgepact.errors import InputError, MarketError
from edgepact.market.ledger import Ledger, Work
from edgepact.training.federated.aggregate import Aggregate, Model, mean_update
from edgepact.training.federated.judgement import Accepted, Bounds, judged
from edgepact.training.federated.messages import (
    QUESTION,
    TRAIN,
    Order,
    order_fields,
    question_fields,
    read_answer,
)
from edgepact.training.federated.options import CLIENTS_MAX, ROUNDS_MAX
from edgepact.training.federated.transport import Reply, Request, Transport, failure_of
from edgepact.training.federated.work import RATES, RoundWork, Variable

ASKED_NOTHING = Question()

SILENT_TRIES_MAX = 3
"""A round in which nobody answers is none: it is tried again, so often at most."""


@runtime_checkable
class Measured(Protocol):
    """What the rounds need to know of a task."""

    @property
    def size(self) -> int:
        """Weights of the model, n."""
        ...

    def accuracy(self, weights: Any) -> float:
        """Share of the test images told right."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsConfig:
    """How rounds are played.

    Attributes:
        rounds: how many, in all.
        variable: what the mechanism prices.
        budget_microcredits: most to promise in a round; None for no limit.
        examples_max, norm_max: see `Bounds`.
        question_timeout_s, train_timeout_s: how long to wait for replies.
    """

    rounds: int
    examples_max: int
    norm_max: float
    variable: Variable = RATES
    budget_microcredits: int | None = None
    question_timeout_s: float = 120.0
    train_timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= ROUNDS_MAX:
            raise InputError("train", "rounds", f"1 to {ROUNDS_MAX}", self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one engaged client in a round.

    Attributes:
        client: its name.
        rate, epochs, reward_microcredits: as assigned.
        bytes_up: of its payload, if it was accepted.
        examples: its weight in the mean; 0 if rejected.
        digest: of the payload, hexadecimal; empty if rejected.
        rejected: why it is unpaid; empty if accepted.
    """

    client: str
    rate: float
    reward_microcredits: int
    bytes_up: int = 0
    examples: int = 0
    digest: str = ""
    rejected: str = ""
    epochs: int = 1

    @property
    def work(self) -> RoundWork:
        """What it was to do."""
        return RoundWork(rate=self.rate, epochs=self.epochs)

    @property
    def paid_microcredits(self) -> int:
        """What it earned."""
        return 0 if self.rejected else self.reward_microcredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One finished round.

    Attributes:
        number: counted from 1; 0 is the start, before anybody trained.
        accuracy: of the weights after it.
        asked, answered: clients.
        deliveries: of the engaged clients, by name.
        seconds: from the question to the accuracy.
        question: what was asked.
        answers: what was heard, by name.
    """

    number: int
    accuracy: float
    asked: int = 0
    answered: int = 0
    deliveries: tuple[Delivery, ...] = ()
    seconds: float = 0.0
    question: Question = ASKED_NOTHING
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def accepted(self) -> tuple[Delivery, ...]:
        """What was used and paid."""
        return tuple(each for each in self.deliveries if not each.rejected)

    @property
    def bytes_up(self) -> int:
        """Bytes of all accepted updates."""
        return sum(each.bytes_up for each in self.deliveries)

    @property
    def paid_microcredits(self) -> int:
        """Paid in the round."""
        return sum(each.paid_microcredits for each in self.deliveries)

    def as_json(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Round":
        """What `as_json` gave; of an earlier version, without question and answers."""
        deliveries = tuple(Delivery(**each) for each in values["deliveries"])
        asked = values.get("question", {"menu": (), "bid_amounts": ()})
        question = Question(
            menu=tuple(Item(**item) for item in asked["menu"]),
            bid_amounts=tuple(asked["bid_amounts"]),
            price_microcredits=asked.get("price_microcredits"),
        )
        answers = {
            name: Answer(
                item=said["item"],
                bids_microcredits=tuple(said["bids_microcredits"]),
                claims=said["claims"],
            )
            for name, said in values.get("answers", {}).items()
        }
        heard = {"deliveries": deliveries, "question": question, "answers": answers}
        return cls(**{**values, **heard})

    def finished(self, variable: Variable) -> Finished:
        """What a mechanism may learn of it."""
        return Finished(
            number=self.number,
            question=self.question,
            answers=self.answers,
            assigned={
                each.client: Item(
                    amount=variable.amount(each.work),
                    reward_microcredits=each.reward_microcredits,
                )
                for each in self.deliveries
            },
            units={each.client: 1 for each in self.accepted},
            paid_microcredits={each.client: each.paid_microcredits for each in self.accepted},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Progress:
    """Where a federation stands: all that a restart needs.

    Attributes:
        model: weights and moments.
        history: round 0 (the start) and every finished round, in order.
    """

    model: Model
    history: tuple[Round, ...]

    @property
    def round(self) -> int:
        """Finished rounds."""
        return self.history[-1].number


Keep = Callable[[Progress], None]


def play(
    progress: Progress,
    *,
    transport: Transport,
    engagement: Engagement,
    aggregate: Aggregate,
    task: Measured,
    config: RoundsConfig,
    keep: Keep,
    books: Ledger,
    model: str = "federated",
    report: Callable[[Round], None] = lambda finished: None,
) -> Progress:
    """Plays the rounds that are left.

    Args:
        progress: where to go on; what its last round owes is paid first.
        transport: to the clients.
        engagement: who trains, for what.
        aggregate: how updates move the weights.
        task: size and accuracy.
        config: how.
        keep: makes a progress durable before it returns.
        books: pays.
        model: name of what is trained, for the ledger.
        report: told of each finished and paid round.

    Raises:
        MarketError: nobody answered, several times in a row, or the ledger is another run's.
        InputError: a mechanism engaged somebody it may not, or beyond the budget.
    """
    _settle_last(books, progress, model)
    if isinstance(engagement, Learning):
        for finished in progress.history[1:]:
            engagement.observe(finished.finished(config.variable))
    silent = 0
    while progress.round < config.rounds:
        following, failure = _next(progress, transport, engagement, aggregate, task, config)
        finished = following.history[-1]
        if not finished.answered:
            silent += 1
            if silent == SILENT_TRIES_MAX:
                found = failure or "none to be found"
                raise MarketError(f"no client answered, {silent} times in a row ({found})")
            continue
        silent, progress = 0, following
        keep(progress)
        pay(books, finished, model)
        if isinstance(engagement, Learning):
            engagement.observe(finished.finished(config.variable))
        report(finished)
    return progress


def pay(books: Ledger, finished: Round, model: str) -> None:
    """Pays the accepted updates of a round and closes it. Again, it changes nothing."""
    if finished.number == 0:
        return
    books.open_work_round(finished.number, model=model)
    for delivery in finished.accepted:
        books.admit(delivery.client)
        books.pay_work(
            Work(
                device=delivery.client,
                job=job_of(finished.number, delivery.client),
                round=finished.number,
                microcredits=delivery.reward_microcredits,
                digest=bytes.fromhex(delivery.digest),
            )
        )
    books.close_round(finished.number)


def job_of(round: int, client: str) -> str:
    """The id of a client's job in a round."""
    return f"{round}-{client}"


def _settle_last(books: Ledger, progress: Progress, model: str) -> None:
    known = books.rounds(last=1)
    paid = known[0].number if known else 0
    if not progress.round - 1 <= paid <= progress.round:
        raise MarketError(
            f"the ledger ends with round {paid} and the checkpoint with round {progress.round}: "
            f"one of them is of another run"
        )
    pay(books, progress.history[-1], model)


def _next(
    progress: Progress,
    transport: Transport,
    engagement: Engagement,
    aggregate: Aggregate,
    task: Measured,
    config: RoundsConfig,
) -> tuple[Progress, str]:
    """One round more, neither kept nor paid yet, and why somebody did not answer."""
    began, number = time.monotonic(), progress.round + 1
    names = list(transport.clients())[:CLIENTS_MAX]
    question = engagement.question(number)
    answers, failure = _asked(transport, names, question, number, config)
    engaged = engagement.engage(number, question, answers)
    _expect_allowed(engaged, answers, config)
    orders = {name: _order(number, item, config) for name, item in sorted(engaged.items())}
    requests = {
        name: Request(fields=order_fields(order), weights=progress.model.weights)
        for name, order in orders.items()
    }
    replies = transport.exchange(TRAIN, requests, config.train_timeout_s) if requests else []
    seen = {bytes.fromhex(each.digest) for past in progress.history for each in past.accepted}
    bounds = Bounds(examples_max=config.examples_max, norm_max=config.norm_max)
    verdicts = _verdicts(replies, orders, task.size, bounds, seen)
    used = [verdict for verdict in verdicts.values() if isinstance(verdict, Accepted)]
    model = progress.model
    if used:
        mean = mean_update([each.vector for each in used], [each.examples for each in used])
        model = aggregate.move(model, mean)
    finished = Round(
        number=number,
        accuracy=task.accuracy(model.weights) if used else progress.history[-1].accuracy,
        asked=len(names),
        answered=len(answers),
        deliveries=tuple(_delivery(name, orders[name], verdicts[name]) for name in orders),
        seconds=time.monotonic() - began,
        question=question,
        answers=answers,
    )
    return Progress(model=model, history=(*progress.history, finished)), failure


def _order(round: int, item: Item, config: RoundsConfig) -> Order:
    work = config.variable.work(item.amount)
    return Order(
        round=round,
        nonce=secrets.token_hex(8),
        rate=work.rate,
        epochs=work.epochs,
        reward_microcredits=item.reward_microcredits,
    )


def _asked(
    transport: Transport, names: list[str], question: Question, round: int, config: RoundsConfig
) -> tuple[dict[str, Answer], str]:
    """The usable answers, and the last reason why one was not."""
    request = Request(fields=question_fields(question, round, config.variable))
    requests = dict.fromkeys(names, request)
    replies = transport.exchange(QUESTION, requests, config.question_timeout_s)
    answers, failure, asked = {}, "", set(names)
    for reply in replies:
        if reply.fields is None:
            failure = reply.failure
        elif reply.client in asked:
            asked.remove(reply.client)  # its first reply counts
            try:
                answers[reply.client] = read_answer(reply.fields, question)
            except InputError as error:
                failure = failure_of(error)
    return answers, failure


def _expect_allowed(
    engaged: Mapping[str, Item], answers: Mapping[str, Answer], config: RoundsConfig
) -> None:
    variable = config.variable
    check_engaged(engaged, answers, amount_max=variable.amount_max, whole=variable.whole)
    promised = sum(item.reward_microcredits for item in engaged.values())
    if config.budget_microcredits is not None and promised > config.budget_microcredits:
        expected = f"at most {config.budget_microcredits} micro-credits a round"
        raise InputError("engagement", "engage", expected, promised)


def _verdicts(
    replies: list[Reply],
    orders: Mapping[str, Order],
    size: int,
    bounds: Bounds,
    seen: set[bytes],
) -> dict[str, Accepted | str]:
    """What becomes of each engaged client: its update, or the reason why there is none."""
    verdicts: dict[str, Accepted | str] = {}
    for reply in replies:
        if reply.client not in orders or reply.client in verdicts:
            continue  # nobody's order, or a second reply: the first one counts
        if reply.fields is None:
            verdicts[reply.client] = reply.failure or "no update"
            continue
        try:
            verdict = judged(reply.fields, orders[reply.client], size, bounds, seen)
        except InputError as error:
            verdicts[reply.client] = failure_of(str(error))
            continue
        verdicts[reply.client] = verdict
        seen.add(verdict.digest)
    for name in orders:
        verdicts.setdefault(name, "no reply in time")
    # In the order of the names and not of arrival, so that sums do not depend on the weather.
    return {name: verdicts[name] for name in orders}


def _delivery(client: str, order: Order, verdict: Accepted | str) -> Delivery:
    common = {
        "client": client,
        "rate": order.rate,
        "epochs": order.epochs,
        "reward_microcredits": order.reward_microcredits,
    }
    if isinstance(verdict, str):
        return Delivery(**common, rejected=verdict)  # type: ignore[arg-type]
    return Delivery(
        **common,  # type: ignore[arg-type]
        bytes_up=verdict.payload_bytes,
        examples=verdict.examples,
        digest=verdict.digest.hex(),
    )


def start(task: Measured, aggregate: Aggregate, weights: np.ndarray) -> Progress:
    """Round 0: the weights before anybody trained."""
    first = Round(number=0, accuracy=task.accuracy(weights))
    return Progress(model=aggregate.start(weights), history=(first,))
