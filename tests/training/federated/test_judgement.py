"""What clients send is believed only as far as it was checked."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.efficiency.compression import Identity, at_rate
from edgepact.engagement import Answer, Item, Question
from edgepact.errors import InputError
from edgepact.training.federated.judgement import Accepted, Bounds, judged
from edgepact.training.federated.messages import (
    Fields,
    Order,
    Update,
    answer_fields,
    order_fields,
    question_fields,
    read_answer,
    read_order,
    read_question,
    update_fields,
)
from edgepact.training.federated.work import Variable

SIZE = 300
BOUNDS = Bounds(examples_max=100, norm_max=500.0)  # an epoch; orders are of two
NORM_MAX = 1000.0
VALUES = st.one_of(
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=64),
    st.booleans(),
    st.lists(st.integers(), max_size=4),
    st.lists(st.floats(), max_size=4),
)


def order(rate: float = 0.1) -> Order:
    return Order(round=3, nonce="word", rate=rate, reward_microcredits=7, epochs=2)


def sent(rate: float = 0.1, vector: np.ndarray | None = None, **changes: Any) -> Fields:
    if vector is None:
        vector = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    payload = at_rate(rate).encode(vector, np.random.default_rng(1))
    update = Update(round=3, nonce="word", rate=rate, examples=50, payload=payload)
    return {**update_fields(update), **changes}


def judge(fields: Fields, rate: float = 0.1, seen: frozenset[bytes] = frozenset()) -> Accepted:
    return judged(fields, order(rate), SIZE, BOUNDS, seen)


@given(
    rate=st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.9, 1.0]),
    scale=st.sampled_from([0.0, 1e-30, 1.0, 100.0, 1e30]),
    seed=st.integers(0, 1000),
)
def test_what_was_ordered_is_accepted(rate: float, scale: float, seed: int) -> None:
    vector = (scale * np.random.default_rng(seed).normal(size=SIZE)).astype(np.float32)
    accepted = judge(sent(rate, vector), rate)
    payload = sent(rate, vector)["payload"]
    assert isinstance(payload, bytes)
    assert accepted.digest == hashlib.sha256(payload).digest()
    assert accepted.payload_bytes == len(payload) <= 4 * SIZE * rate + 64
    decoded = at_rate(rate).decode(payload, SIZE)
    assert np.linalg.norm(accepted.vector) <= NORM_MAX * (1 + 1e-5)
    shortened = min(1.0, NORM_MAX / max(float(np.linalg.norm(decoded.astype(float))), 1e-9))
    assert accepted.vector == pytest.approx(decoded * shortened, rel=1e-4, abs=1e-4)


@given(name=st.sampled_from(["round", "nonce", "rate", "examples", "payload"]), value=VALUES)
def test_a_field_of_anything_is_accepted_or_refused_in_words(name: str, value: Any) -> None:
    try:
        accepted = judge({**sent(), name: value})
    except InputError:
        return
    assert np.isfinite(accepted.vector).all()
    assert 1 <= accepted.examples <= BOUNDS.examples_max


@given(payload=st.binary(max_size=200), rate=st.sampled_from([0.05, 0.1, 1.0]))
def test_garbage_is_refused(payload: bytes, rate: float) -> None:
    with pytest.raises(InputError):
        judge(sent(rate, payload=payload), rate)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_stays_finite(at: int, bit: int) -> None:
    whole = sent()["payload"]
    assert isinstance(whole, bytes)
    payload = bytearray(whole)
    payload[at % len(payload)] ^= 1 << bit
    try:
        accepted = judge(sent(payload=bytes(payload)))
    except InputError:
        return
    assert np.isfinite(accepted.vector).all()
    assert np.linalg.norm(accepted.vector) <= NORM_MAX * (1 + 1e-5)


def test_faults_are_told_apart() -> None:
    poisoned = np.zeros(SIZE, np.float32)
    raw = bytearray(Identity().encode(poisoned, np.random.default_rng(0)))
    raw[-4:] = np.float32(np.nan).tobytes()
    longer = np.ones(SIZE + 1, np.float32)
    for fields, rate, reason in (
        (sent(1.0, payload=bytes(raw)), 1.0, "finite"),
        (sent(0.1, longer), 0.1, "header"),
        (sent(0.1, payload=bytes(4 * SIZE)), 0.1, "at most"),
        (sent(0.2), 0.1, "rate"),
        (sent(round=2), 0.1, "round"),
        (sent(nonce="old"), 0.1, "round"),
    ):
        with pytest.raises(InputError, match=reason):
            judge(fields, rate)
    seen = frozenset([judge(sent()).digest])
    with pytest.raises(InputError, match="sent before"):
        judge(sent(), seen=seen)


def test_claims_and_lengths_are_bounded() -> None:
    accepted = judge(sent(1.0, np.full(SIZE, 1e6, np.float32), examples=10**9), 1.0)
    assert accepted.examples == BOUNDS.examples_max
    assert np.linalg.norm(accepted.vector) == pytest.approx(NORM_MAX)


RATES = st.lists(st.floats(0.001, 1.0), max_size=3)
MENUS = st.lists(st.tuples(st.floats(0.001, 1.0), st.integers(0, 10**12)), max_size=4)


def asked(menu: list[tuple[float, int]], rates: list[float]) -> Question:
    items = tuple(Item(amount=amount, reward_microcredits=reward) for amount, reward in menu)
    return Question(menu=items, bid_amounts=tuple(rates))


@given(menu=MENUS, rates=RATES, data=st.data())
def test_messages_come_back_as_they_went(
    menu: list[tuple[float, int]], rates: list[float], data: st.DataObject
) -> None:
    question = asked(menu, rates)
    for variable in (Variable(), Variable(priced="epochs", rate=0.25)):
        fields = question_fields(question, 1, variable)
        assert read_question(fields) == (question, variable)
    bids = tuple(
        data.draw(st.one_of(st.none(), st.integers(0, 10**9))) for _ in question.bid_amounts
    )
    item = data.draw(st.sampled_from([None, *range(len(question.menu))]))
    claims = {"examples": 3.0, "compute_s": 0.5, "upload_s": 0.0, "loss": 1.5}
    answer = Answer(item=item, bids_microcredits=bids, claims=claims)
    assert read_answer(answer_fields(answer), question) == answer
    assert read_order(order_fields(order())) == order()


@given(
    menu=MENUS,
    rates=RATES,
    fields=st.dictionaries(st.text(max_size=20), VALUES, max_size=5),
)
def test_answers_of_anything_are_refused_in_words(
    menu: list[tuple[float, int]], rates: list[float], fields: dict[str, Any]
) -> None:
    question = asked(menu, rates)
    good = answer_fields(Answer(bids_microcredits=(1,) * len(question.bid_amounts)))
    for mixed in (fields, {**good, **dict.fromkeys(good, next(iter(fields.values()), 0))}):
        try:
            answer = read_answer(mixed, question)
        except InputError:
            continue
        assert answer.item is None or 0 <= answer.item < len(question.menu)
        assert len(answer.bids_microcredits) == len(question.bid_amounts)
