"""What a server keeps of a text until it is audited, and how far honest work lies from its own.

Of each exchange a few numbers of the activation are kept, at places drawn from a key that the
device does not know. They are compared channel by channel with the size that the channel usually
has: one number in a hundred reaches 25,000, and next to it a skipped block would be nothing. A
number that is off by its usual size or more counts 1, so that no single one decides; an exchange's
deviation is the mean, and a text passes if all its exchanges do. A device that cheats on one token
in ten is thus not forgiven for the other nine.

What a text goes on from came with another text, perhaps one that has been audited and forgotten.
So numbers of these rows are kept with the text that goes on as well, a few rows at a time: else a
device could name one of its own texts and hold the keys and values of another.

Inputs of the products are rounded to 8 bits, so that a difference in the last bit, as between two
kinds of processor, grows to several percent in 30 blocks. Who computes bit by bit as the server
does shows it with a probe: the blocks' outputs for a few fixed tokens, hashed. It is then held to
`EXACT`, which rounded weights do not pass. Of all others honest work is imitated by disturbing
activations behind every block, cheats by skipping blocks, and the tolerance lies between.
"""

import hashlib
import io
import math
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.inference.decoder import Decoder, States
from edgepact.inference.gguf.tokenizer import TextTokenizer
from edgepact.jobs.text.exchange import PROBE_BYTES
from edgepact.jobs.text.prompts import own_prompts

DRAWN_PER_TOKEN, DRAWN_MAX = 48, 256
"""Numbers kept of a single token, and most of a longer chunk."""

ROWS_TOGETHER = 2
"""Rows of a text before that are judged as one, so that a single one that differs is noticed: with
SmolLM2 it lies above the tolerance of another kind of processor, and of four together below."""

NONCE_BYTES = 16

EXACT = 1e-3
"""Largest deviation of who computes as the server does."""

PROBE_TOKENS = 4

PROMPT_TOKENS, SINGLE_TOKENS = 24, 24
"""Of the text that tolerances are measured on."""

PERTURBATIONS = (1e-6, 1e-5)
"""Relative, behind every block: more than processors differ by that add in another order."""

SKIPPED = 2
"""Blocks that are skipped in a whole pass: those whose own change is the least noticeable."""

HONEST_LEAST, HONEST_MOST = 1.5, 4.0
"""Least and most multiple of the largest honest deviation that a tolerance is."""

AUDIT_FILE = "audit.npz"
AUDIT_BYTES_MAX = 64 << 20
_HEAD, _COUNT = struct.Struct("<IH"), struct.Struct("<H")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """What is kept of an exchange.

    Attributes:
        chunk: tokens that it brought, wrong guesses left out.
        tokens: that were drawn after it.
        numbers: float32.
    """

    chunk: int
    tokens: tuple[int, ...]
    numbers: np.ndarray


def kept(hidden: np.ndarray, *, tokens: Sequence[int], key: bytes, exchange: int) -> bytes:
    """Evidence of an exchange.

    Args:
        hidden: `(1, chunk, width)`, as it was unpacked.
        tokens: that were drawn after it.
        key: secret of the piece.
        exchange: counted from 0.
    """
    places = _places(hidden.shape, key, exchange)
    numbers = np.ascontiguousarray(hidden, np.float32).reshape(-1)[places]
    head = _HEAD.pack(hidden.shape[1], len(tokens)) + np.array(tokens, "<i4").tobytes()
    return head + numbers.astype("<f4").tobytes()


def read_kept(content: bytes) -> Kept | None:
    """What `kept` made; None if it is none of it."""
    if len(content) < _HEAD.size or (len(content) - _HEAD.size) % 4:
        return None
    chunk, count = _HEAD.unpack_from(content)
    start = _HEAD.size + 4 * count
    if not chunk or start > len(content):
        return None
    tokens = np.frombuffer(content, "<i4", count, _HEAD.size)
    numbers = np.frombuffer(content, "<f4", offset=start)
    return Kept(chunk=chunk, tokens=tuple(tokens.tolist()), numbers=numbers)


