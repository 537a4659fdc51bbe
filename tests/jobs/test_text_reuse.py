"""What a text need not compute or wait for: prompts that begin alike, guesses that were right."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.inference.codecs import FP16, FP32, INT8
from edgepact.inference.decoder import States
from edgepact.inference.drafts import guesses
from edgepact.inference.gguf import known
from edgepact.inference.sampling import Drawn
from edgepact.jobs.text import TEXT
from edgepact.jobs.text.device import TextDevice
from edgepact.jobs.text.evidence import (
    NONCE_BYTES,
    ROWS_TOGETHER,
    first_kept,
    read_first,
    reused_deviation,
    reused_kept,
)
from edgepact.jobs.text.exchange import PROBE_BYTES, Run, runs_until
from edgepact.jobs.text.prompts import Prompt, TextSettings
from edgepact.jobs.text.server import TextServer
from edgepact.tensors import Codec, Tensors
from edgepact.work import Reply
from tests.jobs.test_text import KEY, SEED, passes, write
from tests.tiny_llama import write_tiny_llama

GREEDY: dict[str, Any] = {"tokens_max": 16, "chat": False, "texts_kept": 0}
DRAWN = {**GREEDY, "temperature": 0.7}
KEEPING = {**DRAWN, "texts_kept": 2}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(known.VARIABLE, str(folder / "stages"))
        return known.text_model(write_tiny_llama(folder / "tiny.gguf", blocks=3)).folder


@pytest.fixture(scope="module")
def pair(gguf: Path) -> Callable[[dict[str, Any]], tuple[TextServer, TextDevice]]:
    """Both halves with some settings."""

    def made(settings: dict[str, Any]) -> tuple[TextServer, TextDevice]:
        server = TEXT.server_part(gguf, settings)
        return server, TEXT.device_part(gguf, None, settings)

    return made


Pair = Callable[[dict[str, Any]], tuple[TextServer, TextDevice]]


def prompt(device: TextDevice, tokens: Sequence[int]) -> Prompt:
    return Prompt(tokens=tuple(tokens), settings=device.settings)


def oracle(device: TextDevice, whole: Sequence[int], start: int) -> Callable[..., tuple[int, ...]]:
    """Guesses that are right but for each fourth."""

    def guessed(tokens: Sequence[int], most: int) -> tuple[int, ...]:
        at = len(tokens)
        found = [*whole[at : at + max(most, 0)]]
        return tuple(1 if (at + row) % 4 == 3 else each for row, each in enumerate(found))

    return guessed


# ---------------------------------------------------------------- guesses


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 6))
def test_guesses_are_what_followed_the_same_end_before(tokens: list[int], most: int) -> None:
    found = guesses(tokens, most)
    assert len(found) <= most
    if not found:
        return
    places = [
        at
        for length in (2, 3, 4)
        for at in range(len(tokens) - length)
        if tokens[at : at + length] == tokens[-length:]
        and tuple(tokens[at + length : at + length + most]) == found
    ]
    assert places


@pytest.mark.parametrize("settings", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("amount", [0, 2, 3])
def test_a_text_is_the_same_with_guesses_and_passes_its_audit(
    pair: Pair, settings: dict[str, Any], amount: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pair(settings)
    piece = prompt(plain[1], [5, 9, 120, 7, 33])
    told, _, line = write(*plain, piece, amount, codec=FP32)
    assert line["steps"] == len(told)
    server, device = pair({**settings, "drafts": 3})
    guess = oracle(device, [*piece.tokens, *told], len(piece.tokens))
    monkeypatch.setattr("edgepact.jobs.text.device.guesses", guess)
    guessing = prompt(device, piece.tokens)
    for lose_at in ((), (2,), (1, 4)):
        again, evidence, faster = write(
            server, device, guessing, amount, codec=FP32, lose_at=lose_at
        )
        assert again == told
        assert len(told) < 4 or faster["steps"] < len(told) + len(lose_at) * 4
        if amount:
            assert passes(server, guessing, amount, evidence, FP32)
    assert write(server, device, guessing, amount, codec=FP32)[2]["steps"] < len(told)


def test_activations_that_are_not_of_the_guess_fail_the_audit(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pair(DRAWN)
    piece = prompt(plain[1], [5, 9, 120, 7, 33])
    told, _, _ = write(*plain, piece, 2, codec=FP32)
    server, device = pair({**DRAWN, "drafts": 3})
    guess = oracle(device, [*piece.tokens, *told], len(piece.tokens))
    monkeypatch.setattr("edgepact.jobs.text.device.guesses", guess)

    def repeated(exchange: int, sent: Tensors) -> Tensors:
        # The first row stands for those of guesses, which spares their blocks.
        hidden = np.asarray(sent["hidden"])
        return (
            {**sent, "hidden": np.repeat(hidden[:, :1], hidden.shape[1], axis=1)}
            if (exchange)
            else sent
        )

    _, evidence, line = write(
        server, device, prompt(device, piece.tokens), 2, codec=FP32, change=repeated
    )
    assert line["tokens"] == 16 or line["reason"] == "stop"
    assert not passes(server, prompt(device, piece.tokens), 2, evidence, FP32)


def test_units_are_tokens_that_were_drawn_and_guesses_are_bounded(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, device = pair({**DRAWN, "drafts": 3})
    piece = prompt(device, [5, 9, 120, 7, 33])
    told, _, _ = write(server, device, piece, 2, codec=FP32)
    guess = oracle(device, [*piece.tokens, *told], len(piece.tokens))
    monkeypatch.setattr("edgepact.jobs.text.device.guesses", guess)
    running, session = device.work(piece, 2), server.begin(2, SEED)
    sent, reply = next(running), None
    while reply is None or not reply.finished:
        many = {**sent, "guessed": np.zeros((1, 9), np.int32)}
        (refused,) = server.answer([(session, many)])
        assert isinstance(refused, InputError)
        (reply,) = server.answer([(session, sent)])
        assert isinstance(reply, Reply)
        if not reply.finished:
            sent = running.send(reply)
    assert reply.units == len(told)
    too_many = {"hidden": np.zeros((1, 5, server.text_model.sizes.width), np.float32)}
    session = server.begin(2, SEED)
    (_,) = server.answer([(session, next(device.work(piece, 2)))])
    (refused,) = server.answer([(session, {**too_many, "guessed": np.zeros((1, 4), np.int32)})])
    assert isinstance(refused, InputError)


def test_a_server_that_stays_away_leaves_no_wrong_guess_behind(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**DRAWN, "seed": 4}
    plain = pair(settings)
    piece = prompt(plain[1], [5, 9, 120, 7, 33])
    told, _, _ = write(*plain, piece, 2, codec=FP32)
    server, device = pair({**settings, "drafts": 3})
    guess = oracle(device, [*piece.tokens, *told], len(piece.tokens))
    monkeypatch.setattr("edgepact.jobs.text.device.guesses", guess)
    for away_at in (1, 2, 3):
        again, _, line = write(
            server, device, prompt(device, piece.tokens), 2, codec=FP32, away_at=away_at
        )
        assert again == told
        assert line["tokens_alone"] > 0


# ---------------------------------------------------------------- prompts that begin alike


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=8),
    st.integers(0, 60),
)
def test_runs_of_the_first_tokens_are_whole_or_more_than_one_row(
    runs: list[Run], position: int
) -> None:
    found = runs_until(runs, position)
    length = sum(each for each, _ in found)
    whole = sum(each for each, _ in runs)
    assert min(position, whole) - 1 <= length <= min(position, whole)
    told = [single for each, single in found for _ in range(each)]
    assert told == [single for each, single in runs for _ in range(each)][:length]


@pytest.mark.parametrize("amount", [0, 1, 3])
def test_a_conversation_goes_on_from_what_is_kept_and_passes_its_audit(
    pair: Pair, amount: int
) -> None:
    server, device = pair(KEEPING)
    other, alone = pair(DRAWN)
    first = prompt(device, range(20, 50))
    told, evidence, line = write(server, device, first, amount, codec=FP32)
    assert line["reused_tokens"] == 0
    whole = [*first.tokens, *told]
    # The next turn; one that differs within the answer; one that differs within the prompt.
    for same, more in ((len(whole) - 1, 9), (len(whole) - 4, 6), (17, 8)):
        tokens = [*whole[:same], *range(200, 200 + more)]
        piece = prompt(device, tokens)
        again, evidence, line = write(server, device, piece, amount, codec=FP32)
        assert same - 1 <= line["reused_tokens"] <= same
        if amount:
            assert passes(server, piece, amount, evidence, FP32)
            cheated = prompt(device, [*tokens[:3], 99, *tokens[4:]])
            assert not passes(server, cheated, amount, evidence, FP32)
        # Attention to chunks and to single tokens differs in the last bit only.
        expected, _, _ = write(other, alone, prompt(alone, tokens), amount, codec=FP32)
        assert again[0] == expected[0]


@pytest.mark.parametrize("codec", [FP32, INT8], ids=["fp32", "int8"])
def test_another_text_of_the_device_cannot_stand_for_the_beginning(
    pair: Pair, codec: Codec
) -> None:
    server, device = pair(KEEPING)
    tokens = list(range(60, 90))
    longer = prompt(device, [*tokens, 9])
    # All of the other text is another, or its last token alone.
    for other in (list(range(20, 50)), [*tokens[:-1], 7]):
        device._kept._texts.clear()
        write(server, device, prompt(device, other), 2, codec=codec)
        named = device._kept._texts.pop().name
        write(server, device, prompt(device, tokens), 2, codec=codec)
        held = device._kept._texts.pop()
        for name, honest in ((named, False), (held.name, True)):
            device._kept._texts.append(replace(held, name=name))
            _, evidence, line = write(server, device, longer, 2, codec=codec)
            assert line["reused_tokens"] == len(tokens)
            assert passes(server, longer, 2, evidence, codec) is honest
            device._kept._texts.clear()


def test_a_server_that_is_sent_tokens_says_what_a_text_was_written_from(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where most of the prompt came with another text, which need not be its own."""
    monkeypatch.setattr("edgepact.jobs.text.exchange.CHUNK_MAX", 32)
    server, device = pair({**KEEPING, "drafts": 2})
    tokens, other = list(range(60, 90)), list(range(20, 50))
    write(server, device, prompt(device, other), 0, codec=FP32)
    named = device._kept._texts.pop().name
    long = prompt(device, range(100, 200))
    for piece, ends in ((long, None), (prompt(device, [*tokens, 9]), 2)):
        for amount, came in ((0, device.source(piece)), (2, None)):
            assert _source(server, device, piece, amount, ends=ends) == came
    device._kept._texts.clear()
    write(server, device, prompt(device, tokens), 0, codec=FP32)
    device._kept._texts[0] = replace(device._kept._texts[0], name=named)
    cheated = _source(server, device, prompt(device, [*tokens, 9]), 0)
    assert cheated == device.source(prompt(device, [*other, 9]))


