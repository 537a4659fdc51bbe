"""The seam of the codecs: how the tensors at a cut travel.

A codec is named in the offer and in each request. The built-in ones stand in
`edgepact.inference.codecs`; others are found through the entry points `edgepact.codecs`. Only
tensors whose spec says so (`TensorSpec.coded`) go through a codec: an image file, token ids or
probabilities pass by as they are. A request that names no codec is read by the one whose packed
tensors these are, so that any client of the protocol can send one.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from edgepact.tensors import Tensors, TensorSpec, TensorValue


@runtime_checkable
class Codec(Protocol):
    """Packs named float32 tensors, and unpacks what came."""

    @property
    def name(self) -> str:
        """As offers and requests spell it."""
        ...

    @property
    def tolerance(self) -> float:
        """Largest difference that an audit accepts between what came and what it has computed
        itself, as a share of the largest absolute value along the last axis: the codec's own
        error, and what another processor makes of the same sum."""
        ...

    def packed(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What tensors of these specs look like on the wire; those not coded stay as they are."""
        ...

    def pack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """The tensors as they travel.

        Raises:
            InputError: a tensor holds what the codec cannot express.
        """
        ...

    def unpack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """What `pack` made, float32 again. Names, types and shapes have been held against
        `packed(specs)`; the numbers have not.

        Raises:
            InputError: numbers that no tensor packs to.
        """
        ...
