"""The market's own messages: enrolment, offer, answer, assignment, as small JSON objects.

An offer carries the question of its round. What follows from less is sent as less: a posted price
as its price and the number of steps, a menu as its items, a call for bids as the amounts.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgepact.credits import MICRO, PRICE_CREDITS_MAX, REWARD_MICROCREDITS_MAX
from edgepact.engagement import (
    AMOUNT_MAX,
    ITEMS_MAX,
    NOTHING,
    UNITS_PER_ROUND_MAX,
    Answer,
    Item,
    Question,
    posted,
)
from edgepact.errors import InputError, shown
from edgepact.fields import check_list, check_number, check_table, check_text, check_whole
from edgepact.work import Json, Model

NAME_CHARS_MAX = 64
TOKEN_CHARS_MAX = 256
PIECE_CHARS_MAX = 64
CODECS_MAX = 16
CLAIMS_MAX = 16
CLAIM_MAX = 1e18

MESSAGE_BYTES_MAX = 64 * 1024
"""Largest JSON that a device sends: market messages and headers of inference requests."""

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""Largest JSON that a server answers: offers list the pieces done."""

PACE_S_MAX = 1e6
"""Longest time between two pieces that a device may show."""

SETTINGS_MAX = 32
"""Most settings of a job that a server tells."""

SETTING_CHARS_MAX = 1024
SETTING_MAX = 1e18

JSON_OBJECT = "a JSON object"
JSON_TYPE = "application/json"

SESSION_LOST = "session lost"
"""The `reason` in a refusal that tells a device to begin a piece again."""

REPEATED = "repeated"
"""The `reason` in a refusal that tells a device that the same work was delivered before."""

NOT_ASKED = "not asked"
"""The `reason` in a refusal that tells a device that no buyer has asked for a piece."""

NO_BUDGET = "no budget"
"""The `reason` in a refusal that tells a device that nobody can be promised more just now."""

STANDBY = "standby"
"""The `reason` in a refusal of a server that stands by: another one serves the market."""

AUDITS_MAX = 100_000
COMMITMENT_BYTES = 32


# ---------------------------------------------------------------- enrolment


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRequest:
    """A device asks for a token of its own, once, with the operator's one-time token."""

    token: str
    name: str

    def __post_init__(self) -> None:
        check_text("enrol", "token", self.token, chars_max=TOKEN_CHARS_MAX)
        check_name("enrol", self.name)

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {"token": self.token, "name": self.name}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> "EnrolRequest":
        """Reads the message.

        Raises:
            InputError: a field is missing or impossible.
        """
        return cls(
            token=check_text("enrol", "token", body.get("token"), chars_max=TOKEN_CHARS_MAX),
            name=check_name("enrol", body.get("name")),
        )


# ---------------------------------------------------------------- questions and answers


def question_json(question: Question) -> dict[str, object]:
    """A question as a JSON object, for wires and for the ledger."""
    if question.price_microcredits is not None:
        return {
            "price_microcredits": question.price_microcredits,
            "steps": len(question.menu),
            "step": question.menu[-1].amount if question.menu else 1.0,
        }
    told: dict[str, object] = {}
    if question.menu:
        told["menu"] = [_item_json(item) for item in question.menu]
    if question.bid_amounts:
        told["bid_amounts"] = list(question.bid_amounts)
    return told


def read_question(source: str, value: object) -> Question:
    """A question as `question_json` has written it.

    Raises:
        InputError: a field is missing or impossible.
    """
    body = check_table(source, "question", value, kind=JSON_OBJECT)
    if "price_microcredits" in body:
        return posted(
            check_whole(
                source,
                "price_microcredits",
                body["price_microcredits"],
                least=0,
                most=int(PRICE_CREDITS_MAX * MICRO),
            ),
            check_whole(source, "steps", body.get("steps"), least=1, most=ITEMS_MAX),
            check_number(source, "step", body.get("step"), above=0.0, most=AMOUNT_MAX),
        )
    menu = check_list(source, "menu", body.get("menu", []), of="items", most=ITEMS_MAX)
    amounts = check_list(
        source, "bid_amounts", body.get("bid_amounts", []), of="amounts", most=ITEMS_MAX
    )
    return Question(
        menu=tuple(_read_item(source, f"menu[{at}]", item) for at, item in enumerate(menu)),
        bid_amounts=tuple(
            check_number(source, f"bid_amounts[{at}]", amount, above=0.0, most=AMOUNT_MAX)
            for at, amount in enumerate(amounts)
        ),
    )