def _source(
    server: TextServer, device: TextDevice, piece: Prompt, amount: int, *, ends: int | None = None
) -> bytes | None:
    """What the last answer says, of a text that its reader may end after some tokens."""
    seen: list[int] = []

    def on_token(found: Drawn) -> bool:
        seen.append(found.token)
        return len(seen) == ends

    device.prepare(amount)
    running = device.work(replace(piece, on_token=on_token), amount)
    session, sent = server.begin(amount, SEED), next(running)
    while True:
        (reply,) = server.answer([(session, sent)])
        assert isinstance(reply, Reply)
        if reply.finished:
            with pytest.raises(StopIteration):
                running.send(reply)
            return reply.source
        assert reply.source is None
        sent = running.send(reply)


def test_numbers_of_rows_that_are_reused_cannot_be_left_out_or_made_up() -> None:
    rows = np.random.default_rng(3).normal(size=(1, 21, 16)).astype(np.float32)
    scale, nonce = np.ones(16), bytes(range(NONCE_BYTES))
    found = reused_kept(rows, nonce)
    first = first_kept("ab" * PROBE_BYTES, [12, -9], found)
    assert read_first(first + b"more") == (
        "ab" * PROBE_BYTES,
        [(12, False), (9, True)],
        found,
        b"more",
    )
    assert read_first(first[:-1]) is None
    assert reused_deviation(found, rows, scale) == 0
    for row in range(21):
        other = rows.copy()
        other[0, row] += 1
        assert reused_deviation(found, other, scale) > 0.9 / ROWS_TOGETHER
    assert reused_deviation(found, rows[:, :-8], scale) == np.inf
    assert reused_deviation(found[:-4] + np.float32(np.nan).tobytes(), rows, scale) == np.inf


