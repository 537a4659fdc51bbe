"""Speech as a job: its halves, sounds that are the same wherever a voice is cut, audits."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepact import registry
from edgepact.errors import InputError, MissingExtraError
from edgepact.inference.codecs import FP16, FP32, INT8
from edgepact.inference.pipeline import open_session, stage_path
from edgepact.jobs.speech import SPEECH, halves, phonemes, reading
from edgepact.jobs.speech.cutting import LASTS_MAX
from edgepact.jobs.speech.halves import SOUND, SpeechDevice, SpeechServer
from edgepact.jobs.speech.phonemes import packaged
from edgepact.jobs.speech.sentences import CHARS_MAX, SpeechSettings, check_sentence, read_sentences
from edgepact.jobs.speech.sound import (
    FRAME,
    FRAMES_MAX,
    QUIET_DB,
    RATE,
    SPECTRA,
    as_pcm,
    as_wav,
    loudness_db,
    of_pcm,
    of_text,
    waveform,
)
from edgepact.jobs.speech.voice import VOICE, macs_per_frame, read_voice
from edgepact.jobs.staged.reading import Piece
from edgepact.market.evidence import unpacked
from edgepact.tensors import Codec, Tensors
from edgepact.work import (
    NEAR_REPEAT_DISTANCE,
    DevicePart,
    Job,
    Reply,
    ServerAway,
    ServerPart,
)

KEY = bytes(range(32))
SEED = 2**61 + 12345
STAGES = 11
SAID, OTHER = "Please mind the gap.", "Thank you, and good night."

Change = Callable[[int, Tensors], Tensors]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACT_STAGES", str(tmp_path_factory.mktemp("stages")))
        return read_voice(None, SpeechSettings()).folder


@pytest.fixture(scope="module")
def server(folder: Path) -> SpeechServer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "EXAMPLES", 3)
        part = SPEECH.server_part(folder, {})
        part.warm()
        return part


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sentences") / "sentences.txt"
    path.write_text(f"{SAID}\n\n  {OTHER}  \n")
    return path


@pytest.fixture(scope="module")
def device(folder: Path, inputs: Path) -> SpeechDevice:
    return SPEECH.device_part(folder, inputs, {})


@dataclass(frozen=True)
class Spoken:
    line: Mapping[str, Any]
    evidence: list[bytes]
    units: int
    numbers: np.ndarray
    sketch: np.ndarray | None


def speak(
    server: SpeechServer,
    device: SpeechDevice,
    amount: int,
    *,
    sentence: str = SAID,
    codec: Codec = FP32,
    seed: int = SEED,
    change: Change = lambda exchange, sent: sent,
) -> Spoken:
    """A whole sentence: the device's line, evidence, units, samples."""
    device.prepare(amount)
    running = device.work(Piece(name=sentence), amount)
    session, evidence, units = server.begin(amount, seed), list[bytes](), 0
    sketch: np.ndarray | None = None
    try:
        sent = next(running)
        while True:
            specs = device.expects(amount, len(evidence))
            assert specs == server.expects(amount, len(evidence))
            sent = change(len(evidence), sent)
            came = unpacked(codec, codec.pack(sent, specs), specs, "test")
            (reply,) = server.answer([(session, came)])
            assert isinstance(reply, Reply), reply
            assert set(reply.outputs) <= {each.name for each in server.returns(amount)}
            evidence.append(server.evidence(amount, len(evidence), came, reply, KEY))
            units, sketch = reply.units, reply.sketch
            sent = running.send(reply)
    except StopIteration as end:
        numbers = of_pcm(of_text(end.value["sound"])).astype(int)
        return Spoken(end.value, evidence, units, numbers, sketch)


def passes(
    server: SpeechServer, spoken: Spoken, amount: int, *, said: str = SAID, codec: Codec = FP32
) -> bool:
    source = server.reading.source(Piece(name=said))
    return server.passes_audit(amount, spoken.evidence, source, seed=SEED, codec=codec, key=KEY)


def test_it_is_the_installed_job(server: SpeechServer, device: SpeechDevice) -> None:
    assert registry.part("jobs", "speech") is SPEECH
    assert isinstance(SPEECH, Job)
    assert isinstance(device, DevicePart)
    assert isinstance(server, ServerPart)
    assert device.model == server.model
    assert (device.model.amount_max, SPEECH.unit) == (STAGES, "frame")
    assert [each.name for each in device.pieces()] == [SAID, OTHER]
    assert server.about["speed"] == 1.0
    for wrong in ({"speed": 0.1}, {"speed": "fast"}, {"accent": "klingon"}, {"voice": 1}):
        with pytest.raises(InputError, match="job"):
            SPEECH.server_part(None, wrong)