def reused_kept(rows: np.ndarray, nonce: bytes) -> bytes:
    """What is kept of the rows of a text before that a text goes on from.

    Args:
        rows: `(1, reused, width)`, as they were unpacked when they came.
        nonce: `NONCE_BYTES` that nobody could foresee when they came.
    """
    parts = [
        np.ascontiguousarray(rows[:, at : at + ROWS_TOGETHER], np.float32).reshape(-1)[places]
        for at, places in _places_reused(rows.shape, nonce)
    ]
    return nonce + np.concatenate(parts).astype("<f4").tobytes()


def reused_deviation(content: bytes, own: np.ndarray, scale: np.ndarray) -> float:
    """How far rows that a text goes on from are from one's own, where they are farthest.

    Args:
        content: what `reused_kept` made.
        own: `(1, reused, width)`.
        scale: usual size of each channel, `(width,)`.

    Returns:
        From 0 to 1; infinity where they are of another shape, or not finite.
    """
    nonce, numbers = content[:NONCE_BYTES], content[NONCE_BYTES:]
    if len(content) != _bytes_reused(own.shape[1]):
        return math.inf
    came = np.frombuffer(numbers, "<f4").astype(np.float64).reshape(-1, DRAWN_PER_TOKEN)
    if not np.isfinite(came).all():
        return math.inf
    most = 0.0
    for theirs, (at, places) in zip(came, _places_reused(own.shape, nonce), strict=True):
        mine = own[:, at : at + ROWS_TOGETHER].reshape(-1)[places].astype(np.float64)
        apart = np.abs(theirs - mine) / scale[places % own.shape[2]]
        most = max(most, float(np.minimum(apart, 1.0).mean()))
    return most


def first_kept(probed: str, runs: Sequence[int], reused: bytes = b"") -> bytes:
    """What stands before the evidence of a text's first exchange.

    Args:
        probed: how the device computes, as it says.
        runs: how what it has of an earlier text has attended (`exchange.as_numbers`).
        reused: of these rows, see `reused_kept`; nothing where there are no runs.
    """
    head = bytes.fromhex(probed) + _COUNT.pack(len(runs))
    return head + np.array(runs, "<i4").tobytes() + reused


def read_first(content: bytes) -> tuple[str, list[tuple[int, bool]], bytes, bytes] | None:
    """What `first_kept` was told, and what stands behind it; None if it is none of it."""
    start = PROBE_BYTES + _COUNT.size
    if len(content) < start:
        return None
    (count,) = _COUNT.unpack_from(content, PROBE_BYTES)
    stop = start + 4 * count
    if stop > len(content):
        return None
    runs = np.frombuffer(content, "<i4", count, start).tolist()
    end = stop + _bytes_reused(sum(abs(each) for each in runs))
    if end > len(content):
        return None
    told = [(abs(each), each < 0) for each in runs]
    return content[:PROBE_BYTES].hex(), told, content[stop:end], content[end:]


def deviation(
    came: Kept, own: np.ndarray, scale: np.ndarray, *, key: bytes, exchange: int
) -> float:
    """How far what came is from one's own.

    Args:
        came: of the exchange.
        own: `(1, chunk, width)`.
        scale: usual size of each channel, `(width,)`.
        key, exchange: as `kept` was told them.

    Returns:
        From 0 to 1; infinity where evidence is of another shape, or not finite.
    """
    places = _places(own.shape, key, exchange)
    if own.shape[1] != came.chunk or len(places) != len(came.numbers):
        return math.inf
    if not np.isfinite(came.numbers).all():
        return math.inf
    mine = own.reshape(-1)[places].astype(np.float64)
    apart = np.abs(came.numbers - mine) / scale[places % own.shape[2]]
    return float(np.minimum(apart, 1.0).mean())