def test_nothing_is_reused_of_another_device_or_under_a_wrong_name(pair: Pair, gguf: Path) -> None:
    server, device = pair(KEEPING)
    stranger = TEXT.device_part(gguf, None, KEEPING)
    piece = prompt(device, range(20, 50))
    write(server, device, piece, 2, codec=FP32)
    _, _, line = write(server, stranger, prompt(stranger, piece.tokens), 2, codec=FP32)
    assert line["reused_tokens"] == 0
    # A name that the server does not know: the prompt is sent whole, and is audited as such.
    device._kept._texts[0] = replace(device._kept._texts[0], name="0" * 32)
    again = prompt(device, [*piece.tokens, 9, 9, 9])
    for lose_at in ((), (1,)):
        found, evidence, line = write(server, device, again, 2, codec=FP32, lose_at=lose_at)
        assert passes(server, again, 2, evidence, FP32)
        assert len(found) == line["tokens"]
        device._kept._texts.clear()


def test_a_lost_session_and_a_server_away_forget_what_was_reused(pair: Pair) -> None:
    server, device = pair({**KEEPING, "seed": 4})
    piece = prompt(device, range(20, 50))
    write(server, device, piece, 2, codec=FP32)
    longer = prompt(device, [*piece.tokens, 7, 8, 9])
    whole, _, _ = write(*pair({**DRAWN, "seed": 4}), longer, 2, codec=FP32)
    found, evidence, line = write(server, device, longer, 2, codec=FP32, lose_at=(2,))
    assert line["replays"] == 1
    assert passes(server, longer, 2, evidence, FP32)
    assert found[:2] == whole[:2]
    found, _, line = write(server, device, longer, 2, codec=FP32, away_at=2)
    assert line["tokens_alone"] > 0
    assert found[:2] == whole[:2]


