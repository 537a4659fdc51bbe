"""What crosses the wire between server and client, and how it is read back.

Messages travel as flat fields of numbers, text and bytes, which any transport can carry. A
question says which part of the work its amounts are (see `work`); an order says all of it. The
other side may be anybody: `read_answer` and `read_update` believe nothing that they have not
checked, and raise InputError for the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepact.credits import PRICE_CREDITS_MAX, REWARD_MICROCREDITS_MAX, in_microcredits
from edgepact.engagement import Answer, Item, Question
from edgepact.errors import InputError
from edgepact.fields import check_choice, check_list, check_number, check_whole, shown
from edgepact.training.federated.work import EPOCHS_MAX, PRICED, Priced, RoundWork, Variable

Value = int | float | str | bytes | list[int] | list[float]
Fields = Mapping[str, Value]

QUESTION, TRAIN = "question", "train"
"""The two kinds of request in a round."""

EXAMPLES_MAX = 10**9
"""Most images a client may claim to hold."""

SECONDS_MAX = 1e9
"""Longest time a client may claim to have worked."""

LOSS_MAX = 1e6
"""Largest loss a client may claim."""

CLAIMS = ("examples", "compute_s", "upload_s", "loss")
"""What a client states of itself beside its answer: images it holds, seconds of training and of
sending, and the root mean square of its images' losses, which it has once it has trained."""

