"""What a server keeps of the tensors of a cut until it is audited, and how far they are from its
own.

Of each tensor that stages made the 1 KB that `inference.compact_evidence` keeps; of control, which
follows from the piece alone, a digest: it is right or it is not.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgepact.inference import compact_evidence
from edgepact.inference.stage_folder import Handed

DIGEST_BYTES = 16

LENGTH_BYTES = 4


def kept(handed: Sequence[Handed], values: Mapping[str, np.ndarray], key: bytes) -> bytes:
    """Evidence of all tensors of a cut.

    Args:
        handed: what they are.
        values: as they came, unpacked.
        key: secret from which positions are drawn.
    """
    parts = []
    for at, each in enumerate(handed):
        value = values[each.name]
        if each.control:
            parts.append(_digest(value))
            continue
        found = compact_evidence.kept(value, _key(key, at))
        parts.append(len(found).to_bytes(LENGTH_BYTES, "little") + found)
    return b"".join(parts)


def deviation(
    evidence: bytes, handed: Sequence[Handed], own: Mapping[str, np.ndarray], key: bytes
) -> float:
    """How far what came is from one's own: that of the tensor that is farthest.

    Args:
        evidence: that `kept` made.
        handed: what the tensors are.
        own: what they should be.
        key: that `kept` was told.

    Returns:
        As `compact_evidence.deviation`; infinity where control is another.
    """
    farthest, rest = 0.0, evidence
    for at, each in enumerate(handed):
        if each.control:
            told, rest = rest[:DIGEST_BYTES], rest[DIGEST_BYTES:]
            if told != _digest(own[each.name]):
                return math.inf
            continue
        length = LENGTH_BYTES + int.from_bytes(rest[:LENGTH_BYTES], "little")
        told, rest = rest[LENGTH_BYTES:length], rest[length:]
        apart = compact_evidence.deviation(told, own[each.name], _key(key, at))
        farthest = max(farthest, apart)
    return farthest if not rest else math.inf


# ---------------------------------------------------------------- private


def _key(key: bytes, at: int) -> bytes:
    return key + at.to_bytes(LENGTH_BYTES, "little")


def _digest(value: np.ndarray) -> bytes:
    told = hashlib.sha256(f"{value.dtype.str} {value.shape}".encode())
    told.update(np.ascontiguousarray(value).tobytes())
    return told.digest()[:DIGEST_BYTES]