def answer_json(answer: Answer) -> dict[str, object]:
    """An answer as a JSON object, for wires and for the ledger."""
    told: dict[str, object] = {"item": answer.item}
    if answer.bids_microcredits:
        told["bids_microcredits"] = list(answer.bids_microcredits)
    if answer.claims:
        told["claims"] = dict(answer.claims)
    return told


def read_answer(source: str, body: Mapping[str, object]) -> Answer:
    """An answer as `answer_json` has written it; whether it fits its question is asked elsewhere.

    Raises:
        InputError: a field is impossible.
    """
    item = body.get("item")
    bids = check_list(
        source, "bids_microcredits", body.get("bids_microcredits", []), of="bids", most=ITEMS_MAX
    )
    claims = check_table(source, "claims", body.get("claims", {}), kind=JSON_OBJECT)
    if len(claims) > CLAIMS_MAX:
        raise InputError(source, "claims", f"at most {CLAIMS_MAX}", f"{len(claims)}")
    return Answer(
        item=None
        if item is None
        else check_whole(source, "item", item, least=0, most=ITEMS_MAX - 1),
        bids_microcredits=tuple(
            None
            if bid is None
            else check_whole(
                source, f"bids_microcredits[{at}]", bid, least=0, most=REWARD_MICROCREDITS_MAX
            )
            for at, bid in enumerate(bids)
        ),
        claims={
            check_text(source, "claims", name, chars_max=NAME_CHARS_MAX): check_number(
                source, f"claims.{name}", claim, least=-CLAIM_MAX, most=CLAIM_MAX
            )
            for name, claim in claims.items()
        },
    )


# ---------------------------------------------------------------- offers and commitments


