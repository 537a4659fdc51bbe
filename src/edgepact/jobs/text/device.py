"""The device's half of a text: embed and the first blocks, a token at a time.

What it has sent is kept for as long as the piece lasts: if the server has lost the session, all of
it is sent again, in the same chunks, and the server draws the same tokens from the same seed. If
the server stays away and the device may do all blocks, they go on from what was sent: nothing that
was computed is computed again.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.inference.decoder import CHUNK_MAX, Decoder, State, States
from edgepact.inference.gguf.known import text_model
from edgepact.inference.gguf.tokenizer import TextTokenizer
from edgepact.inference.sampling import Drawn, drawn
from edgepact.jobs.text.evidence import probe
from edgepact.jobs.text.exchange import Asked, chunks_of, expected_of, job_model, returned
from edgepact.jobs.text.prompts import Prompt, TextSettings, own_prompts, read_prompts
from edgepact.tensors import Tensors, TensorSpec
from edgepact.work import Model, Reply, ServerAway, SessionLost, Work


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
        return expected_of(self.text_model, amount, exchange)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The token that was drawn."""
        return returned()

    def source(self, piece: Prompt) -> bytes:
        """The tokens of the prompt: with those that the server has drawn, all that the device's
        part of a text is made from."""
        return json.dumps({"prompt": list(piece.tokens)}).encode()

    def work(self, piece: Prompt, amount: int) -> Work:
        """Sends the prompt, then each token that is told, through the device's blocks.

        Raises:
            InputError: the prompt is empty or too long for the model.
        """
        probed = self._probes.get(amount, "")
        writing = _Writing(self._decoder, self._states, piece, amount, probed)
        start_s, first_s, replays, alone = time.monotonic(), 0.0, 0, 0
        reason, at, ended = "length", 0, False
        try:
            while True:
                sent = writing.sent(at, end=ended)
                try:
                    reply = yield sent
                except SessionLost:
                    at, replays = 0, replays + 1
                    continue
                except ServerAway:
                    for found in () if ended else writing.alone():
                        alone += 1
                        if piece.on_token(found):
                            ended = True
                            break
                    reason = "stop" if writing.tokens[-1] in self.text_model.ends else "length"
                    reason = "stopped" if ended else reason
                    break
                at += 1
                told = _drawn_in(reply)
                if told is not None and writing.take(at, told):
                    first_s = first_s or time.monotonic() - start_s
                    ended = piece.on_token(told)
                if reply.finished:
                    reason = str(reply.told.get("reason"))
                    break
        finally:
            writing.close()
        written = writing.tokens[len(piece.tokens) :]
        return {
            "prompt": piece.text,
            "text": self.tokenizer.text(written),
            "prompt_tokens": len(piece.tokens),
            "tokens": len(written),
            "reason": reason,
            "replays": replays,
            "tokens_alone": alone,
            "first_token_seconds": first_s,
            "text_seconds": time.monotonic() - start_s,
        }


# ---------------------------------------------------------------- private


def _drawn_in(reply: Reply) -> Drawn | None:
    """The token of an answer, if it tells one."""
    token = reply.outputs.get("token")
    if token is None:
        return None
    logprob = reply.told.get("logprob")
    likeliest = json.loads(str(reply.told.get("likeliest", "[]")))
    return Drawn(
        token=int(np.asarray(token).reshape(-1)[0]),
        logprob=float(logprob) if isinstance(logprob, int | float) else 0.0,
        likeliest=tuple((int(each), float(value)) for each, value in likeliest),
    )


_NO_TOKENS = np.zeros((1, 0), np.int32)


class _Writing:
    """A text as it grows: its tokens, and what was sent of it."""

    def __init__(
        self, decoder: Decoder, states: States, piece: Prompt, amount: int, probed: str
    ) -> None:
        most = decoder.model.rows_max - 1
        if not 1 <= len(piece.tokens) <= most:
            expected = f"1 to {most} tokens"
            raise InputError("prompt", "tokens", expected, len(piece.tokens))
        self.tokens = list(piece.tokens)
        self._decoder, self._states, self._amount = decoder, states, amount
        count, settings = len(piece.tokens), piece.settings
        self._asked = Asked(prompt_tokens=count, settings=settings, name=piece.name)
        if probed:
            self._asked = replace(self._asked, probe=probed)
        self._piece = piece
        self._lengths = chunks_of(len(piece.tokens))
        self._state = states.new(range(1, amount + 1))
        self._sent: list[np.ndarray] = []
        self._rest: State | None = None

    def close(self) -> None:
        """Gives memory back."""
        self._states.release(self._state)
        if self._rest is not None:
            self._states.release(self._rest)

    def sent(self, exchange: int, *, end: bool = False) -> Tensors:
        """What an exchange brings; computed the first time.

        Args:
            exchange: counted from 0.
            end: whether the first one that was not sent yet ends the text.
        """
        if exchange == len(self._sent) and end:
            return {"hidden": self._sent[0][:, :0]} if self._amount else {"tokens": _NO_TOKENS}
        if exchange == len(self._sent):
            self._sent.append(self._computed(exchange))
        chunk = self._sent[exchange]
        name = "hidden" if self._amount else "tokens"
        if exchange > 0:
            return {name: chunk}
        return {"asked": (self._asked.as_bytes(),), name: chunk}

    def take(self, exchanges: int, told: Drawn) -> bool:
        """Takes the token that was drawn after so many exchanges; whether it is a new one."""
        place = self._place(exchanges)
        if place < len(self.tokens) and self.tokens[place] != told.token:
            # A text that is sent again may go on otherwise on another machine.
            del self.tokens[place:], self._sent[exchanges:]
            if not self._state.evicted and self._amount:
                self._state.back_to(min(place, self._state.position))
        if place == len(self.tokens):
            self.tokens.append(told.token)
            return True
        return False

    def alone(self) -> Iterator[Drawn]:
        """Goes on without the server, to the end of the text."""
        decoder, settings = self._decoder, self._piece.settings
        model = decoder.model
        self._rest = self._states.new(range(self._amount + 1, model.sizes.blocks + 1))
        exchange = 0
        while len(self.tokens) < min(len(self._piece.tokens) + settings.tokens_max, model.rows_max):
            if len(self.tokens) > len(self._piece.tokens) and self.tokens[-1] in model.ends:
                return
            last = None
            while self._place(exchange) < len(self.tokens):
                self.sent(exchange)
                chunk = self._sent[exchange]
                hidden = chunk if self._amount else decoder.embed(chunk[0])
                last = decoder.blocks(self._rest, hidden)[:, -1:]
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

    def _place(self, exchanges: int) -> int:
        """Tokens that so many exchanges bring."""
        prompt = len(self._lengths)
        return sum(self._lengths[:exchanges]) + max(0, exchanges - prompt)

    def _computed(self, exchange: int) -> np.ndarray:
        start, stop = self._place(exchange), self._place(exchange + 1)
        if not self._amount:
            return np.array(self.tokens[start:stop], np.int32).reshape(1, -1)
        if self._state.evicted:
            for before in range(exchange):
                self._through(self._place(before), self._place(before + 1))
        return self._through(start, stop)

    def _through(self, start: int, stop: int) -> np.ndarray:
        chunk = np.array(self.tokens[start:stop])
        assert 1 <= len(chunk) <= CHUNK_MAX
        return self._decoder.blocks(self._state, self._decoder.embed(chunk))