def test_memory_of_kept_texts_is_bounded_on_both_sides(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, device = pair(KEEPING)
    monkeypatch.setattr("edgepact.jobs.text.server.SHARE_KEPT", 2)
    for start in range(20, 90, 10):
        write(server, device, prompt(device, range(start, start + 20)), 2, codec=FP32)
    assert len(server._texts_kept) == 4
    assert len(device._kept._texts) == 2
    assert len(server.states) == 4
    assert len(device._states) == 2
    # Where memory is short what is kept goes first.
    monkeypatch.setattr("edgepact.jobs.text.server.KEPT_BYTES_MAX", 20_000)
    write(server, device, prompt(device, range(5, 25)), 2, codec=FP32)
    assert len(server._texts_kept) < 4
    server.states = States(server.text_model)
    for each in server._texts_kept.values():
        each.state.drop()
        each.state.evicted = True
    longer = [*range(5, 25), 1, 2, 3]
    _, evidence, line = write(server, device, prompt(device, longer), 2, codec=FP16)
    assert line["reused_tokens"] == 0
    assert passes(server, prompt(device, longer), 2, evidence, FP16)


def test_a_reader_who_ends_within_guesses_sees_no_token_more(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pair(DRAWN)
    piece = prompt(plain[1], [5, 9, 120, 7, 33])
    told, _, _ = write(*plain, piece, 2, codec=FP32)
    server, device = pair({**DRAWN, "drafts": 4})
    guess = oracle(device, [*piece.tokens, *told], len(piece.tokens))
    monkeypatch.setattr("edgepact.jobs.text.device.guesses", guess)
    seen: list[int] = []

    def three(found: Drawn) -> bool:
        seen.append(found.token)
        return len(seen) == 3

    ended = replace(prompt(device, piece.tokens), on_token=three)
    _, evidence, line = write(server, device, ended, 2, codec=FP32)
    assert seen == told[:3]
    assert line["tokens"] == 3
    assert passes(server, ended, 2, evidence, FP32)
    with pytest.raises(InputError):
        TextSettings.of({"drafts": 17})


def test_evidence_of_strangers_is_refused(pair: Pair) -> None:
    server, device = pair(KEEPING)
    piece = prompt(device, [5, 9, 120, 7, 33])
    _, evidence, _ = write(server, device, piece, 2, codec=FP32)
    source = json.dumps({"prompt": list(piece.tokens)}).encode()

    def passed(found: list[bytes]) -> bool:
        return server.passes_audit(2, found, source, seed=SEED, codec=FP32, key=KEY)

    assert passed(evidence)
    for broken in (
        [],
        [b""],
        [evidence[0][:17], *evidence[1:]],
        [evidence[0][:16] + b"\xff\xff" + evidence[0][18:], *evidence[1:]],
        [evidence[0], evidence[1][:5], *evidence[2:]],
        [evidence[0], evidence[1][:4] + b"\xff\xff" + evidence[1][6:], *evidence[2:]],
    ):
        assert not passed(broken)
