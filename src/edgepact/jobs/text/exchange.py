"""What travels between the halves: what is asked, activations or tokens, and the token that was
drawn.

A prompt may begin like a text before, of which both sides have kept keys and values: then it names
it, and brings what is new. The name is a secret that only the device knows which that text was
written with, so that nobody learns of another's.

The first exchanges of a piece bring its prompt, in chunks; each further one brings the token that
the last answer told: as an activation behind the device's last block, or as its number where the
device runs no block. With guesses at the tokens after it, which the server looks at in one step,
as many tokens are told as guesses were right, and one more. One that brings no token at all ends
the text.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgepact.errors import InputError, shown
from edgepact.inference.decoder import CHUNK_MAX
from edgepact.inference.gguf.folder import TextModel
from edgepact.inference.sampling import Drawn
from edgepact.jobs.text.prompts import TextSettings
from edgepact.tensors import ANY, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply

ASKED_BYTES_MAX = 4096

NAME_CHARS_MAX = 64

KEPT, REUSED = "kept", "reused"
"""Facts of an answer: the name of a text that is kept; how what was reused has attended."""

NOT_KEPT = "no"
"""Of `REUSED`: there is no such text, and the prompt has to come whole."""

PROBE_BYTES = 16
"""Of the hash that tells how a device computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a device asks for with a piece.

    Attributes:
        prompt_tokens: length of the prompt.
        settings: how the text goes on.
        probe: hexadecimal: how the device computes, see `evidence.probe`; zeros for unknown.
        name: of the request, by which the same prompt asked twice is two pieces of work.
        kept: name of a text that was kept, with which the prompt begins; empty for none.
        reused: tokens that it has of it.
    """

    prompt_tokens: int
    settings: TextSettings
    probe: str = "00" * PROBE_BYTES
    name: str = ""
    kept: str = ""
    reused: int = 0

    def as_bytes(self) -> bytes:
        """As it travels, JSON."""
        own: dict[str, Any] = {"prompt_tokens": self.prompt_tokens, "probe": self.probe}
        own["name"] = self.name
        if self.kept:
            own |= {"kept": self.kept, "reused": self.reused}
        table = {**own, **asdict(self.settings)}
        return json.dumps(table, sort_keys=True).encode()

    @classmethod
    def read(cls, content: bytes) -> "Asked":
        """What `as_bytes` made, by a stranger.

        Raises:
            InputError: it is no such thing.
        """
        try:
            if len(content) > ASKED_BYTES_MAX:
                raise ValueError
            table = json.loads(content)
            tokens = table.pop("prompt_tokens")
            told = bytes.fromhex(table.pop("probe", "00" * PROBE_BYTES))
            name = table.pop("name", "")
            if type(tokens) is not int or tokens < 1 or len(told) != PROBE_BYTES:
                raise ValueError
            kept, reused = table.pop("kept", ""), table.pop("reused", 0)
            for each in (name, kept):
                if not isinstance(each, str) or len(each) > NAME_CHARS_MAX:
                    raise ValueError
            if type(reused) is not int or not 0 <= reused < tokens:
                raise ValueError
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            expected = "JSON with prompt_tokens and settings of a text"
            raise InputError("infer request", "asked", expected, shown(content[:60])) from None
        settings = TextSettings.of(table)
        return cls(
            prompt_tokens=tokens,
            settings=settings,
            probe=told.hex(),
            name=name,
            kept=kept,
            reused=reused,
        )


def job_model(model: TextModel) -> Model:
    """What both sides have to hold alike."""
    return Model(name=model.sizes.name, amount_max=model.sizes.blocks, digest=model.digest)


def expected_of(
    model: TextModel, amount: int, exchange: int, *, drafts: int = 0
) -> tuple[TensorSpec, ...]:
    """The tensors that an exchange brings."""
    asked = (TensorSpec(name="asked", datatype="BYTES", shape=(1,)),) if exchange == 0 else ()
    if amount == 0:
        return (*asked, TensorSpec(name="tokens", datatype="INT32", shape=(1, ANY)))
    shape = (1, ANY, model.sizes.width)
    hidden = TensorSpec(name="hidden", datatype="FP32", shape=shape, coded=True)
    # Of activations nobody can tell which tokens they are of.
    guessed = (TensorSpec(name="guessed", datatype="INT32", shape=(1, ANY)),) if drafts else ()
    return (*asked, hidden, *guessed)


def returned(drafts: int = 0) -> tuple[TensorSpec, ...]:
    """The tensor of an answer; it is left out while the prompt is not whole."""
    return (TensorSpec(name="token", datatype="INT32", shape=(1, ANY if drafts else 1)),)


def chunks_of(count: int) -> list[int]:
    """Lengths of the chunks that a prompt is sent in.

    Example:
        >>> chunks_of(300)
        [256, 44]
    """
    return [min(CHUNK_MAX, count - start) for start in range(0, count, CHUNK_MAX)]


def told_of(found: Sequence[Drawn]) -> dict[str, Json]:
    """What an answer tells of the tokens that were drawn, beside the tokens."""
    told: dict[str, Json] = {"logprob": found[0].logprob}
    if found[0].likeliest:
        told["likeliest"] = json.dumps(found[0].likeliest)
    if len(found) > 1:
        told["others"] = json.dumps([[each.logprob, each.likeliest] for each in found[1:]])
    return told


def drawn_in(reply: Reply) -> list[Drawn]:
    """The tokens of an answer.

    Raises:
        InputError: what is told of them is not of so many tokens.
    """
    tokens = reply.outputs.get("token")
    if tokens is None:
        return []
    logprob = reply.told.get("logprob")
    first = float(logprob) if isinstance(logprob, int | float) else 0.0
    try:
        about = [[first, json.loads(str(reply.told.get("likeliest", "[]")))]]
        about += json.loads(str(reply.told.get("others", "[]")))
        return [
            Drawn(
                token=int(token),
                logprob=float(each),
                likeliest=tuple((int(other), float(value)) for other, value in likeliest),
            )
            for token, (each, likeliest) in zip(np.asarray(tokens).reshape(-1), about, strict=True)
        ]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        expected = "JSON with the probabilities of each token"
        raise InputError("infer response", "parameters", expected, shown(str(error))) from None


def source_of(prompt: Sequence[int]) -> bytes:
    """What a text is written from, for its audit, and for who has asked for it."""
    return json.dumps({"prompt": list(prompt)}).encode()


Run = tuple[int, bool]
"""Tokens of a text that attended together: how many, and whether one after another."""


def runs_until(runs: Sequence[Run], position: int) -> list[Run]:
    """The runs of the first tokens of a text.

    The first row of a chunk comes out otherwise where it is all of the chunk: then a token less is
    told of.

    Example:
        >>> runs_until([(8, False), (3, True), (6, False)], 9)
        [(8, False), (1, True)]
        >>> runs_until([(8, False), (3, True), (6, False)], 12)
        [(8, False), (3, True)]
    """
    found: list[Run] = []
    for length, singly in runs:
        left = min(length, position - sum(each for each, _ in found))
        if left < 1 or (left == 1 < length and not singly):
            break
        if found and singly and found[-1][1]:
            left += found.pop()[0]
        found.append((left, singly))
    return found


def as_numbers(runs: Sequence[Run]) -> list[int]:
    """Runs as numbers: below 0 where tokens attended one after another."""
    return [-length if singly else length for length, singly in runs]


def chunk_in(sent: Tensors, amount: int) -> np.ndarray:
    """What an exchange brings of the text: tokens `(1, chunk)`, or activations.

    Raises:
        InputError: the chunk is too long.
    """
    name = "tokens" if amount == 0 else "hidden"
    found = np.asarray(sent[name])
    if found.shape[1] > CHUNK_MAX:
        expected = f"up to {CHUNK_MAX} tokens"
        raise InputError("infer request", name, expected, found.shape[1])
    return found
