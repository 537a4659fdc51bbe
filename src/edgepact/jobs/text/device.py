"""The device's half of a text: embed and the first blocks, a token at a time.

What it has sent is kept for as long as the piece lasts: if the server has lost the session, all of
it is sent again, in the same chunks, and the server draws the same tokens from the same seed. If
the server stays away and the device may do all blocks, they go on from what was sent: nothing that
was computed is computed again.

Of finished texts the last few are kept, with their keys and values. A prompt that begins like one
of them goes on from there, at the server too where it has kept its half; if it has not, the prompt
is sent whole.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.exhibit import Exhibit
from edgepact.inference.decoder import CHUNK_MAX, Decoder, State, States
from edgepact.inference.drafts import guesses
from edgepact.inference.gguf.known import text_model
from edgepact.inference.gguf.tokenizer import TextTokenizer
from edgepact.inference.sampling import Drawn, drawn
from edgepact.jobs.text.evidence import probe
from edgepact.jobs.text.exchange import (
    KEPT,
    NOT_KEPT,
    REUSED,
    Asked,
    Run,
    chunks_of,
    drawn_in,
    expected_of,
    job_model,
    returned,
    runs_until,
    source_of,
)
from edgepact.jobs.text.prompts import Prompt, TextSettings, own_prompts, read_prompts
from edgepact.tensors import Tensors, TensorSpec, TensorValue
from edgepact.work import Json, Model, Reply, ServerAway, SessionLost, Work


class TextDevice:
    """The prompts of a device, and the blocks that it runs on them.

    Args:
        model: a GGUF file, a folder with one, or a folder of stages; None for SmolLM2.
        inputs: a file of prompts, a line each; None for those that come with the job.
        settings: how texts are written.

    Raises:
        InputError: model or prompts cannot be used.
        MissingExtraError: the extra `text` is not installed.
    """

    def __init__(self, model: Path | None, inputs: Path | None, settings: TextSettings) -> None:
        texts = read_prompts(inputs or own_prompts())
        self.text_model = text_model(model)
        self.tokenizer = TextTokenizer(self.text_model)
        self.settings = settings
        self._decoder = Decoder(self.text_model)
        self._states = States(self.text_model)
        self._probes: dict[int, str] = {}
        self._kept = _TextsKept(self._states, settings.texts_kept)
        self._pieces = [self.prompt(text, settings) for text in texts]

    @property
    def model(self) -> Model:
        """The model it holds."""
        return job_model(self.text_model)

    def pieces(self) -> Sequence[Prompt]:
        """A piece for each prompt."""
        return self._pieces

    def prompt(self, text: str, settings: TextSettings) -> Prompt:
        """A prompt as a piece of work.

        Raises:
            InputError: a chat is asked for, and the model has no template of chats.
        """
        if settings.chat:
            tokens = self.tokenizer.chat([{"role": "user", "content": text}])
        else:
            tokens = self.tokenizer.tokens(text)
        return Prompt(tokens=tuple(tokens), settings=settings, text=text)

    def prepare(self, amount: int) -> None:
        """Opens embed and the blocks of the cut."""
        if amount > 0:
            self._decoder.load(range(amount + 1))
            if amount not in self._probes:
                self._probes[amount] = probe(self._decoder, self._states, amount)

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """What is sent."""
        return expected_of(self.text_model, amount, exchange, drafts=self.settings.drafts)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The token that was drawn, or several where it has guessed."""
        return returned(self.settings.drafts)

    def source(self, piece: Prompt) -> bytes:
        """The tokens of the prompt: with those that the server has drawn, all that the device's
        part of a text is made from."""
        return source_of(piece.tokens)

    def exhibit(self, piece: Prompt, result: Mapping[str, Json]) -> Exhibit:
        """The prompt, and the text."""
        return Exhibit(given=str(result["prompt"]), answer=str(result["text"]))

    def work(self, piece: Prompt, amount: int) -> Work:
        """Sends the prompt, then each token that is told, through the device's blocks.

        Raises:
            InputError: the prompt is empty or too long for the model.
        """
        probed = self._probes.get(amount, "")
        writing = _Writing(self._decoder, self._states, piece, amount, probed, self._kept)
        start_s, first_s, replays, alone = time.monotonic(), 0.0, 0, 0
        reason, at, ended = "length", 0, False
        until: int | None = None  # tokens, of which the reader has not seen those behind

        def tell(found: Sequence[Drawn]) -> bool:
            """Tells new tokens; whether the text ends there."""
            nonlocal first_s, until
            for place, each in enumerate(found, len(writing.tokens) - len(found) + 1):
                first_s = first_s or time.monotonic() - start_s
                if piece.on_token(each):
                    until = place
                    return True
            return False

        try:
            while True:
                sent = writing.sent(at, end=ended)
                try:
                    reply = yield sent
                except SessionLost:
                    writing.lost()
                    at, replays = 0, replays + 1
                    continue
                except ServerAway:
                    for found in () if ended else writing.alone():
                        alone += 1
                        if tell([found]):
                            ended = True
                            break
                    reason = "stop" if writing.tokens[-1] in self.text_model.ends else "length"
                    reason = "stopped" if ended else reason
                    break
                if reply.told.get(REUSED) == NOT_KEPT:
                    writing.refused()
                else:
                    ended = tell(writing.take(at, drawn_in(reply))) or ended
                at += 1
                if reply.finished:
                    writing.keep(reply)
                    reason = str(reply.told.get("reason"))
                    break
        finally:
            writing.close()
        written = writing.tokens[len(piece.tokens) : until]
        return {
            "prompt": piece.text,
            "text": self.tokenizer.text(written),
            "prompt_tokens": len(piece.tokens),
            "reused_tokens": writing.reused,
            "steps": writing.steps,
            "tokens": len(written),
            "reason": reason,
            "replays": replays,
            "tokens_alone": alone,
            "first_token_seconds": first_s,
            "text_seconds": time.monotonic() - start_s,
        }


