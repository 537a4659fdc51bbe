"""What travels between the halves: what is asked, activations or tokens, and the token that was
drawn.

The first exchanges of a piece bring its prompt, in chunks; each further one brings the token that
the last answer told: as an activation behind the device's last block, or as its number where the
device runs no block. One that brings no token at all ends the text.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np

from edgepact.errors import InputError, shown
from edgepact.inference.decoder import CHUNK_MAX
from edgepact.inference.gguf.folder import TextModel
from edgepact.jobs.text.prompts import TextSettings
from edgepact.tensors import ANY, Tensors, TensorSpec
from edgepact.work import Model

ASKED_BYTES_MAX = 4096

NAME_CHARS_MAX = 64

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
    """

    prompt_tokens: int
    settings: TextSettings
    probe: str = "00" * PROBE_BYTES
    name: str = ""

    def as_bytes(self) -> bytes:
        """As it travels, JSON."""
        own = {"prompt_tokens": self.prompt_tokens, "probe": self.probe, "name": self.name}
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
            if not isinstance(name, str) or len(name) > NAME_CHARS_MAX:
                raise ValueError
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            expected = "JSON with prompt_tokens and settings of a text"
            raise InputError("infer request", "asked", expected, shown(content[:60])) from None
        settings = TextSettings.of(table)
        return cls(prompt_tokens=tokens, settings=settings, probe=told.hex(), name=name)


def job_model(model: TextModel) -> Model:
    """What both sides have to hold alike."""
    return Model(name=model.sizes.name, amount_max=model.sizes.blocks, digest=model.digest)


def expected_of(model: TextModel, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
    """The tensors that an exchange brings."""
    asked = (TensorSpec(name="asked", datatype="BYTES", shape=(1,)),) if exchange == 0 else ()
    if amount == 0:
        return (*asked, TensorSpec(name="tokens", datatype="INT32", shape=(1, ANY)))
    shape = (1, ANY, model.sizes.width)
    return (*asked, TensorSpec(name="hidden", datatype="FP32", shape=shape, coded=True))


def returned() -> tuple[TensorSpec, ...]:
    """The tensor of an answer; it is left out while the prompt is not whole."""
    return (TensorSpec(name="token", datatype="INT32", shape=(1, 1)),)


def chunks_of(count: int) -> list[int]:
    """Lengths of the chunks that a prompt is sent in.

    Example:
        >>> chunks_of(300)
        [256, 44]
    """
    return [min(CHUNK_MAX, count - start) for start in range(0, count, CHUNK_MAX)]


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
