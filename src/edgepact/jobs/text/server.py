"""The server's half of a text: the blocks that are left, the head, and the drawing of tokens.

A session keeps what came of its text, which is small, and a state of keys and values, which is
not: where memory gets short the state is taken away and computed again from what came, in the same
chunks, so that the device notices nothing but a pause.

Pieces pass the blocks together where no bit of one hangs on the others (`inference.together`),
which is tried when the part is warmed; else one by one.
"""

import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np

from edgepact.errors import InputError
from edgepact.inference.decoder import CHUNK_MAX, Decoder, State, States
from edgepact.inference.gguf.known import text_model
from edgepact.inference.sampling import Drawn, drawn
from edgepact.inference.together import Rows, Together, alike
from edgepact.jobs.text.evidence import (
    NONCE_BYTES,
    Kept,
    Tolerances,
    deviation,
    first_kept,
    kept,
    known_tolerances,
    probe,
    read_first,
    read_kept,
    reused_deviation,
    reused_kept,
)
from edgepact.jobs.text.exchange import (
    KEPT,
    NOT_KEPT,
    REUSED,
    Asked,
    Run,
    as_numbers,
    chunk_in,
    drawn_in,
    expected_of,
    job_model,
    returned,
    runs_until,
    source_of,
    told_of,
)
from edgepact.jobs.text.prompts import TextSettings
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply

SOURCE_BYTES_MAX = 1 << 20

KEPT_BYTES_MAX = 1 << 30
"""Most bytes of what came of texts; beyond it none is kept, and no new one is begun."""

SHARE_KEPT = 16
"""Finished texts that are kept for each that the setting `texts_kept` grants a device."""


