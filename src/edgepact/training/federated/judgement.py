"""What an update must be before the server uses or pays it."""

import hashlib
from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from edgepact.efficiency.compression import Vector, at_rate
from edgepact.errors import InputError
from edgepact.training.federated.messages import Fields, Order, Update, read_update

MESSAGE_BYTES_EXTRA = 64
"""What a message of `at_rate(rate)` may weigh beyond its share of float32."""

MESSAGE_BYTES_MAX = 1 << 28
"""Heaviest update of all; a larger model needs another transport."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much one client may claim or move.

    Attributes:
        examples_max: larger claims count as this many, so that none outweighs the others.
        norm_max: of what one epoch can move; longer updates are shortened to as many times it
            as the order has epochs.
    """

    examples_max: int
    norm_max: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accepted:
    """An update that may be used.

    Attributes:
        vector: change of the weights [n], finite, of at most `norm_max` an epoch.
        examples: its weight in the mean, within bounds.
        digest: SHA-256 of the payload, for the ledger.
        payload_bytes: what came over the wire.
    """

    vector: Vector
    examples: int
    digest: bytes
    payload_bytes: int


def judged(
    fields: Fields, order: Order, size: int, bounds: Bounds, seen: Container[bytes]
) -> Accepted:
    """The update in a message, if it is what was ordered.

    The payload's length is held against the rate before anything of it is decoded.

    Args:
        fields: the message.
        order: what the client was told to do.
        size: weights of the model, n.
        bounds: on what is claimed and moved.
        seen: digests of all updates accepted before, of whatever client.

    Raises:
        InputError: it is not; the message is the reason that goes into the round's record.
    """
    update = read_update(fields)
    _expect_of_order(update, order)
    bytes_max = min(int(4 * size * order.rate) + MESSAGE_BYTES_EXTRA, MESSAGE_BYTES_MAX)
    if len(update.payload) > bytes_max:
        found = f"{len(update.payload)} bytes"
        raise InputError("update", "payload", f"at most {bytes_max} bytes", found)
    digest = hashlib.sha256(update.payload).digest()
    if digest in seen:
        raise InputError("update", "payload", "a new update", "one that was sent before")
    vector = at_rate(order.rate).decode(update.payload, size)
    return Accepted(
        vector=_shortened(vector, bounds.norm_max * order.epochs),
        examples=min(update.examples, bounds.examples_max),
        digest=digest,
        payload_bytes=len(update.payload),
    )


def _expect_of_order(update: Update, order: Order) -> None:
    if update.round != order.round or update.nonce != order.nonce:
        expected = f"an update of round {order.round}, of this try"
        raise InputError("update", "round, nonce", expected, f"one of round {update.round}")
    if update.rate != order.rate:
        raise InputError("update", "rate", f"{order.rate:g}", update.rate)


def _shortened(vector: Vector, norm_max: float) -> Vector:
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    return vector if norm <= norm_max else (vector * (norm_max / norm)).astype(np.float32)