def probe(decoder: Decoder, states: States, amount: int) -> str:
    """How this machine computes: a hash of what blocks make of fixed tokens, bit by bit."""
    vocabulary = decoder.model.sizes.vocabulary
    tokens = (np.arange(PROBE_TOKENS) * 7919 + 11) % vocabulary
    state = states.new(range(1, amount + 1))
    told = hashlib.sha256()
    for chunk in (tokens[: PROBE_TOKENS - 1], tokens[PROBE_TOKENS - 1 :]):
        told.update(decoder.blocks(state, decoder.embed(chunk)).tobytes())
    states.release(state)
    return told.hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tolerances:
    """Of one model.

    Attributes:
        digest: of the model.
        scale: usual size of each channel behind each block, `(blocks, width)`.
        tolerance: largest deviation that passes, `(blocks,)`.
        honest: largest honest deviation, `(blocks,)`.
        cheat: least deviation of skipped blocks, `(blocks,)`.
        power: least share of the exchanges of a skipped block that do not pass.
    """

    digest: str
    scale: np.ndarray
    tolerance: np.ndarray
    honest: np.ndarray
    cheat: np.ndarray
    power: float

    def of(self, amount: int, *, exact: bool) -> float:
        """The largest deviation that passes at a cut.

        Args:
            amount: blocks of the device, at least 1.
            exact: whether the device computes bit by bit as the server does.
        """
        found = float(self.tolerance[amount - 1])
        return min(EXACT, found) if exact else found


def known_tolerances(decoder: Decoder, states: States) -> Tolerances:
    """What lies in the model's folder; else it is measured, and kept there if it can be."""
    path = decoder.model.folder / AUDIT_FILE
    found = _read(path, decoder.model.digest, decoder.model.sizes.blocks)
    if found is None:
        found = calibrated(decoder, states)
        with suppress(OSError):
            _write(path, found)
    return found


def calibrated(decoder: Decoder, states: States, *, seed: int = 0) -> Tolerances:
    """Measures a model.

    Args:
        decoder: of the model.
        states: that it may use.
        seed: of keys and disturbances.
    """
    model = decoder.model
    blocks = model.sizes.blocks
    tokens = _text(decoder)
    passes = _Passes(decoder, states, tokens)
    own = passes.run()
    scale = np.stack([np.median(np.abs(np.concatenate(each, axis=1)[0]), axis=0) for each in own])
    scale = np.maximum(scale, 1e-3 * np.median(scale, axis=1, keepdims=True) + 1e-12)

    def apart(of: list[list[np.ndarray]], behind: int) -> np.ndarray:
        """Deviation of each exchange behind a block, counted from 0."""
        found = []
        for exchange, (came, mine) in enumerate(zip(of[behind], own[behind], strict=True)):
            key = f"{seed} {behind}".encode()
            evidence = read_kept(kept(came, tokens=(), key=key, exchange=exchange))
            assert evidence is not None
            found.append(deviation(evidence, mine, scale[behind], key=key, exchange=exchange))
        return np.array(found)

    rng = np.random.default_rng(seed)
    disturbed = [passes.run(disturbance=each, rng=rng) for each in PERTURBATIONS]
    honest = np.array([max(apart(of, at).max() for of in disturbed) for at in range(blocks)])
    # A skipped block leaves behind it what came in: that takes no computing to know.
    cheats: list[list[np.ndarray]] = [
        [apart([*own[:at], passes.embedded if at == 0 else own[at - 1], *own[at + 1 :]], at)]
        for at in range(blocks)
    ]
    least = sorted(range(blocks), key=lambda at: float(np.median(cheats[at][0])))[:SKIPPED]
    for skipped in least:
        of = passes.run(skipped=skipped)
        for at in range(skipped + 1, blocks):
            cheats[at].append(apart(of, at))
    cheat = np.array([min(float(np.median(each)) for each in of) for of in cheats])
    honest = np.maximum(honest, EXACT)
    middle = np.sqrt(honest * np.maximum(cheat, honest))
    tolerance = np.clip(middle, HONEST_LEAST * honest, HONEST_MOST * honest)
    power = min(
        float(np.mean(each > limit))
        for of, limit in zip(cheats, tolerance, strict=True)
        for each in of
    )
    return Tolerances(
        digest=model.digest,
        scale=scale,
        tolerance=tolerance,
        honest=honest,
        cheat=cheat,
        power=power,
    )


# ---------------------------------------------------------------- private