@dataclass(slots=True, kw_only=True, eq=False, weakref_slot=True)
class TextSession:
    """A text under way.

    Attributes:
        amount: blocks that the device does.
        seed: of the tokens that are drawn.
        state: keys and values of the server's blocks.
        asked: by the device; None before its first exchange.
        chunks: all that came, as it came, and whether its rows attended singly; those first that
            stood in a text that was kept.
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
        logits: behind the head, of its last row or of each that is a guess; None before.
        singly: whether its rows are tokens that were written, one after another.
        guessed: tokens behind its first, which are so far the device's guesses.
    """

    session: TextSession
    asked: Asked
    chunk: np.ndarray
    hidden: np.ndarray
    singly: bool
    guessed: tuple[int, ...] = ()
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
        self._texts_kept: OrderedDict[str, TextSession] = OrderedDict()

    @property
    def model(self) -> Model:
        """The model it holds."""
        return job_model(self.text_model)

    @property
    def about(self) -> Mapping[str, Json]:
        """How long texts may be, and how many tokens may be guessed ahead."""
        return {
            "rows_max": self.text_model.rows_max,
            "tokens_max": self._settings.tokens_max,
            "drafts": self._settings.drafts,
        }

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
        return expected_of(self.text_model, amount, exchange, drafts=self._settings.drafts)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The token that was drawn, or several where the device has guessed."""
        return returned(self._settings.drafts)

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
        """About 200 bytes a token, 100 of one that is reused, 1 KB of a longer chunk; nothing where
        tokens themselves came."""
        if amount == 0 or not np.asarray(sent["hidden"]).shape[1]:
            return b""
        tokens = [each.token for each in drawn_in(reply)]
        hidden = np.asarray(sent["hidden"])
        if len(tokens) > 1 or np.asarray(sent.get("guessed", ())).size:
            hidden = hidden[:, : len(tokens)]  # wrong guesses are nobody's work
        found = kept(hidden, tokens=tokens, key=key, exchange=exchange)
        if exchange > 0:
            return found
        (asked,) = sent["asked"]
        told = str(reply.told.get(REUSED, "[]"))
        if told == NOT_KEPT:
            told, found = "[]", b""
        return first_kept(Asked.read(bytes(asked)).probe, json.loads(told), reply.noted) + found

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
        first = read_first(evidence[0]) if evidence else None
        if first is None:
            return False
        probed, runs, before, told = first
        others = list(evidence[1:])
        if others and not others[-1]:
            del others[-1]  # the device ended the text
        # Nothing came with the name of a text that was not kept any more.
        found = [read_kept(each) for each in ([told] if told else []) + others]
        reused = sum(length for length, _ in runs)
        came = reused + sum(each.chunk for each in found if each is not None)
        if None in found or came < len(tokens) or reused >= len(tokens):
            return False
        exact = probed == self._probe(amount)
        specs = expected_of(self.text_model, amount, 1)
        limit = self._tolerances().of(amount, exact=exact)
        scale = self._tolerances().scale[amount - 1]
        state = self.states.new(range(1, amount + 1))
        start, prompt = 0, len(tokens)
        try:
            rows = []
            for length, singly in runs:
                own = self._again(state, tokens[start : start + length], singly=singly)
                rows.append(codec.unpack(codec.pack({"hidden": own}, specs), specs)["hidden"])
                start += length
            if rows:
                seen = np.concatenate([np.asarray(each) for each in rows], axis=1)
                if not reused_deviation(before, seen, scale) <= limit:
                    return False
            for exchange, each in enumerate(found, 0 if told else 1):
                assert isinstance(each, Kept)
                tokens += each.tokens
                chunk = tokens[start : start + each.chunk]
                singly = start >= prompt
                start += each.chunk
                if len(chunk) < each.chunk:
                    return False
                own = self._again(state, chunk, singly=singly)
                seen = np.asarray(codec.unpack(codec.pack({"hidden": own}, specs), specs)["hidden"])
                apart = deviation(each, seen, scale, key=key, exchange=exchange)
                if not apart <= limit:
                    return False
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
                asked_for = hidden if found.singly else hidden[:, -1:]
                found = replace(found, logits=self._decoder.logits(asked_for))
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
        if session.asked is None and asked.kept and not self._reused(session, asked):
            session.asked = replace(asked, kept="", reused=0)
            return Reply(outputs={}, finished=False, told={REUSED: NOT_KEPT})
        count, left = chunk.shape[1], asked.prompt_tokens - session.position
        if count == 0 and session.written:
            told_end: dict[str, Json] = {"reason": "stopped"}
            told_end |= self._keep(session, asked.settings)
            source = _source_of(session, asked)
            return Reply(outputs={}, units=session.written, told=told_end, source=source)
        most = left if left > 0 else 1 + self._settings.drafts
        if not 1 <= count <= most:
            raise InputError("infer request", "text", f"1 to {most} tokens", count)
        if session.amount == 0 and left <= 0 and int(chunk[0, 0]) != session.token:
            expected = f"{session.token}, the token that was drawn"
            raise InputError("infer request", "tokens", expected, int(chunk[0, 0]))
        guessed = self._guessed(session, sent, 1 if left > 0 else count)
        if session.state.evicted:
            for before, singly in session.chunks:
                through = self._decoder.singly if singly else self._decoder.blocks
                through(session.state, self._hidden(session, before))
        hidden = self._hidden(session, chunk)
        self._decoder.begin(session.state, count)
        return _OnItsWay(
            session=session,
            asked=asked,
            chunk=chunk,
            hidden=hidden,
            singly=left <= 0,
            guessed=guessed,
        )

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
        asked_for = [each.hidden if each.singly else each.hidden[:, -1:] for each in heard]
        logits = self._decoder.logits(np.concatenate(asked_for, axis=1))
        ends = np.cumsum([each.shape[1] for each in asked_for])[:-1]
        parted = iter(np.split(logits, ends))
        return [replace(each, logits=next(parted)) if each in heard else each for each in texts]

    def _left(self, found: _OnItsWay) -> Reply:
        """Draws the next token, and one more for each guess that was right; notes what came."""
        session, asked, settings = found.session, found.asked, found.asked.settings
        count = found.chunk.shape[1]
        seed = session.seed if settings.seed < 0 else settings.seed
        told: list[Drawn] = []
        ended = full = False
        for row, logits in enumerate(() if found.logits is None else found.logits):
            place = session.position + (row + 1 if found.singly else count)
            each = drawn(
                logits,
                settings.sampling,
                seed=seed,
                place=place,
                alternatives=settings.alternatives,
            )
            told.append(each)
            ended = each.token in self.text_model.ends
            full = (
                session.written + len(told) >= settings.tokens_max
                or place + 1 >= self.text_model.rows_max
            )
            right = row < len(found.guessed) and found.guessed[row] == each.token
            if ended or full or not right:
                break
        used = len(told) if found.singly else count
        self._decoder.end(session.state, used)
        first: dict[str, Json] = {}
        noted = b""
        if session.asked is None and asked.kept:
            first[REUSED] = json.dumps(as_numbers(_runs(session)))
            if session.amount:
                rows = np.concatenate([each for each, _ in session.chunks], axis=1)
                noted = reused_kept(rows, secrets.token_bytes(NONCE_BYTES))
        session.asked = asked
        session.chunks.append((found.chunk[:, :used], found.singly))
        session.position += used
        self._sessions.add(session)
        if not told:
            return Reply(outputs={}, finished=False, told=first, noted=noted)
        session.token, session.written = told[-1].token, session.written + len(told)
        facts = {**first, **told_of(told)}
        if ended or full:
            facts["reason"] = "stop" if ended else "length"
            facts |= self._keep(session, settings)
        return Reply(
            outputs={"token": np.array([[each.token for each in told]], np.int32)},
            finished=ended or full,
            units=session.written,
            told=facts,
            noted=noted,
            source=_source_of(session, asked) if ended or full else None,
        )

    def _keep(self, session: TextSession, settings: TextSettings) -> dict[str, Json]:
        """Keeps a finished text for whoever is told its name, as far as there is room."""
        most = self._settings.texts_kept * SHARE_KEPT
        if not most or not settings.texts_kept or session.state.evicted:
            self.states.release(session.state)
            return {}
        name = secrets.token_hex(16)
        self._texts_kept[name] = session
        while len(self._texts_kept) > most:
            self._forget_oldest()
        return {KEPT: name}

    def _forget_oldest(self) -> None:
        _, oldest = self._texts_kept.popitem(last=False)
        self.states.release(oldest.state)
        oldest.chunks = []

    def _reused(self, session: TextSession, asked: Asked) -> bool:
        """Begins a text with what it has of one that was kept, if it still is."""
        found = self._texts_kept.get(asked.kept)
        if found is None or found.amount != session.amount:
            return False
        if found.state.evicted:
            del self._texts_kept[asked.kept]
            return False
        self._texts_kept.move_to_end(asked.kept)
        runs = runs_until(_runs(found), asked.reused)
        if sum(length for length, _ in runs) != asked.reused or not asked.reused:
            return False
        session.position, session.chunks = 0, []
        session.state.take(found.state, asked.reused)
        for rows, singly in found.chunks:
            left = asked.reused - session.position
            if left > 0:
                session.chunks.append((rows[:, :left], singly))
                session.position += min(left, rows.shape[1])
        return True

    def _guessed(self, session: TextSession, sent: Tensors, count: int) -> tuple[int, ...]:
        """Tokens that a device guesses, behind the one that was told."""
        if session.amount == 0:
            rows = np.asarray(sent["tokens"])[0, 1:count]
        else:
            rows = np.asarray(sent.get("guessed", np.zeros((1, 0), np.int32)))[0]
        if len(rows) != count - 1:
            raise InputError("infer request", "guessed", f"{count - 1} tokens", len(rows))
        return tuple(int(each) for each in rows)

    @staticmethod
    def _left_of(found: _OnItsWay) -> int:
        """Tokens of the prompt that had not come before."""
        return found.asked.prompt_tokens - found.session.position

    def _again(self, state: State, tokens: list[int], *, singly: bool) -> np.ndarray:
        """Tokens through the device's blocks, as they went through them there."""
        chunks = [tokens[start : start + CHUNK_MAX] for start in range(0, len(tokens), CHUNK_MAX)]
        through = self._decoder.singly if singly else self._decoder.blocks
        found = [through(state, self._decoder.embed(np.array(chunk))) for chunk in chunks]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def _hidden(self, session: TextSession, chunk: np.ndarray) -> np.ndarray:
        """What the server's first block starts from."""
        hidden = self._decoder.embed(chunk[0]) if session.amount == 0 else chunk
        return np.ascontiguousarray(hidden, np.float32)

    def _asked(self, sent: Tensors) -> Asked:
        kept = self._bytes()
        while kept > KEPT_BYTES_MAX and self._texts_kept:
            self._forget_oldest()
            kept = self._bytes()
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

    def _bytes(self) -> int:
        """Of what came of texts under way, and of those that are kept."""
        return sum(each.nbytes for session in self._sessions for each, _ in session.chunks)

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


def _runs(session: TextSession) -> list[Run]:
    """How what came of a text has attended."""
    runs = [(rows.shape[1], singly) for rows, singly in session.chunks]
    return runs_until(runs, session.position)


def _source_of(session: TextSession, asked: Asked) -> bytes | None:
    """What a text was written from, as its device says it; None where tokens did not come."""
    if session.amount:
        return None
    came = np.concatenate([rows[0] for rows, _ in session.chunks])
    return source_of(came[: asked.prompt_tokens].tolist())
