"""What the market knows of work, whatever the job: names, digests, seeds, audit picks, evidence."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence

from edgepact.engagement import AMOUNT_MAX
from edgepact.errors import InputError
from edgepact.fields import check_text
from edgepact.market.protocol import oip
from edgepact.market.protocol.messages import NAME_CHARS_MAX
from edgepact.tensors import Codec, Tensors, TensorSpec, as_bytes, datatype_of
from edgepact.work import Model

SEED_BITS = 63


def cut_name(model: Model, amount: int) -> str:
    """Name of a model of which devices do this amount.

    Example:
        >>> cut_name(Model(name="fashion-clip", amount_max=12), 3)
        'fashion-clip-cut-3'
    """
    return f"{model.name}-cut-{amount}"


def amount_of(model: Model, name: str) -> int | None:
    """Where the name of a model cuts; None if there is no such model."""
    head, _, tail = name.rpartition("-cut-")
    digits = len(str(int(AMOUNT_MAX)))
    if head != model.name or not (tail.isascii() and tail.isdigit() and len(tail) <= digits):
        return None
    amount = int(tail)
    return amount if amount <= model.amount_max and cut_name(model, amount) == name else None


def chosen_codec(
    name: object, codecs: Sequence[Codec], sent: Tensors, specs: Sequence[TensorSpec]
) -> Codec:
    """The codec that a request names, else the one whose packed tensors these are.

    Raises:
        InputError: the server does not take the codec that is named.
    """
    if name is not None:
        text = check_text("infer request", "parameters.codec", name, chars_max=NAME_CHARS_MAX)
        for codec in codecs:
            if codec.name == text:
                return codec
        expected = f"one of {', '.join(codec.name for codec in codecs)}"
        raise InputError("infer request", "parameters.codec", expected, text)
    came = {name: datatype_of(value) for name, value in sent.items()}
    for codec in codecs:
        if {spec.name: spec.datatype for spec in codec.packed(specs)} == came:
            return codec
    # Of those whose tensors do not fit, one is named in the error: the one that looks most alike.
    return max(codecs, key=lambda codec: _alike(codec.packed(specs), came))


def unpacked(codec: Codec, sent: Tensors, specs: Sequence[TensorSpec], source: str) -> Tensors:
    """Tensors from the wire as the job wants them.

    Raises:
        InputError: they are not what the codec makes of such tensors.
    """
    oip.check_tensors(sent, codec.packed(specs), source=source)
    return codec.unpack(sent, specs)


def digest(before: bytes, sent: Tensors) -> bytes:
    """SHA-256 of all that came of a piece, which tells a repetition from other work.

    Args:
        before: digest of the exchanges before; empty at the first.
        sent: tensors as they came.
    """
    return hashlib.sha256(before + as_bytes(sent)).digest()


def session_seed(secret: bytes, device: str, piece: str) -> int:
    """Seed of whatever the server draws for a piece: the same if it is begun again, after a
    restart too, and unknown to the device."""
    mark = hmac.digest(secret, f"seed\n{device}\n{piece}".encode(), "sha256")
    return int.from_bytes(mark[:8], "big") >> (64 - SEED_BITS)


def evidence_key(secret: bytes, device: str, piece: str) -> bytes:
    """Key from which the part of a piece that is kept as evidence is drawn, 32 bytes: the same
    after a restart with the same secret, and unknown to the device."""
    return hmac.digest(secret, f"evidence\n{device}\n{piece}".encode(), "sha256")


def secret_of(seed: int | None) -> bytes:
    """A secret; from a seed only where a run must be repeatable."""
    if seed is None:
        return secrets.token_bytes(32)
    return hashlib.sha256(f"edgepact audit {seed}".encode()).digest()


def pack_evidence(codec: str, evidence: Sequence[bytes]) -> bytes:
    """A job's evidence of all exchanges of a piece, with the name of the codec."""
    head = json.dumps({"codec": codec, "lengths": [len(each) for each in evidence]}).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *evidence])


def unpack_evidence(content: bytes) -> tuple[str, list[bytes]]:
    """What `pack_evidence` was given."""
    start = 4 + int.from_bytes(content[:4], "little")
    head = json.loads(content[4:start])
    evidence: list[bytes] = []
    for length in head["lengths"]:
        evidence.append(content[start : start + length])
        start += length
    return head["codec"], evidence


def _alike(specs: Sequence[TensorSpec], came: dict[str, str]) -> int:
    return sum(
        (spec.name in came) + 2 * (came.get(spec.name) == spec.datatype) for spec in specs
    ) - abs(len(specs) - len(came))