def _places(
    shape: tuple[int, ...], key: bytes, exchange: int, *, count: int | None = None
) -> np.ndarray:
    """Places in a flattened activation: tokens take turns, channels are drawn."""
    chunk, width = shape[-2:]
    count = count or (DRAWN_PER_TOKEN if chunk == 1 else DRAWN_MAX)
    stream = hashlib.shake_256(b"text\n%d\n" % exchange + key).digest(4 * count + 4)
    numbers = np.frombuffer(stream, "<u4").astype(np.int64)
    rows = (int(numbers[-1]) + np.arange(count) * max(chunk, count) // count) % chunk
    return rows * width + numbers[:-1] % width


def _bytes_reused(rows: int) -> int:
    """What `reused_kept` makes of so many rows."""
    return NONCE_BYTES + 4 * DRAWN_PER_TOKEN * -(-rows // ROWS_TOGETHER) if rows else 0


def _places_reused(shape: tuple[int, ...], nonce: bytes) -> Iterator[tuple[int, np.ndarray]]:
    """The first of each few rows, and places among these."""
    rows, width = shape[-2:]
    for at in range(0, rows, ROWS_TOGETHER):
        few = (min(ROWS_TOGETHER, rows - at), width)
        yield at, _places(few, nonce, at, count=DRAWN_PER_TOKEN)


def _text(decoder: Decoder) -> np.ndarray:
    """Tokens to measure with: of the job's own prompts, or any where they are too few."""
    count = PROMPT_TOKENS + SINGLE_TOKENS
    found: list[int] = []
    with suppress(InputError):
        found = TextTokenizer(decoder.model).tokens(own_prompts().read_text(encoding="utf-8"))
    if len(found) < count:
        drawn = np.random.default_rng(0).integers(decoder.model.sizes.vocabulary, size=count)
        found = drawn.tolist()
    return np.array(found[:count])


class _Passes:
    """One text through all blocks, in ways."""

    def __init__(self, decoder: Decoder, states: States, tokens: np.ndarray) -> None:
        self._decoder, self._states = decoder, states
        chunks = [tokens[:PROMPT_TOKENS], *np.split(tokens[PROMPT_TOKENS:], SINGLE_TOKENS)]
        self.embedded = [decoder.embed(chunk) for chunk in chunks]

    def run(
        self,
        *,
        disturbance: float = 0.0,
        rng: np.random.Generator | None = None,
        skipped: int | None = None,
    ) -> list[list[np.ndarray]]:
        """Activations by block and exchange."""
        found: list[list[np.ndarray]] = []
        came = self.embedded
        for block in range(self._decoder.model.sizes.blocks):
            if block != skipped:
                state = self._states.new(range(block + 1, block + 2))
                came = [self._decoder.blocks(state, each) for each in came]
                self._states.release(state)
            if disturbance:
                assert rng is not None
                came = [
                    each * (1 + disturbance * rng.standard_normal(each.shape, np.float32))
                    for each in came
                ]
            found.append(came)
        return found


def _write(path: Path, found: Tolerances) -> None:
    content = io.BytesIO()
    np.savez(
        content,
        digest=np.array(found.digest),
        scale=found.scale,
        tolerance=found.tolerance,
        honest=found.honest,
        cheat=found.cheat,
        power=np.array(found.power),
    )
    place, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".npz")
    try:
        with os.fdopen(place, "wb") as file:
            file.write(content.getvalue())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _read(path: Path, digest: str, blocks: int) -> Tolerances | None:
    try:
        with np.load(path, allow_pickle=False) as table:
            if sum(each.file_size for each in table.zip.infolist()) > AUDIT_BYTES_MAX:
                return None  # no entry is unpacked further than it says
            found = Tolerances(
                digest=str(table["digest"]),
                power=float(table["power"]),
                **{
                    name: np.asarray(table[name], np.float64)
                    for name in ("scale", "tolerance", "honest", "cheat")
                },
            )
    except Exception:  # whatever lies there: it is measured anew
        return None
    good = found.digest == digest and found.tolerance.shape == (blocks,)
    return found if good and np.isfinite(found.tolerance).all() else None