NONE = -1
"""Stands for None: no item taken, no bid, no price, no loss yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One client's work in a round; the weights to start from travel beside it.

    Attributes:
        round: counted from 1.
        nonce: a word of the server's that an update must repeat; new in every try of a round.
        rate: to compress the update at.
        reward_microcredits: what an accepted update earns.
        epochs: to train before.
    """

    round: int
    nonce: str
    rate: float
    reward_microcredits: int
    epochs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A client's compressed change of the weights.

    Attributes:
        round, nonce, rate: of the order it answers.
        examples: images it was learnt from, a claim.
        payload: a message of `compression.at_rate(rate)`.
    """

    round: int
    nonce: str
    rate: float
    examples: int
    payload: bytes


def question_fields(question: Question, round: int, variable: Variable) -> dict[str, Value]:
    """A question of a round."""
    price = question.price_microcredits
    return {
        "round": round,
        "priced": variable.priced,
        "rate": variable.rate,
        "menu_amount": [item.amount for item in question.menu],
        "menu_reward_microcredits": [item.reward_microcredits for item in question.menu],
        "bid_amounts": list(question.bid_amounts),
        "price_microcredits": NONE if price is None else price,
    }


def read_question(fields: Fields) -> tuple[Question, Variable]:
    """The question in a server's message, and what its amounts are.

    Raises:
        InputError: it is none.
    """
    amounts, rewards = fields.get("menu_amount"), fields.get("menu_reward_microcredits")
    bid_amounts = fields.get("bid_amounts")
    if not (isinstance(amounts, list) and isinstance(rewards, list)) or len(amounts) != len(
        rewards
    ):
        found = "others"
        raise InputError("question", "menu_amount", "as many amounts as rewards", found)
    if not isinstance(bid_amounts, list):
        raise InputError("question", "bid_amounts", "a list", shown(bid_amounts))
    price = _whole(fields, "price_microcredits", NONE, in_microcredits(PRICE_CREDITS_MAX))
    word = check_choice("question", "priced", fields.get("priced"), PRICED)
    priced: Priced = "epochs" if word == "epochs" else "rate"
    return Question(
        menu=tuple(
            Item(amount=float(amount), reward_microcredits=int(reward))
            for amount, reward in zip(amounts, rewards, strict=True)
        ),
        bid_amounts=tuple(float(amount) for amount in bid_amounts),
        price_microcredits=None if price == NONE else price,
    ), Variable(priced=priced, rate=_number(fields, "rate", 0.0, 1.0))


def answer_fields(answer: Answer) -> dict[str, Value]:
    """An answer to a question."""
    claims = answer.claims
    return {
        "item": NONE if answer.item is None else answer.item,
        "bids_microcredits": [NONE if bid is None else bid for bid in answer.bids_microcredits],
        "examples": int(claims.get("examples", 1)),
        "compute_s": claims.get("compute_s", 0.0),
        "upload_s": claims.get("upload_s", 0.0),
        "loss": claims.get("loss", float(NONE)),
    }


def read_answer(fields: Fields, question: Question) -> Answer:
    """The answer in a client's message.

    Raises:
        InputError: it is no answer to this question.
    """
    item = _whole(fields, "item", NONE, len(question.menu) - 1)
    bids = fields.get("bids_microcredits")
    count = len(question.bid_amounts)
    bids = check_list("answer", "bids_microcredits", bids, of="bids", least=count, most=count)
    for at, bid in enumerate(bids):
        field = f"bids_microcredits[{at}]"
        check_whole("answer", field, bid, least=NONE, most=REWARD_MICROCREDITS_MAX)
    loss = _number(fields, "loss", float(NONE), LOSS_MAX)
    claims: dict[str, float] = {
        "examples": float(_whole(fields, "examples", 1, EXAMPLES_MAX)),
        "compute_s": _number(fields, "compute_s", 0.0, SECONDS_MAX),
        "upload_s": _number(fields, "upload_s", 0.0, SECONDS_MAX),
    }
    return Answer(
        item=None if item == NONE else item,
        bids_microcredits=tuple(None if bid == NONE else int(bid) for bid in bids),
        claims=claims if loss < 0.0 else claims | {"loss": loss},
    )


def order_fields(order: Order) -> dict[str, Value]:
    """An order to train."""
    return {
        "round": order.round,
        "nonce": order.nonce,
        "rate": order.rate,
        "epochs": order.epochs,
        "reward_microcredits": order.reward_microcredits,
    }


def read_order(fields: Fields) -> Order:
    """The order in a server's message.

    Raises:
        InputError: it is none.
    """
    nonce = fields.get("nonce")
    if not isinstance(nonce, str):
        raise InputError("order", "nonce", "a word", shown(nonce))
    work = RoundWork(
        rate=_number(fields, "rate", 0.0, 1.0), epochs=_whole(fields, "epochs", 1, EPOCHS_MAX)
    )
    return Order(
        round=_whole(fields, "round", 1, 10**9),
        nonce=nonce,
        rate=work.rate,
        epochs=work.epochs,
        reward_microcredits=_whole(fields, "reward_microcredits", 0, REWARD_MICROCREDITS_MAX),
    )


def update_fields(update: Update) -> dict[str, Value]:
    """An update."""
    return {
        "round": update.round,
        "nonce": update.nonce,
        "rate": update.rate,
        "examples": update.examples,
        "payload": update.payload,
    }


def read_update(fields: Fields) -> Update:
    """The update in a client's message; its payload is not looked into.

    Raises:
        InputError: a field is missing or of another kind.
    """
    nonce, payload = fields.get("nonce"), fields.get("payload")
    if not isinstance(nonce, str) or len(nonce) > 64:
        raise InputError("update", "nonce", "a word of at most 64 letters", shown(nonce))
    if not isinstance(payload, bytes):
        raise InputError("update", "payload", "bytes", shown(payload))
    return Update(
        round=_whole(fields, "round", 1, 10**9),
        nonce=nonce,
        rate=_number(fields, "rate", 0.0, 1.0),
        examples=_whole(fields, "examples", 1, EXAMPLES_MAX),
        payload=payload,
    )


def _whole(fields: Fields, name: str, least: int, most: int) -> int:
    return check_whole("message", name, fields.get(name), least=least, most=most)


def _number(fields: Fields, name: str, least: float, most: float) -> float:
    # Measured, so as small as it likes.
    return check_number("message", name, fields.get(name), least=least, most=most, sized=False)