Standing = Literal["asked", "waiting", "assigned"]
"""Where a device stands in a round: its answer is awaited; it is given and others' are awaited; or
it is known what the device works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the server offers for one round.

    Attributes:
        round: number of the round, from 1.
        question: what everybody is asked.
        job: name of the job.
        model: what both sides have to hold alike; the cut at L is called `<model>-cut-<L>`.
        units_per_round: units of work the server takes from each device in this round.
        commit_timeout_s: time left to answer, seconds; more if nobody has answered yet.
        codecs: names of the codecs the server takes, its favourite first.
        repeat_rounds: the same work is not taken twice within so many rounds; 0 takes it.
        standing: of this device (it may have restarted).
        assigned: what it works for what, once that is known.
        pieces_done: units of this device's pieces of this round that the server knows, by id.
    """

    round: int
    question: Question
    job: str
    model: Model
    units_per_round: int
    commit_timeout_s: float
    codecs: tuple[str, ...]
    repeat_rounds: int = 0
    standing: Standing = "asked"
    assigned: Item | None = None
    pieces_done: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {
            "state": "offer",
            "round": self.round,
            "question": question_json(self.question),
            "job": self.job,
            "model": self.model.name,
            "amount_max": self.model.amount_max,
            "digest": self.model.digest,
            "units_per_round": self.units_per_round,
            "commit_timeout_s": self.commit_timeout_s,
            "codecs": list(self.codecs),
            "repeat_rounds": self.repeat_rounds,
            "standing": self.standing,
            "assigned": None if self.assigned is None else _item_json(self.assigned),
            "pieces_done": dict(self.pieces_done),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> "Offer":
        """Reads the message.

        Raises:
            InputError: a field is missing or impossible.
        """
        source = "offer"
        digest = body.get("digest")
        if digest != "":
            check_text(source, "digest", digest, chars_max=2 * NAME_CHARS_MAX)
        done = check_table(source, "pieces_done", body.get("pieces_done"), kind=JSON_OBJECT)
        assigned = read_assigned(source, body.get("assigned"))
        standing = _standing(source, body.get("standing"), assigned)
        return cls(
            round=check_round(source, body.get("round")),
            question=read_question(source, body.get("question")),
            job=check_text(source, "job", body.get("job"), chars_max=NAME_CHARS_MAX),
            model=Model(
                name=check_text(source, "model", body.get("model"), chars_max=4 * NAME_CHARS_MAX),
                amount_max=check_whole(
                    source, "amount_max", body.get("amount_max"), least=1, most=int(AMOUNT_MAX)
                ),
                digest=str(digest),
            ),
            units_per_round=check_whole(
                source,
                "units_per_round",
                body.get("units_per_round"),
                least=1,
                most=UNITS_PER_ROUND_MAX,
            ),
            commit_timeout_s=check_number(
                source, "commit_timeout_s", body.get("commit_timeout_s"), least=0.0
            ),
            codecs=tuple(
                check_text(source, "codecs", name, chars_max=NAME_CHARS_MAX)
                for name in check_list(
                    source, "codecs", body.get("codecs"), of="texts", most=CODECS_MAX
                )
            ),
            repeat_rounds=check_whole(
                source, "repeat_rounds", body.get("repeat_rounds", 0), least=0, most=10_000
            ),
            standing=standing,
            assigned=assigned,
            pieces_done={
                check_piece(source, name): check_whole(
                    source, f"pieces_done.{name}", units, least=0, most=UNITS_PER_ROUND_MAX
                )
                for name, units in done.items()
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOffer:
    """Nothing to answer: ask again (`wait`), or the market has ended (`over`)."""

    state: Literal["wait", "over"]

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {"state": self.state}


def read_offer(body: Mapping[str, object]) -> Offer | NoOffer:
    """Reads the answer to a poll for offers.

    Raises:
        InputError: it is neither an offer nor one of the two other answers.
    """
    match body.get("state"):
        case "offer":
            return Offer.from_json(body)
        case "wait":
            return NoOffer(state="wait")
        case "over":
            return NoOffer(state="over")
        case other:
            raise InputError("offer", "state", "'offer', 'wait' or 'over'", shown(other))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """A device's answer to the question of a round, which binds it."""

    round: int
    answer: Answer

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {"round": self.round, **answer_json(self.answer)}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> "CommitRequest":
        """Reads the message.

        Raises:
            InputError: a field is missing or impossible.
        """
        return cls(
            round=check_round("commit", body.get("round")), answer=read_answer("commit", body)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """What a device hears of its answer: what it works for what, or that others are awaited."""

    round: int
    assigned: Item | None

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        standing: Standing = "waiting" if self.assigned is None else "assigned"
        assigned = None if self.assigned is None else _item_json(self.assigned)
        return {"round": self.round, "standing": standing, "assigned": assigned}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> "Commitment":
        """Reads the message.

        Raises:
            InputError: a field is missing or impossible.
        """
        return cls(
            round=check_round("commitment", body.get("round")),
            assigned=read_assigned("commitment", body.get("assigned")),
        )


def read_assigned(source: str, value: object) -> Item | None:
    """What a device works for what, if that is known; amounts are whole in a market.

    Raises:
        InputError: no item, or one of a part of a step.
    """
    if value is None:
        return None
    item = _read_item(source, "assigned", value, least=0.0)
    if item.amount % 1.0:
        raise InputError(source, "assigned.amount", "a whole number", item.amount)
    return item


# ---------------------------------------------------------------- fields


def check_name(source: str, value: object) -> str:
    """A device's name: letters, digits, `.`, `_` and `-`, so that it can stand in accounts and in
    names of files.

    Raises:
        InputError: anything else.
    """
    name = check_text(source, "name", value, chars_max=NAME_CHARS_MAX)
    if not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise InputError(source, "name", "letters, digits, '.', '_' and '-' only", shown(name))
    if name in (".", ".."):
        raise InputError(source, "name", "a name that is not that of a folder", shown(name))
    return name


def read_device(source: str, body: Mapping[str, object]) -> str | None:
    """The name by which the server knows who asks; None where it does not say.

    Raises:
        InputError: it is no name.
    """
    return check_name(source, body["device"]) if "device" in body else None


def check_piece(source: str, value: object) -> str:
    """A piece's id, under which it is paid once: 1 to 64 printable ASCII characters.

    Raises:
        InputError: anything else.
    """
    piece = check_text(source, "id", value, chars_max=PIECE_CHARS_MAX)
    if not (piece.isascii() and piece.isprintable()):
        raise InputError(source, "id", "printable ASCII characters only", shown(piece))
    return piece


def check_commitment(source: str, value: object) -> bytes | None:
    """A digest by which a device has bound itself to a source; None if there is none.

    Raises:
        InputError: no SHA-256 in hexadecimal.
    """
    if value is None:
        return None
    text = check_text(source, "parameters.commitment", value, chars_max=2 * COMMITMENT_BYTES)
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != COMMITMENT_BYTES:
        expected = f"{2 * COMMITMENT_BYTES} hexadecimal digits"
        raise InputError(source, "parameters.commitment", expected, shown(value))
    return digest


def read_audits(source: str, value: object) -> tuple[str, ...]:
    """Ids of pieces whose sources a device is to show, the most urgent first.

    Raises:
        InputError: anything else.
    """
    rows = [
        check_table(source, f"audits[{at}]", each, kind=JSON_OBJECT)
        for at, each in enumerate(
            check_list(source, "audits", value or [], of="audits", most=AUDITS_MAX)
        )
    ]
    left = [check_number(source, "audits.seconds", row.get("seconds"), least=0.0) for row in rows]
    pieces = [check_piece(source, row.get("piece")) for row in rows]
    return tuple(piece for _, piece in sorted(zip(left, pieces, strict=True)))


def read_settings(source: str, value: object) -> dict[str, Json] | None:
    """Settings of the job as a server tells them with the answer to a poll; None if it tells none.

    Whether they can be is the job's to say: it has limits of its own.

    Raises:
        InputError: anything but a few texts, numbers and truth values.
    """
    if value is None:
        return None
    table = check_table(source, "job_settings", value, kind=JSON_OBJECT)
    if len(table) > SETTINGS_MAX:
        raise InputError(source, "job_settings", f"at most {SETTINGS_MAX} of them", len(table))
    found = dict[str, Json]()
    for name, each in table.items():
        field = f"job_settings.{check_text(source, 'job_settings', name, chars_max=NAME_CHARS_MAX)}"
        if isinstance(each, bool):
            found[name] = each
        elif isinstance(each, str):
            found[name] = each and check_text(source, field, each, chars_max=SETTING_CHARS_MAX)
        else:
            check_number(source, field, each, least=-SETTING_MAX, most=SETTING_MAX)
            found[name] = each
    return found


def read_pace(source: str, value: object) -> float | None:
    """Seconds between two pieces that a device may show; None where none are taken.

    Raises:
        InputError: it is no number above 0.
    """
    if value is None:
        return None
    return check_number(source, "show_every_s", value, above=0.0, most=PACE_S_MAX)


def check_round(source: str, value: object) -> int:
    """A round's number.

    Raises:
        InputError: not a whole number from 1.
    """
    return check_whole(source, "round", value, least=1, most=2**53)


def read_object(source: str, body: bytes, bytes_max: int = MESSAGE_BYTES_MAX) -> dict[str, object]:
    """Reads one JSON object (strictly: no NaN, no Infinity, no name twice).

    Raises:
        InputError: too large, no JSON, no object, or one that says something twice.
    """
    if len(body) > bytes_max:
        raise InputError(source, "", f"at most {bytes_max} bytes of JSON", f"{len(body)} bytes")
    try:
        # Of bytes json.loads would guess the encoding; between programs JSON is UTF-8 (RFC 8259).
        value = _READER.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(source, "", "a JSON object", f"no JSON ({error})") from None
    return check_table(source, "", value, kind=JSON_OBJECT)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _refuse_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of two values of one name readers choose differently; nobody is paid by either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"{shown(counts.most_common(1)[0][0])} more than once in an object")
    return found


_READER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repetition)
"""Made once: `json.loads` would make one for each message."""


def _standing(source: str, value: object, assigned: Item | None) -> Standing:
    match value:
        case "asked" | "waiting" if assigned is None:
            return value
        case "assigned" if assigned is not None:
            return value
    expected = "'assigned' with an assignment, 'asked' or 'waiting' without"
    raise InputError(source, "standing", expected, shown(value))


def _item_json(item: Item) -> dict[str, object]:
    return {"amount": item.amount, "reward_microcredits": item.reward_microcredits}


def _read_item(source: str, place: str, value: object, *, least: float | None = None) -> Item:
    body = check_table(source, place, value, kind=JSON_OBJECT)
    above = 0.0 if least is None else None
    item = Item(
        amount=check_number(
            source, f"{place}.amount", body.get("amount"), above=above, least=least, most=AMOUNT_MAX
        ),
        reward_microcredits=check_whole(
            source,
            f"{place}.reward_microcredits",
            body.get("reward_microcredits"),
            least=0,
            most=REWARD_MICROCREDITS_MAX,
        ),
    )
    return NOTHING if item == NOTHING else item
