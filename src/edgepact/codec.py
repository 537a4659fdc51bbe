"""The seam of the codecs: how the tensors at a cut travel.

A codec is named in the offer and in each request. The built-in ones stand in
`edgepact.inference.codecs`; others are found through the entry points `edgepact.codecs`. What a
job sends that is no activation (an image file, token ids) passes by as it is: a codec packs the
float32 tensors and leaves the rest alone.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from edgepact.tensors import Tensors, TensorSpec, TensorValue


@runtime_checkable
class Codec(Protocol):
    """Packs named float32 tensors, and unpacks what came.

    Attributes:
        name: as offers and requests spell it.
        tolerance: largest difference that an audit accepts between what came and what it has
            computed itself, as a share of the largest absolute value along the last axis: the
            codec's own error, and what another processor makes of the same sum.
    """

    name: str
    tolerance: float

    def packed(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What tensors of these specs look like packed: what a server expects."""
        ...

    def pack(self, tensors: Tensors) -> dict[str, TensorValue]:
        """The tensors as they travel.

        Raises:
            InputError: a tensor holds what the codec cannot express.
        """
        ...

    def unpack(self, tensors: Tensors) -> dict[str, TensorValue]:
        """What `pack` made, float32 again; nothing about it is taken for granted.

        Raises:
            InputError: a tensor is missing, too many, or holds impossible numbers.
        """
        ...
