"""The server's half of a text: the blocks that are left, the head, and the drawing of tokens.

A session keeps what came of its text, which is small, and a state of keys and values, which is
not: where memory gets short the state is taken away and computed again from what came, in the same
chunks, so that the device notices nothing but a pause.

Pieces pass the blocks together where no bit of one hangs on the others (`inference.together`),
which is tried when the part is warmed; else one by one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np

from edgepact.errors import InputError
from edgepact.inference.decoder import Decoder, State, States
from edgepact.inference.gguf.known import text_model
from edgepact.inference.sampling import Drawn, drawn
from edgepact.inference.together import Rows, Together, alike
from edgepact.jobs.text.evidence import (
    Kept,
    Tolerances,
    deviation,
    kept,
    known_tolerances,
    probe,
    read_kept,
)
from edgepact.jobs.text.exchange import (
    PROBE_BYTES,
    Asked,
    chunk_in,
    expected_of,
    job_model,
    returned,
)
from edgepact.jobs.text.prompts import TextSettings
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply

SOURCE_BYTES_MAX = 1 << 20

KEPT_BYTES_MAX = 1 << 30
"""Most bytes of what came of texts under way; beyond it no new text is begun."""


@dataclass(slots=True, kw_only=True, eq=False, weakref_slot=True)
class TextSession:
    """A text under way.

    Attributes:
        amount: blocks that the device does.
        seed: of the tokens that are drawn.
        state: keys and values of the server's blocks.
        asked: by the device; None before its first exchange.
        chunks: all that came, as it came, and whether its rows attended singly.
        position: tokens that came.
        token: that was drawn last; -1 for none.
        written: how many were drawn.
    """

    amount: int
    seed: int
    state: State
    asked: Asked | None = None
    chunks: list[tuple[np.ndarray, bool]] = field(default_factory=list)
    position: int = 0
    token: int = -1
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _OnItsWay:
    """An exchange of a text between two stages.

    Attributes:
        session: of the text.
        asked: by its device.
        chunk: what came.
        hidden: what travels.
        logits: behind the head; None before.
        singly: whether its rows are tokens that were written, one after another.
    """

    session: TextSession
    asked: Asked
    chunk: np.ndarray
    hidden: np.ndarray
    singly: bool
    logits: np.ndarray | None = None


class TextServer:
    """The model, cut everywhere. Used by one thread.

    Args:
        model: a GGUF file, a folder with one, or a folder of stages; None for SmolLM2.
        settings: the most that devices may ask for.

    Raises:
        InputError: the model cannot be used.
        MissingExtraError: the extra `text` is not installed.
    """

    def __init__(self, model: Path | None, settings: TextSettings) -> None:
        self.text_model = text_model(model)
        self._settings = settings
        self._decoder = Decoder(self.text_model)
        self.states = States(self.text_model)
        self._together = Together(self._decoder)
        self._stages = 0
        self._known: Tolerances | None = None
        self._probes: dict[int, str] = {}
        self._sessions: WeakSet[TextSession] = WeakSet()

    @property
    def model(self) -> Model:
        """The model it holds."""
        return job_model(self.text_model)

    @property
    def about(self) -> Mapping[str, Json]:
        """How long texts may be."""
        return {"rows_max": self.text_model.rows_max, "tokens_max": self._settings.tokens_max}

    @property
    def audit_power(self) -> float:
        """Share of the least noticeable cheats that were found when tolerances were measured."""
        return self._tolerances().power

    def warm(self) -> None:
        """Opens every stage, tries whether texts can pass them together, and measures tolerances
        unless the model's folder has them."""
        self._decoder.load(range(self.text_model.stages))
        self._together.load()
        if alike(self._decoder, self._together):
            self._stages = self.text_model.sizes.blocks + 1
        self._tolerances()

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """What an exchange brings."""
        return expected_of(self.text_model, amount, exchange)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The token that was drawn."""
        return returned()

    def begin(self, amount: int, seed: int) -> TextSession:
        """A session; it takes no memory worth speaking of before its first exchange."""
        rest = range(amount + 1, self.text_model.sizes.blocks + 1)
        return TextSession(amount=amount, seed=seed, state=self.states.new(rest))

    def answer(self, batch: Sequence[tuple[TextSession, Tensors]]) -> list[Reply | InputError]:
        """The next token of each text, or nothing yet where its prompt is not whole."""
        return [self._answered(session, sent) for session, sent in batch]

    @property
    def stages(self) -> int:
        """Blocks, and the head; 0 before it is warm, and where texts change each other."""
        return self._stages

    def enter(self, session: TextSession, sent: Tensors) -> tuple[int, Any] | InputError:
        """The first block that is left to the server, and what it starts from."""
        try:
            found = self._entered(session, sent)
        except InputError as error:
            return error
        if isinstance(found, Reply):
            return self.text_model.sizes.blocks + 1, found
        return session.amount, found

    def advance(
        self, travelling: Sequence[Any], start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[Any], int]:
        """Takes texts through blocks together, and through the head."""
        texts: list[_OnItsWay] = list(travelling)
        for stage in range(start, stop):
            texts = self._passed(texts, stage)
            if stage + 1 < stop and pause():
                return list(texts), stage + 1
        return list(texts), stop

    def leave(self, session: TextSession, travelled: Any) -> Reply | InputError:
        """The token that is drawn."""
        if isinstance(travelled, Reply):
            return travelled
        try:
            return self._left(travelled)
        except InputError as error:
            session.state.busy = False
            return error

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """About 100 bytes a token, 1 KB of a longer chunk; nothing where tokens themselves came."""
        if amount == 0 or not np.asarray(sent["hidden"]).shape[1]:
            return b""
        token = reply.outputs.get("token")
        found = kept(
            np.asarray(sent["hidden"]),
            token=-1 if token is None else int(np.asarray(token).reshape(-1)[0]),
            key=key,
            exchange=exchange,
        )
        if exchange > 0:
            return found
        # How the device computes, as it says: 16 bytes before what is kept of its first chunk.
        (asked,) = sent["asked"]
        return bytes.fromhex(Asked.read(bytes(asked)).probe) + found

    def passes_audit(
        self,
        amount: int,
        evidence: Sequence[bytes],
        source: bytes,
        *,
        seed: int,
        codec: Codec,
        key: bytes,
    ) -> bool:
        """Whether what came is what the device's blocks make of the prompt, and of the tokens that
        were drawn, in the chunks in which it came."""
        tokens = list(self._prompt_in(source))
        if amount == 0:
            return True
        if not evidence or len(evidence[0]) < PROBE_BYTES:
            return False
        told, *others = evidence
        if others and not others[-1]:
            del others[-1]  # the device ended the text
        found = [read_kept(each) for each in (told[PROBE_BYTES:], *others)]
        came = sum(each.chunk for each in found if each is not None)
        if None in found or came < len(tokens):
            return False
        exact = told[:PROBE_BYTES].hex() == self._probe(amount)
        specs = self.expects(amount, 1)
        limit = self._tolerances().of(amount, exact=exact)
        state = self.states.new(range(1, amount + 1))
        start = 0
        try:
            for exchange, each in enumerate(found):
                assert isinstance(each, Kept)
                chunk = tokens[start : start + each.chunk]
                start += each.chunk
                if len(chunk) < each.chunk:
                    return False
                own = self._decoder.blocks(state, self._decoder.embed(np.array(chunk)))
                seen = codec.unpack(codec.pack({"hidden": own}, specs), specs)["hidden"]
                scale = self._tolerances().scale[amount - 1]
                apart = deviation(each, np.asarray(seen), scale, key=key, exchange=exchange)
                if not apart <= limit:
                    return False
                if each.token >= 0:
                    tokens.append(each.token)
        finally:
            self.states.release(state)
        return True

    # ------------------------------------------------------------ private

    def _answered(self, session: TextSession, sent: Tensors) -> Reply | InputError:
        try:
            found = self._entered(session, sent)
            if isinstance(found, Reply):
                return found
            through = self._decoder.singly if found.singly else self._decoder.blocks
            session.state.busy = False
            hidden = through(session.state, found.hidden)
            # What follows counts it as what has passed with others.
            session.state.back_to(min(session.position, session.state.position))
            if found.chunk.shape[1] >= self._left_of(found):
                found = replace(found, logits=self._decoder.logits(hidden[:, -1:]))
            return self._left(found)
        except InputError as error:
            # Nothing of the exchange stays.
            if session.state.position > session.position:
                session.state.back_to(session.position)
            return error

    def _entered(self, session: TextSession, sent: Tensors) -> _OnItsWay | Reply:
        """Checks what came, and makes room for it."""
        asked = session.asked or self._asked(sent)
        chunk = chunk_in(sent, session.amount)
        count, left = chunk.shape[1], asked.prompt_tokens - session.position
        if count == 0 and session.written:
            self.states.release(session.state)
            told_end = {"reason": "stopped"}
            return Reply(outputs={}, units=session.written, told=told_end)
        if not 1 <= count <= max(left, 1):
            raise InputError("infer request", "text", f"1 to {max(left, 1)} tokens", count)
        if session.amount == 0 and left <= 0 and int(chunk[0, 0]) != session.token:
            expected = f"{session.token}, the token that was drawn"
            raise InputError("infer request", "tokens", expected, int(chunk[0, 0]))
        if session.state.evicted:
            for before, singly in session.chunks:
                through = self._decoder.singly if singly else self._decoder.blocks
                through(session.state, self._hidden(session, before))
        hidden = self._hidden(session, chunk)
        self._decoder.begin(session.state, count)
        return _OnItsWay(session=session, asked=asked, chunk=chunk, hidden=hidden, singly=left <= 0)

    def _passed(self, texts: list[_OnItsWay], stage: int) -> list[_OnItsWay]:
        """Behind a stage; the states still stand where they stood."""
        if stage < self.text_model.sizes.blocks:
            rows = [
                Rows(state=each.session.state, hidden=each.hidden, singly=each.singly)
                for each in texts
            ]
            found = self._together.block(stage + 1, rows)
            return [replace(each, hidden=hidden) for each, hidden in zip(texts, found, strict=True)]
        # Of a prompt that is not whole yet nobody asks what comes next.
        heard = [each for each in texts if each.chunk.shape[1] >= self._left_of(each)]
        if not heard:
            return texts
        last = np.concatenate([each.hidden[:, -1:] for each in heard], axis=1)
        logits = iter(self._decoder.logits(last))
        return [
            replace(each, logits=next(logits)[None]) if each in heard else each for each in texts
        ]

    def _left(self, found: _OnItsWay) -> Reply:
        """Draws the next token, and notes what came."""
        session, asked, settings = found.session, found.asked, found.asked.settings
        count = found.chunk.shape[1]
        told = None
        if found.logits is not None:
            told = drawn(
                found.logits[0],
                settings.sampling,
                seed=session.seed if settings.seed < 0 else settings.seed,
                place=session.position + count,
                alternatives=settings.alternatives,
            )
        self._decoder.end(session.state, count)
        session.asked = asked
        session.chunks.append((found.chunk, found.singly))
        session.position += count
        self._sessions.add(session)
        if told is None:
            return Reply(outputs={}, finished=False)
        return self._told(session, settings, told)

    def _told(self, session: TextSession, settings: TextSettings, found: Drawn) -> Reply:
        session.token, session.written = found.token, session.written + 1
        ended = found.token in self.text_model.ends
        full = (
            session.written >= settings.tokens_max
            or session.position + 1 >= self.text_model.rows_max
        )
        told: dict[str, Json] = {"logprob": found.logprob}
        if found.likeliest:
            told["likeliest"] = json.dumps(found.likeliest)
        if ended or full:
            told["reason"] = "stop" if ended else "length"
            self.states.release(session.state)
        return Reply(
            outputs={"token": np.array([[found.token]], np.int32)},
            finished=ended or full,
            units=session.written,
            told=told,
        )

    @staticmethod
    def _left_of(found: _OnItsWay) -> int:
        """Tokens of the prompt that had not come before."""
        return found.asked.prompt_tokens - found.session.position

    def _hidden(self, session: TextSession, chunk: np.ndarray) -> np.ndarray:
        """What the server's first block starts from."""
        hidden = self._decoder.embed(chunk[0]) if session.amount == 0 else chunk
        return np.ascontiguousarray(hidden, np.float32)

    def _asked(self, sent: Tensors) -> Asked:
        kept = sum(each.nbytes for session in self._sessions for each, _ in session.chunks)
        if kept > KEPT_BYTES_MAX:
            expected = f"at most {KEPT_BYTES_MAX} bytes of texts under way"
            raise InputError("infer request", "asked", expected, f"{kept}")
        (content,) = sent["asked"]
        asked = Asked.read(bytes(content))
        most = self.text_model.rows_max - 1
        for name, found, limit in (
            ("prompt_tokens", asked.prompt_tokens, most),
            ("tokens_max", asked.settings.tokens_max, self._settings.tokens_max),
        ):
            if found > limit:
                raise InputError("infer request", f"asked.{name}", f"at most {limit}", found)
        return asked

    def _prompt_in(self, source: bytes) -> list[int]:
        expected = "JSON with the tokens of the prompt"
        known = self.text_model.sizes.vocabulary
        try:
            if len(source) > SOURCE_BYTES_MAX:
                raise ValueError
            found = json.loads(source)["prompt"]
            fits = isinstance(found, list) and all(
                type(each) is int and 0 <= each < known for each in found
            )
            if not fits or not 1 <= len(found) < self.text_model.rows_max:
                raise ValueError
        except (ValueError, RecursionError, KeyError, TypeError):
            raise InputError("source", "prompt", expected, "something else") from None
        return list(found)

    def _probe(self, amount: int) -> str:
        if amount not in self._probes:
            self._probes[amount] = probe(self._decoder, self.states, amount)
        return self._probes[amount]

    def _tolerances(self) -> Tolerances:
        if self._known is None:
            self._known = known_tolerances(self._decoder, self.states)
        return self._known