def test_who_speaks_otherwise_holds_another_model(folder: Path, server: SpeechServer) -> None:
    assert SPEECH.server_part(folder, {"speed": 1.5}).model.digest != server.model.digest


def test_stages_cost_what_the_whole_costs_and_about_alike(server: SpeechServer) -> None:
    costs = macs_per_frame(server.folder)
    assert len(costs) == STAGES
    # A decoder's block and the head, by hand: a kernel of 7 for each of 256 channels, two products
    # of 256 x 768; 256 x 3005.
    assert costs[5] == 7 * 256 + 2 * 256 * 768
    assert costs[-1] == 256 * 3005
    assert max(costs) < 2 * min(costs)


def test_a_sound_is_the_same_wherever_the_voice_is_cut(
    server: SpeechServer, device: SpeechDevice
) -> None:
    session = open_session(packaged(VOICE))
    inputs = device.reading.tensors(device.source(Piece(name=SAID)))
    names = [*SPECTRA, "f0"]
    whole = dict(zip(names, session.run(names, inputs), strict=True))
    right = of_pcm(as_pcm(waveform(whole, SEED))).astype(int)
    for amount in range(STAGES + 1):
        found = speak(server, device, amount)
        assert (found.numbers == right).all(), amount
        assert found.units == found.line["frames"] == len(right) // FRAME
        assert found.line["seed"] == SEED
        assert passes(server, found, amount), amount
    again = speak(server, device, 4, seed=SEED + 1)
    assert 0 < np.abs(again.numbers - right).mean() < 200  # another noise, below 1 % of the range


@pytest.mark.parametrize("codec", [FP16, INT8], ids=lambda codec: codec.name)
def test_codecs_change_no_durations_and_little_of_the_sound(
    server: SpeechServer, device: SpeechDevice, codec: Codec
) -> None:
    right = speak(server, device, 0).numbers
    for amount in (1, 2, 5, 10, 11):
        found = speak(server, device, amount, codec=codec)
        assert len(found.numbers) == len(right)
        levels = [loudness_db(each.astype(np.int16)) for each in (right, found.numbers)]
        assert np.abs(levels[0] - levels[1]).mean() < 0.5
        assert passes(server, found, amount, codec=codec), amount


def test_pitch_and_what_durations_follow_from_travel_as_they_are(server: SpeechServer) -> None:
    for amount in range(1, STAGES):
        coded = {each.name: each.coded for each in server.expects(amount, 0)}
        assert not any(coded.values()) if amount == 1 else not coded["f0"]
        assert sum(coded.values()) == (amount > 1)


def wrong_weights(folder: Path, out: Path) -> Path:
    """The same voice with other weights in one block, as a cheaper one might have."""
    out.mkdir()
    for path in folder.iterdir():
        if path.suffix in (".onnx", ".json"):
            (out / path.name).write_bytes(path.read_bytes())
    path = stage_path(out, 4)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim >= 2 and weights.dtype in (np.int8, np.uint8):
            tensor.CopyFrom(numpy_helper.from_array(weights[..., ::-1].copy(), tensor.name))
    onnx.save(model, path)
    return out


def test_cheats_do_not_pass_their_audit(
    server: SpeechServer, device: SpeechDevice, folder: Path, inputs: Path, tmp_path: Path
) -> None:
    assert server.audit_power == 1.0
    other = SPEECH.device_part(wrong_weights(folder, tmp_path / "voice"), inputs, {})
    slow = SPEECH.device_part(folder, inputs, {"speed": 0.8})
    for amount in (5, 10, 11):
        assert not passes(server, speak(server, other, amount), amount), "wrong weights"

    def hidden(exchange: int, honest: Tensors) -> Tensors:
        told = {"speed": np.ones(1, np.float32)} if "speed" in honest else {}
        return {**honest, **told}

    for amount in (5, 11):  # before, it is the server that knows durations
        drawn_out = speak(server, slow, amount, change=hidden)
        assert drawn_out.units > 1.1 * speak(server, device, amount).units
        assert not passes(server, drawn_out, amount), "sound that lasts longer"
    for amount in (1, 5, 11):
        canned = speak(server, device, amount, sentence=OTHER)
        assert not passes(server, canned, amount), "the sound of another sentence"
        assert passes(server, canned, amount, said=OTHER)
    # The evidence of a whole sound that never came.
    assert not server.passes_audit(
        11, [b"", b""], device.source(Piece(name=SAID)), seed=SEED, codec=FP32, key=KEY
    )


