"""Texts on their way: what ends them, what a round's end leaves of them, who withdraws."""

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.chat.answers import RefusalError
from edgepact.chat.requests import Wish
from edgepact.chat.writing import Spelling, Writing
from edgepact.inference.sampling import Drawn
from edgepact.jobs.text.device import TextDevice
from edgepact.jobs.text.prompts import TextSettings
from edgepact.market.asked import TRIES_MAX, Desk, FullError


def spelled(tokens: list[int]) -> str:
    return bytes(tokens).decode(errors="replace")


@given(text=st.text("abcé€", max_size=30), stops=st.lists(st.text("abc", min_size=1), max_size=3))
def test_a_text_ends_before_the_first_text_that_ends_it(text: str, stops: list[str]) -> None:
    spelling = Spelling(spelled, tuple(stops))
    told = ""
    for token in text.encode():
        told += spelling.add(token)
        # What is told is never taken back, and nothing of what ends it is told.
        assert text.startswith(told)
        assert not any(stop in told for stop in stops)
        if spelling.stopped:
            break
    told += spelling.end()
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert told == text
    else:
        # It is noticed with the token that completes the first of them.
        seen = text[: min(ends)]
        assert told == seen[: min(seen.index(stop) for stop in stops if stop in seen)]


class Part(TextDevice):
    """Of a device no more than a text on its way needs."""

    def __init__(self) -> None:
        model: Any = SimpleNamespace(rows_max=128, ends=(2,))
        tokenizer: Any = SimpleNamespace(text=spelled)
        self.text_model, self.tokenizer = model, tokenizer


def writing_at(desk: Desk, tokens_max: int = 5) -> Writing:
    wish = Wish(
        chat=False,
        tokens=(65, 66),
        settings=TextSettings(tokens_max=tokens_max),
        stops=("yz",),
        stream=False,
        usage=False,
        logprobs=False,
    )
    return Writing(desk, Part(), wish)


def test_what_a_rounds_end_cuts_short_goes_on_where_it_was() -> None:
    async def play() -> None:
        desk = Desk()
        writing = writing_at(desk)
        asked = desk.take(0.0)
        assert asked is not None
        assert asked.begin()
        first = asked.piece()
        assert first is not None
        assert first.tokens == (65, 66)
        for token in (97, 98):
            assert not first.on_token(Drawn(token=token, logprob=0.0))
        desk.again(asked, RuntimeError())
        assert desk.take(0.0) is asked
        assert asked.begin()
        rest = asked.piece()
        assert rest is not None
        assert rest.tokens == (65, 66, 97, 98)
        assert rest.settings.tokens_max == 3
        assert rest.name != first.name
        assert not rest.on_token(Drawn(token=ord("y"), logprob=0.0))
        assert rest.on_token(Drawn(token=ord("z"), logprob=0.0))
        assert asked.piece() is None
        asked.ended.set_result({})
        told = [await writing.next() for _ in range(5)]
        assert "".join(each.text for each in told) == "ab"
        assert told[-1].reason == "stop"
        assert writing.usage["completion_tokens"] == 4

    asyncio.run(play())


def test_who_goes_before_the_turn_comes_is_forgotten() -> None:
    async def play() -> None:
        desk = Desk(waiting_max=1)
        writing = writing_at(desk)
        with pytest.raises(RefusalError) as full:
            writing_at(desk)
        assert full.value.status == 429
        writing.close()
        writing_at(desk)
        assert len(desk) == 1
        asked = desk.take(0.0)
        assert asked is not None
        assert asked.begin()

    asyncio.run(play())


def test_a_piece_is_not_tried_for_ever_and_a_closed_desk_takes_none() -> None:
    desk = Desk()
    ended: Future[Any] = desk.ask(lambda: None).ended
    tries = 0
    while not ended.done():
        asked = desk.take(0.0)
        assert asked is not None
        assert asked.begin()
        tries += 1
        desk.again(asked, ValueError("the round is over"))
    assert tries == TRIES_MAX
    assert isinstance(ended.exception(), ValueError)
    waiting = desk.ask(lambda: None)
    desk.close()
    assert isinstance(waiting.ended.exception(), FullError)
    with pytest.raises(FullError):
        desk.ask(lambda: None)