# ---------------------------------------------------------------- private


_NO_TOKENS = np.zeros((1, 0), np.int32)

REUSED_LEAST = 8
"""Tokens that a prompt and a kept text have in common, for it to be worth while."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _TextKept:
    """A finished text.

    Attributes:
        name: by which the server has kept its half.
        amount: blocks of the device.
        tokens: that stand in its keys and values.
        runs: how they attended.
        state: keys and values of the device's blocks.
    """

    name: str
    amount: int
    tokens: tuple[int, ...]
    runs: tuple[Run, ...]
    state: State


class _TextsKept:
    """The last few texts of this device."""

    def __init__(self, states: States, most: int) -> None:
        self._states, self._most = states, most
        self._texts: deque[_TextKept] = deque()

    @property
    def most(self) -> int:
        return self._most

    def keep(self, text: _TextKept) -> None:
        """Keeps one more, and forgets the oldest."""
        self._texts.append(text)
        while len(self._texts) > self._most:
            self._states.release(self._texts.popleft().state)

    def like(self, prompt: Sequence[int], amount: int) -> tuple[_TextKept, list[Run]] | None:
        """The text with which a prompt has most tokens in common, and the runs of these."""
        best: tuple[_TextKept, list[Run]] | None = None
        most = REUSED_LEAST - 1
        for text in self._texts:
            if text.amount != amount or text.state.evicted:
                continue
            # The last token of a prompt has to come: what follows it is asked for.
            pairs = zip(text.tokens, prompt[:-1], strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            runs = runs_until(text.runs, same)
            length = sum(each for each, _ in runs)
            if length > most:
                most, best = length, (text, runs)
        if best is not None:
            self._texts.remove(best[0])
            self._texts.append(best[0])
        return best

    def forget(self, name: str) -> None:
        """Of one that the server has not kept, nothing can be reused."""
        for text in [each for each in self._texts if each.name == name]:
            self._texts.remove(text)
            self._states.release(text.state)


_Sent = tuple[np.ndarray, tuple[int, ...]]
"""A chunk, and the tokens in it that were guessed."""


class _Writing:
    """A text as it grows: its tokens, and what was sent of it.

    Attributes:
        tokens: that are known, prompt included.
        reused: of a text before.
        steps: exchanges that told a token.
    """

    def __init__(
        self,
        decoder: Decoder,
        states: States,
        piece: Prompt,
        amount: int,
        probed: str,
        kept: _TextsKept,
    ) -> None:
        most = decoder.model.rows_max - 1
        if not 1 <= len(piece.tokens) <= most:
            expected = f"1 to {most} tokens"
            raise InputError("prompt", "tokens", expected, len(piece.tokens))
        self.tokens = list(piece.tokens)
        self.reused = self.steps = 0
        self._decoder, self._states, self._amount = decoder, states, amount
        self._kept = kept
        count, settings = len(piece.tokens), piece.settings
        self._drafts = settings.drafts
        self._asked = Asked(prompt_tokens=count, settings=settings, name=piece.name)
        if probed:
            self._asked = replace(self._asked, probe=probed)
        self._piece = piece
        self._state = states.new(range(1, amount + 1))
        self._rest: State | None = None
        self._runs: list[Run] = []
        self._sent: list[_Sent] = []
        self._whole()
        found = kept.like(piece.tokens, amount)
        if found is not None:
            text, self._runs = found
            self.reused = sum(length for length, _ in self._runs)
            self._state.take(text.state, self.reused)
            self._asked = replace(self._asked, kept=text.name, reused=self.reused)
            self._lengths = chunks_of(count - self.reused)
            self._prompt_exchanges = len(self._lengths)

    def close(self) -> None:
        """Gives memory back."""
        for state in (self._state, self._rest):
            if state is not None:
                self._states.release(state)

    def sent(self, exchange: int, *, end: bool = False) -> Tensors:
        """What an exchange brings; computed the first time.

        Args:
            exchange: counted from 0.
            end: whether the first one that was not sent yet ends the text.
        """
        if exchange == len(self._sent):
            if end:
                self._sent.append((self._sent[0][0][:, :0], ()))
            else:
                self._sent.append(self._computed(exchange))
        chunk, guessed = self._sent[exchange]
        sent: dict[str, TensorValue] = {"hidden" if self._amount else "tokens": chunk}
        if self._amount and self._drafts:
            sent["guessed"] = np.array([guessed], np.int32).reshape(1, -1)
        return sent if exchange else {"asked": (self._asked.as_bytes(),), **sent}

    def take(self, exchange: int, told: Sequence[Drawn]) -> list[Drawn]:
        """Takes the tokens that were drawn after an exchange; returns those that are new."""
        if not told:
            return []
        self.steps += 1
        written = exchange >= self._prompt_exchanges
        first = self._place(exchange) + 1 if written else len(self._piece.tokens)
        if written and self._lengths[exchange : exchange + 1] != [len(told)]:
            # Wrong guesses stay with nobody.
            chunk, guessed = self._sent[exchange]
            self._forget_behind(exchange)
            self._lengths[exchange:] = [len(told)]
            self._sent[exchange] = chunk[:, : len(told)], guessed[: len(told) - 1]
        new = []
        for place, each in enumerate(told, first):
            if place < len(self.tokens) and self.tokens[place] != each.token:
                # A text that is sent again may go on otherwise on another machine.
                del self.tokens[place:]
                self._forget_behind(exchange)
            if place == len(self.tokens):
                self.tokens.append(each.token)
                new.append(each)
        if len(self._sent) == exchange + 1:
            self._back_to(self._place(exchange + 1))
        return new

    def refused(self) -> None:
        """The server has not kept the text that was named: the prompt is sent whole."""
        self._kept.forget(self._asked.kept)
        self._whole()
        self._lengths.insert(0, 0)
        self._sent = [((_NO_TOKENS if not self._amount else _no_rows(self._decoder)), ())]
        self._prompt_exchanges += 1

    def lost(self) -> None:
        """The session is lost, and with it what was reused."""
        if self.reused or not self._lengths[0]:
            self._whole()

    def keep(self, reply: Reply) -> None:
        """Keeps the finished text, if the server has kept its half."""
        name = reply.told.get(KEPT)
        if not isinstance(name, str) or not self._kept.most or self._state.evicted:
            return
        lengths = enumerate(self._lengths)
        sent = [(each, at >= self._prompt_exchanges) for at, each in lengths if each]
        count = self._place(len(self._lengths))
        runs = runs_until([*self._runs, *sent], count)
        if self._amount and self._state.position != count:
            return
        kept = _TextKept(
            name=name,
            amount=self._amount,
            tokens=tuple(self.tokens[:count]),
            runs=tuple(runs),
            state=self._state,
        )
        self._state = self._states.new(range(1, self._amount + 1))
        self._kept.keep(kept)

    def alone(self) -> Iterator[Drawn]:
        """Goes on without the server, to the end of the text."""
        decoder, settings = self._decoder, self._piece.settings
        model, prompt = decoder.model, len(self._piece.tokens)
        self._drafts = 0
        if self.reused or not self._lengths[0]:
            self._whole()
        elif len(self._sent) > len(self._lengths):
            # Nobody has looked at the guesses.
            self._lengths.append(1)
            self._sent[-1] = self._sent[-1][0][:, :1], ()
            self._back_to(self._place(len(self._sent)))
        self._rest = self._states.new(range(self._amount + 1, model.sizes.blocks + 1))
        exchange = 0
        while len(self.tokens) < min(prompt + settings.tokens_max, model.rows_max):
            if len(self.tokens) > prompt and self.tokens[-1] in model.ends:
                return
            last = None
            while self._place(exchange) < len(self.tokens):
                self.sent(exchange)
                chunk = self._sent[exchange][0]
                written = exchange >= self._prompt_exchanges
                if written and exchange == len(self._lengths):
                    self._lengths.append(chunk.shape[1])
                hidden = chunk if self._amount else decoder.embed(chunk[0])
                through = decoder.singly if written else decoder.blocks
                last = through(self._rest, hidden)[:, -1:]
                exchange += 1
            assert last is not None
            found = drawn(
                decoder.logits(last)[0],
                settings.sampling,
                seed=max(settings.seed, 0),
                place=len(self.tokens),
                alternatives=settings.alternatives,
            )
            self.tokens.append(found.token)
            yield found

    def _whole(self) -> None:
        """The prompt is to be sent from its first token on."""
        self.reused, self._runs = 0, []
        self._asked = replace(self._asked, kept="", reused=0)
        self._lengths = chunks_of(len(self._piece.tokens))
        self._prompt_exchanges = len(self._lengths)
        self._sent = []
        self._back_to(0)

    def _forget_behind(self, exchange: int) -> None:
        del self._sent[exchange + 1 :], self._lengths[max(exchange + 1, self._prompt_exchanges) :]

    def _back_to(self, position: int) -> None:
        if not self._state.evicted:
            self._state.back_to(min(position, self._state.position))

    def _place(self, exchanges: int) -> int:
        """Tokens that so many exchanges bring, with those that were reused."""
        return self.reused + sum(self._lengths[:exchanges])

    def _computed(self, exchange: int) -> _Sent:
        start = self._place(exchange)
        if exchange < self._prompt_exchanges:
            guessed: tuple[int, ...] = ()
            chunk = self.tokens[start : start + self._lengths[exchange]]
        else:
            guessed = self._guessed(start)
            chunk = [self.tokens[start], *guessed]
        if not self._amount:
            return np.array([chunk], np.int32), guessed
        if self._state.evicted:
            before = [*self._runs]
            before += [
                (length, at >= self._prompt_exchanges) for at, length in enumerate(self._lengths)
            ][:exchange]
            place = 0
            for length, singly in before:
                for at in range(place, place + length, CHUNK_MAX):
                    stop = min(place + length, at + CHUNK_MAX)
                    self._through(self.tokens[at:stop], singly=singly)
                place += length
        return self._through(chunk, singly=exchange >= self._prompt_exchanges), guessed

    def _guessed(self, start: int) -> tuple[int, ...]:
        """Tokens behind one that is known: known too, in a text that is sent again, or guessed."""
        settings, prompt = self._piece.settings, len(self._piece.tokens)
        last = min(prompt + settings.tokens_max, self._decoder.model.rows_max) - 1
        most = min(self._drafts, last - start - 1)
        known = self.tokens[start + 1 : start + 1 + max(most, 0)]
        return tuple(known) if known else guesses(self.tokens, most)

    def _through(self, tokens: Sequence[int], *, singly: bool) -> np.ndarray:
        through = self._decoder.singly if singly else self._decoder.blocks
        return through(self._state, self._decoder.embed(np.array(tokens)))


def _no_rows(decoder: Decoder) -> np.ndarray:
    return np.zeros((1, 0, decoder.model.sizes.width), np.float32)