@pytest.mark.parametrize("skipped", [4, 7, 10])
def test_a_skipped_stage_is_found_at_its_own_cut_and_in_the_sound(
    server: SpeechServer, device: SpeechDevice, skipped: int
) -> None:
    source = device.source(Piece(name=SAID))
    runner, voice = device.runner, device.folder
    came = runner.run(device.reading.tensors(source), 0, skipped - 1)
    before, after = (
        [each.name for each in voice.handed(at) if not each.control]
        for at in (skipped - 1, skipped)
    )
    values = {**came, **{name: came[old] for name, old in zip(after, before, strict=True)}}
    handed = [each.name for each in voice.handed(skipped)]
    sent = {name: values[name] for name in handed}

    def replaced(exchange: int, honest: Tensors) -> Tensors:
        return sent

    assert not passes(server, speak(server, device, skipped, change=replaced), skipped)
    spectra = runner.run(sent, skipped, STAGES)
    sound = as_pcm(waveform(spectra, SEED))

    def sung(exchange: int, honest: Tensors) -> Tensors:
        return {SOUND: (sound,)} if exchange else honest

    assert not passes(server, speak(server, device, 11, change=sung), 11)


def test_an_eighth_of_a_sound_that_is_made_up_is_found(
    server: SpeechServer, device: SpeechDevice
) -> None:
    def patched(exchange: int, honest: Tensors) -> Tensors:
        if exchange == 0:
            return honest
        (pcm,) = honest[SOUND]
        numbers = of_pcm(bytes(pcm)).copy()
        eighth = len(numbers) // 8
        numbers[3 * eighth : 4 * eighth] = numbers[:eighth]
        return {SOUND: (numbers.tobytes(),)}

    assert not passes(server, speak(server, device, 11, change=patched), 11)


def refused(server: SpeechServer, amount: int, *sent: Tensors) -> str:
    """What the server says to the last of some exchanges."""
    session = server.begin(amount, SEED)
    for each in sent:
        (reply,) = server.answer([(session, each)])
    assert isinstance(reply, InputError)
    return str(reply)


@pytest.mark.parametrize("amount", [1, 4, 11])
def test_a_sentence_is_known_again_however_it_comes(
    server: SpeechServer, device: SpeechDevice, amount: int
) -> None:
    """Under another seed, at another cut, by the least exact codec, or as another's sound."""
    first = speak(server, device, 3).sketch
    again = speak(server, device, amount, seed=SEED + 1, codec=INT8).sketch
    other = speak(server, device, amount, sentence=OTHER).sketch
    assert first is not None
    assert again is not None
    assert other is not None
    assert np.linalg.norm(again - first) < NEAR_REPEAT_DISTANCE
    assert np.linalg.norm(other - first) > NEAR_REPEAT_DISTANCE
    silence = {SOUND: (bytes(2 * FRAME),)}
    if amount == 11:
        assert (
            speak(server, device, 11, change=lambda at, sent: silence if at else sent).sketch
            is None
        )


def test_sentences_that_sound_alike_are_two(server: SpeechServer, device: SpeechDevice) -> None:
    bob, rob = (
        speak(server, device, 3, sentence=f"Hello, {each}.").sketch for each in ("Bob", "Rob")
    )
    assert bob is not None
    assert rob is not None
    assert np.linalg.norm(bob - rob) > NEAR_REPEAT_DISTANCE


def test_a_server_believes_nothing_that_comes(server: SpeechServer, device: SpeechDevice) -> None:
    def ids(found: object) -> Tensors:
        return {"source": (json.dumps({"ids": found}).encode(),)}

    for wrong in ([0, 178, 0], [0, -1, 0], [0, 1.5, 0], [0, 0], [1] * 400, "abc", None, [[1]] * 5):
        assert "ids" in refused(server, 0, ids(wrong))
        assert "ids" in refused(server, 11, ids(wrong))
    for wrong_source in (b"", b"{", b"[]", b"{" * 9000, b"[" * 8000):
        assert "ids" in refused(server, 0, {"source": (wrong_source,)})
    good = ids([0, 50, 83, 54, 0])
    for pcm in (b"", b"1", bytes(2 * FRAME + 2), bytes(2 * FRAME * (FRAMES_MAX + 1))):
        assert "sound" in refused(server, 11, good, {SOUND: (pcm,)})


