r"""What each part of a model costs, in GMAC: the variable that a split leaves open.

A device that runs $L$ layers computes $A L + B$: $A$ for each transformer block,
and $B$ once, before the first. The counts come from the model's graph; for vision
transformers there is a closed form too, which knows models that are not at hand.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

from edgepact.errors import InputError

MACS_PER_GMAC = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCosts:
    """Computation of one image, stage by stage.

    Attributes:
        per_stage: GMAC of embed, of each block, and of the head.
    """

    per_stage: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.per_stage) < 3:
            raise InputError("costs", "per_stage", "embed, blocks and head", self.per_stage)

    @classmethod
    def of_model(cls, model_dir: Path) -> "LayerCosts":
        """Counted in the graph of a model directory.

        Raises:
            InputError: the model cannot be read, or cannot be cut as it says.
        """
        # Here, since fleets and markets know costs without having the graph library loaded.
        from edgepact.inference import graph

        macs = graph.macs_per_stage(model_dir)
        return cls(per_stage=tuple(count / MACS_PER_GMAC for count in macs))

    @classmethod
    def of_vit(
        cls,
        *,
        layers: int,
        tokens: int,
        width: int,
        patch: int,
        channels: int = 3,
        class_token: bool = True,
        dim: int = 0,
    ) -> "LayerCosts":
        r"""The closed form for a vision transformer with an MLP four times its width.

        $A = 12 T d^2 + 2 T^2 d$: four projections and the MLP for each of $T$ tokens
        of width $d$, scores and mixing for each pair of them.
        $B = (T - 1) C p^2 d$: every patch of $p^2$ pixels and $C$ channels is
        projected; the class token, if there is one, is not a patch.

        Args:
            layers: number of blocks.
            tokens: $T$, class token included.
            width: $d$.
            patch: $p$, pixels.
            channels: $C$.
            class_token: whether one token stands for no patch.
            dim: length of the image vector; 0 leaves the head out.

        Example:
            >>> costs = LayerCosts.of_vit(layers=12, tokens=50, width=768, patch=32)
            >>> print(f"{costs.A:.4f} {costs.B:.4f} {costs.total:.2f}")
            0.3577 0.1156 4.41
        """
        block = 12 * tokens * width**2 + 2 * tokens**2 * width
        embed = (tokens - class_token) * channels * patch**2 * width
        macs = (embed, *itertools.repeat(block, layers), width * dim)
        return cls(per_stage=tuple(count / MACS_PER_GMAC for count in macs))

    @property
    def layers_max(self) -> int:
        """Number of blocks, $L_{max}$."""
        return len(self.per_stage) - 2

    @property
    def A(self) -> float:
        """GMAC for each layer, the mean where they differ."""
        return sum(self.per_stage[1:-1]) / self.layers_max

    @property
    def B(self) -> float:
        """GMAC before the first layer."""
        return self.per_stage[0]

    @property
    def head(self) -> float:
        """GMAC after the last layer."""
        return self.per_stage[-1]

    @property
    def total(self) -> float:
        """GMAC of the whole model."""
        return sum(self.per_stage)

    def device(self, layers: int) -> float:
        """GMAC that a device really spends on an image with `layers` layers.

        Nothing for 0 layers, when it sends the image file; the head as well for
        all of them. In the game $B$ is counted at 0 layers too, as the article does.
        """
        if not 0 <= layers <= self.layers_max:
            raise InputError("cut", "layers", f"a number from 0 to {self.layers_max}", layers)
        if layers == self.layers_max:
            return self.total
        return sum(self.per_stage[: layers + 1]) if layers else 0.0

    def server(self, layers: int) -> float:
        """GMAC that are left to the server."""
        return self.total - self.device(layers)
