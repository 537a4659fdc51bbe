"""Takes chunks of several texts through a block together, each with its own keys and values.

What a block computes before and behind its attention it computes row by row: all rows of all texts
pass it at once, which costs far less than one after another. Attention is each text's own. On the
processors that are known here no bit of a row hangs on the rows beside it; whether that holds on
this machine `alike` finds out, by trying. Where it does not, texts are worked one by one, since a
result that depends on who else was there could not be computed again.

Rows of one text that come `singly` attend one after another, as tokens do that are written: so a
guess at the next tokens is looked at in one pass, and comes out as if they had come one by one.

Used by one thread. ONNX Runtime and NumPy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from edgepact.inference.decoder import Decoder, State, States
from edgepact.inference.gguf.folder import around_path, attention_path
from edgepact.inference.pipeline import open_session, tied

_TRIED = (1, 7, 3, 12)
"""Tokens of the texts with which `alike` tries."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """What travels of one text.

    Attributes:
        state: of the text; its position is that before these rows, until all blocks are passed.
        hidden: float32, `(1, rows, width)`.
        singly: whether each row attends as a token of its own.
    """

    state: State
    hidden: np.ndarray
    singly: bool


class Together:
    """The blocks of a model in three parts each, which are opened when they are first needed.

    Args:
        decoder: of the model, whose threads it uses.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._model, self._threads = decoder.model, decoder.threads
        self._around: dict[tuple[int, bool], ort.InferenceSession] = {}
        self._attention: ort.InferenceSession | None = None

    def load(self) -> None:
        """Opens all parts now and not with the first texts."""
        for block in range(1, self._model.sizes.blocks + 1):
            for behind in (False, True):
                self._part(block, behind)

    def block(self, block: int, texts: Sequence[Rows]) -> list[np.ndarray]:
        """Takes texts through a block.

        Args:
            block: its number, from 1; all states have it.
            texts: whose states have room for their rows (`Decoder.begin`).

        Returns:
            What comes out, of each text in the shape in which it came.
        """
        hidden = _joined([text.hidden for text in texts])
        (projected,) = self._part(block, False).run(["projected"], {"hidden": hidden})
        mixed = np.empty_like(hidden)
        start = 0
        for text in texts:
            stop = start + text.hidden.shape[1]
            step = 1 if text.singly else stop - start
            for at in range(start, stop, step):
                rows = slice(at, at + step)
                self._attend(text.state, block, at - start, projected[:, rows], mixed[:, rows])
            start = stop
        fed = {"hidden": hidden, "mixed": mixed}
        (found,) = self._part(block, True).run(["hidden_next"], fed)
        ends = np.cumsum([text.hidden.shape[1] for text in texts])[:-1]
        return np.split(found, ends, axis=1)

    def _attend(
        self, state: State, block: int, after: int, projected: np.ndarray, mixed: np.ndarray
    ) -> None:
        """Rows of one text attend; `mixed` takes what comes out."""
        at, rows = block - state.blocks.start, projected.shape[1]
        state.count(state.position + after + rows)
        found = state.attentions.get(at)
        if found is None or rows > 1:
            session = self._attending()
            came = np.empty(projected.shape, np.float32)
            out = np.empty(mixed.shape, np.float32)
            binding = session.io_binding()
            state.bind(binding, at)
            binding.bind_ortvalue_input("projected", ort.OrtValue.ortvalue_from_numpy(came))
            binding.bind_ortvalue_output("mixed", ort.OrtValue.ortvalue_from_numpy(out))
            found = (came, out, tied(session, binding), binding)
            if rows == 1:
                state.attentions[at] = found
        came, out, run, _ = found
        came[...] = projected
        run()
        mixed[...] = out

    def _attending(self) -> ort.InferenceSession:
        if self._attention is None:
            path = attention_path(self._model.folder)
            self._attention = open_session(path, threads=self._threads, planned=False)
        return self._attention

    def _part(self, block: int, behind: bool) -> ort.InferenceSession:
        session = self._around.get((block, behind))
        if session is None:
            path = around_path(self._model.folder, block, behind=behind)
            session = self._around[block, behind] = open_session(
                path, threads=self._threads, planned=False
            )
        return session


def alike(decoder: Decoder, together: Together) -> bool:
    """Whether texts that pass all blocks together come out as they do alone, in every bit."""
    model = decoder.model
    states = States(model)
    every = range(1, model.sizes.blocks + 1)
    rng = np.random.default_rng(0)
    alone, beside, texts = [], [], []
    for count in _TRIED:
        chunk = rng.integers(model.sizes.vocabulary, size=count)
        own, other = states.new(every), states.new(every)
        for state in (own, other):
            decoder.blocks(state, decoder.embed(chunk))
        following = rng.integers(model.sizes.vocabulary, size=2)
        hidden = decoder.embed(following)
        alone.append([decoder.blocks(own, hidden[:, at : at + 1]) for at in range(2)])
        decoder.begin(other, 2)
        texts.append(Rows(state=other, hidden=hidden, singly=True))
        beside.append(hidden)
    for block in every:
        beside = together.block(
            block,
            [
                Rows(state=text.state, hidden=hidden, singly=True)
                for text, hidden in zip(texts, beside, strict=True)
            ],
        )
    same = all(
        np.array_equal(np.concatenate(own, axis=1), other)
        for own, other in zip(alone, beside, strict=True)
    )
    last = _joined(beside)
    logits = decoder.logits(last)
    each = np.concatenate([decoder.logits(last[:, at : at + 1]) for at in range(last.shape[1])])
    return same and np.array_equal(logits, each)


def _joined(chunks: Sequence[np.ndarray]) -> np.ndarray:
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks, axis=1)