def test_nobody_can_ask_for_hours_of_sound(
    server: SpeechServer, device: SpeechDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = device.runner.run(device.reading.inputs([0, *([50] * 30), 0]), 0, 1)
    for speed in (1e-30, 0.0, -1.0, np.nan, 1.5):
        wrong = {**sent, "speed": np.array([speed], np.float32)}
        assert "speed: expected [1.0]" in refused(server, 1, wrong)
    long = {name: np.repeat(each, 10, axis=min(1, each.ndim - 1)) for name, each in sent.items()}
    assert "L: expected a size of 1 to 302" in refused(server, 1, long)
    # Durations are the exponential of what a stranger sends, and bounded whatever that is.
    drawn_out = device.runner.run({**sent, "speed": np.array([1e-30], np.float32)}, 1, 2)
    assert drawn_out["f0"].shape == (1, 32 * 2 * LASTS_MAX)
    monkeypatch.setattr(halves, "FRAMES_MAX", 100)
    for amount, honest in ((0, {"source": (device.source(Piece(name=SAID)),)}), (1, sent)):
        assert "at most 100 frames" in refused(server, amount, honest)


@pytest.mark.parametrize("amount", [0, 4, 11])
def test_a_device_speaks_alone_where_the_server_is_away(
    server: SpeechServer, device: SpeechDevice, amount: int
) -> None:
    device.prepare(amount)
    running = device.work(Piece(name=SAID), amount)
    next(running)
    with pytest.raises(StopIteration) as end:
        running.throw(ServerAway())
    line = end.value.value
    assert line["alone"] is True
    assert line["frames"] == speak(server, device, 0).units
    assert len(of_text(line["sound"])) == 2 * FRAME * line["frames"]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("x" * (CHARS_MAX + 1), f"at most {CHARS_MAX} characters"),
        ("hello\x07there", "no control characters"),
        ("你好", "letters of the Latin script"),
        ("Привет", "letters of the Latin script"),
        ("?!...", "something to say"),
        ("1" * 60, "words that can be read"),
        ("nine hundred and ninety nine " * 13, "at most 300 phonemes"),
    ],
)
def test_what_cannot_be_spoken_is_told(
    device: SpeechDevice, tmp_path: Path, sentence: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        next(device.work(Piece(name=sentence), 0))


def test_files_of_sentences_name_the_line_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt"
    path.write_text("Fine.\n\nНет.\n")
    with pytest.raises(InputError, match=r"sentences.txt: line 3: expected letters"):
        read_sentences(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_sentences(path)
    path.write_bytes(b"\xef\xbb\xbfFine.\n")  # the mark that some editors begin files with
    assert read_sentences(path) == ["Fine."]
    path.write_text("\n \n")
    with pytest.raises(InputError, match="a line each"):
        read_sentences(path)
    with pytest.raises(InputError, match="a file of sentences"):
        read_sentences(tmp_path / "none.txt")
    for fine in ("Naïve café, 20 µm: $4.50!", "The 3rd of March 2024"):
        check_sentence(fine)


def test_without_the_extra_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phonemes, "find_spec", lambda name: None)
    for make in (
        lambda: SPEECH.server_part(None, {}),
        lambda: SPEECH.device_part(None, None, {}),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'edgepact\[speech\]'"):
            make()


def test_files_that_are_no_voice_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACT_STAGES", str(tmp_path / "stages"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(packaged(VOICE).read_bytes()[:5000])
    other = tmp_path / "other.onnx"
    other.write_bytes(packaged("oov.onnx").read_bytes())
    for path, expected in ((broken, "ONNX"), (other, "a voice"), (tmp_path, "one ONNX file")):
        with pytest.raises(InputError, match=expected):
            SPEECH.server_part(path, {})


def test_a_file_of_sound_is_what_players_play() -> None:
    import io
    import wave

    pcm = as_pcm(np.array([0.0, 0.5, -2.0] * FRAME, np.float32))
    with wave.open(io.BytesIO(as_wav(pcm))) as file:
        told: Sequence[int] = file.getparams()[:4]
        assert tuple(told) == (1, 2, RATE, 3 * FRAME)
        assert file.readframes(3) == np.array([0, 16383, -32767], "<i2").tobytes()


def test_loudness_is_told_in_decibels_of_the_loudest() -> None:
    at = np.arange(RATE) / RATE
    tone = as_pcm((0.5 * np.sin(2 * np.pi * 1000 * at)).astype(np.float32))
    half = as_pcm((0.25 * np.sin(2 * np.pi * 1000 * at)).astype(np.float32))
    loud, quiet = (loudness_db(of_pcm(each))[10:-10] for each in (tone, half))
    assert loud.max(axis=1) == pytest.approx(np.full(len(loud), -6.0), abs=2.0)
    assert loud.max(axis=1) - quiet.max(axis=1) == pytest.approx(6.02, abs=0.05)
    assert (loudness_db(np.zeros(10 * FRAME, np.int16)) == QUIET_DB).all()
