r"""Measure a model on this machine: time of its stages, of its cuts, of its codecs.

Every time is the minimum over the repeats. A busy neighbour can only add time, so
the minimum is the model's own; with it time is linear in the layers (R squared
above .99), with medians on a noisy machine visibly less. Stages, cuts and codecs
take turns within each repeat, so that a slow moment does not fall on one of them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.efficiency.partition import LayerCosts
from edgepact.errors import InputError
from edgepact.framework import Sheet
from edgepact.inference.codecs import BUILT_IN, packed_bytes
from edgepact.inference.pipeline import Pipeline
from edgepact.tables import Shown
from edgepact.tensors import TensorSpec

REPEATS = 30
REPEATS_MAX = 10_000

Progress = Callable[[int, int], None]
"""Called with the number of repeats done and the number of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFit:
    """Least-squares line through seconds over layers, $A L + B$ with B at least 0.

    Attributes:
        A_s: seconds for each layer.
        B_s: seconds before the first layer, at least 0.
        r_squared: share of the variance that the line explains.
    """

    A_s: float
    B_s: float
    r_squared: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecCost:
    """What a codec does with the activation of one image.

    Attributes:
        codec: its name.
        bytes_per_image: on the link, without names and headers.
        encode_s: seconds on the device.
        decode_s: seconds on the server.
    """

    codec: str
    bytes_per_image: int
    encode_s: float
    decode_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile(Shown):
    """What a model costs on this machine, for one unit of work.

    Attributes:
        model: its name.
        threads: for each operator.
        repeats: of which the fastest counts.
        seconds_per_stage: embed, blocks, head.
        seconds_per_cut: embed and the first L blocks in one go, for L = 0 to L_max.
        gmac_per_stage: embed, blocks, head, counted in the graph.
        fit: of `seconds_per_cut`.
        codecs: each on the activation between two blocks.
        pixel_bytes: the image as one byte for each pixel and channel.
        vector_bytes: the image vector, which a device sends that runs all layers.
        unit: what is worked on.
        step: what the parts between the first and the last are called.
    """

    model: str
    threads: int
    repeats: int
    seconds_per_stage: tuple[float, ...]
    seconds_per_cut: tuple[float, ...]
    gmac_per_stage: tuple[float, ...]
    fit: LineFit
    codecs: tuple[CodecCost, ...]
    pixel_bytes: int
    vector_bytes: int
    unit: str
    step: str

    @property
    def costs(self) -> LayerCosts:
        """GMAC of the stages."""
        return LayerCosts(per_stage=self.gmac_per_stage)

    @property
    def gmac_per_s(self) -> float:
        """Speed of this machine on a block."""
        return self.costs.A / self.fit.A_s

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, texts, lists and tables that JSON has."""
        table = asdict(self)
        table["codecs"] = list(table["codecs"])
        for name in ("seconds_per_stage", "seconds_per_cut", "gmac_per_stage"):
            table[name] = list(table[name])
        table |= {"A_gmac": self.costs.A, "B_gmac": self.costs.B, "total_gmac": self.costs.total}
        return table | {"gmac_per_s": self.gmac_per_s}

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each stage, and what follows from them below."""
        last = len(self.seconds_per_stage) - 1
        rows = []
        for stage, (seconds, gmac) in enumerate(
            zip(self.seconds_per_stage, self.gmac_per_stage, strict=True)
        ):
            name = "embed" if stage == 0 else "head" if stage == last else f"{self.step} {stage}"
            if seconds == 0.0 and gmac == 0.0:  # a model without that part
                continue
            rows.append((name, f"{1e3 * seconds:.3f}", f"{gmac:.6f}", f"{gmac / seconds:.1f}"))
        fit, costs = self.fit, self.costs
        of_image = self.unit == "image"
        ends = ("bytes of pixels", "vector") if of_image else ("bytes of inputs", "outputs")
        sheet = Sheet(
            title=f"{self.model}: stages of one {self.unit}, {self.threads} thread(s)",
            head=("stage", "ms", "GMAC", "GMAC/s"),
            rows=tuple(rows),
            notes=(
                f"ms(L) = {1e3 * fit.A_s:.3f} L + {1e3 * fit.B_s:.3f}, "
                f"R squared {fit.r_squared:.4f}",
                f"GMAC(L) = {costs.A:.6f} L + {costs.B:.6f}",
                *(
                    f"{cost.codec}: {cost.bytes_per_image:,} bytes, "
                    f"{1e3 * cost.encode_s:.3f} ms to encode, "
                    f"{1e3 * cost.decode_s:.3f} ms to decode"
                    for cost in self.codecs
                ),
                f"{self.unit}: {self.pixel_bytes:,} {ends[0]}; "
                f"{ends[1]}: {self.vector_bytes:,} bytes",
            ),
        )
        return (sheet,)


def profile(
    model_dir: Path,
    *,
    repeats: int = REPEATS,
    threads: int = 1,
    progress: Progress | None = None,
) -> Profile:
    """Measure a model directory on this machine.

    Args:
        model_dir: with its stage files.
        repeats: of which the fastest counts, 1 to `REPEATS_MAX`.
        threads: for each operator.
        progress: told after each repeat how many are done.

    Raises:
        InputError: the model cannot be read, or `repeats` is out of range.
    """
    if not 1 <= repeats <= REPEATS_MAX:
        raise InputError("profile", "repeats", f"a number from 1 to {REPEATS_MAX}", repeats)
    pipeline = Pipeline(model_dir, threads=threads)
    costs = LayerCosts.of_model(model_dir)
    if costs.layers_max != pipeline.layers_max:
        expected = f"{costs.layers_max}, the number of blocks in the graph"
        raise InputError(model_dir, "layers_max", expected, pipeline.layers_max)
    shape = (1, *pipeline.expects(0)[1])
    inputs = [np.random.default_rng(0).standard_normal(shape, np.float32)]
    for stage in range(pipeline.stage_count):
        inputs.append(pipeline.run(inputs[-1], stage, stage + 1))
    activation = inputs[1]
    spec = TensorSpec(name="tokens", datatype="FP32", shape=activation.shape, coded=True)
    sent = {spec.name: activation}
    packed = {codec.name: codec.pack(sent, [spec]) for codec in BUILT_IN}

    tasks: dict[tuple[str, int | str], Callable[[], object]] = {}
    for stage in range(pipeline.stage_count):
        tasks["stage", stage] = partial(pipeline.run, inputs[stage], stage, stage + 1)
    for layers in range(pipeline.layers_max + 1):
        tasks["cut", layers] = partial(pipeline.run, inputs[0], 0, layers + 1)
    for codec in BUILT_IN:
        tasks["encode", codec.name] = partial(codec.pack, sent, [spec])
        tasks["decode", codec.name] = partial(codec.unpack, packed[codec.name], [spec])
    seconds = _fastest(tasks, repeats, progress)

    cuts = tuple(seconds["cut", layers] for layers in range(pipeline.layers_max + 1))
    _, pixels_shape = pipeline.expects(0)
    return Profile(
        model=pipeline.info.name,
        threads=threads,
        repeats=repeats,
        seconds_per_stage=tuple(seconds["stage", at] for at in range(pipeline.stage_count)),
        seconds_per_cut=cuts,
        gmac_per_stage=costs.per_stage,
        fit=fit_line(cuts),
        codecs=tuple(
            CodecCost(
                codec=name,
                bytes_per_image=packed_bytes(tensors),
                encode_s=seconds["encode", name],
                decode_s=seconds["decode", name],
            )
            for name, tensors in packed.items()
        ),
        pixel_bytes=int(np.prod(pixels_shape)),
        vector_bytes=inputs[-1].nbytes,
        unit="image",
        step="block",
    )


def seconds_together(
    pipelines: Sequence[Pipeline], repeats: int
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Seconds of each stage and of each cut of several models, which take turns.

    Args:
        pipelines: of models of one shape.
        repeats: of which the fastest counts.

    Returns:
        Of each model the seconds of its stages, and of embed and the first L blocks in one go.
    """
    tasks: dict[tuple[str, int | str], Callable[[], object]] = {}
    for at, pipeline in enumerate(pipelines):
        shape = (1, *pipeline.expects(0)[1])
        x = pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
        for stage in range(pipeline.stage_count):
            tasks[f"stage {at}", stage] = partial(pipeline.run, x, stage, stage + 1)
            x = pipeline.run(x, stage, stage + 1)
        for layers in range(pipeline.layers_max + 1):
            tasks[f"cut {at}", layers] = partial(pipeline.run, pixels, 0, layers + 1)
    found = _fastest(tasks, repeats, None)
    return [
        (
            tuple(found[f"stage {at}", stage] for stage in range(pipeline.stage_count)),
            tuple(found[f"cut {at}", layers] for layers in range(pipeline.layers_max + 1)),
        )
        for at, pipeline in enumerate(pipelines)
    ]


def fit_line(seconds_per_cut: Sequence[float]) -> LineFit:
    """Least squares over 0, 1, 2, ... layers, of all lines that take no time below 0 before the
    first layer: where the free line would, the best is the one through 0.

    Raises:
        InputError: there are fewer than two cuts.

    Example:
        >>> fit_line([1.0, 3.0, 5.0])
        LineFit(A_s=2.0, B_s=1.0, r_squared=1.0)
        >>> fit_line([0.0, 1.0, 3.0]).B_s
        0.0
    """
    if len(seconds_per_cut) < 2:
        raise InputError("fit", "seconds_per_cut", "at least two times", list(seconds_per_cut))
    y = np.asarray(seconds_per_cut, np.float64)
    x = np.arange(len(y), dtype=np.float64)
    off, spread = x - x.mean(), y - y.mean()
    slope = float(off @ y / (off @ off))
    start = float(y.mean() - slope * x.mean())
    if start < 0.0:
        slope, start = float(x @ y / (x @ x)), 0.0
    residual, varied = y - slope * x - start, float(spread @ spread)
    return LineFit(
        A_s=slope,
        B_s=start,
        r_squared=1.0 - float(residual @ residual) / varied if varied > 0 else 1.0,
    )


def _fastest(
    tasks: dict[tuple[str, int | str], Callable[[], object]],
    repeats: int,
    progress: Progress | None,
) -> dict[tuple[str, int | str], float]:
    fastest = dict.fromkeys(tasks, float("inf"))
    for repeat in range(repeats):
        for name, task in tasks.items():
            # The run before the timed one fills the caches with this task's weights.
            task()
            start = time.perf_counter()
            task()
            fastest[name] = min(fastest[name], time.perf_counter() - start)
        if progress is not None:
            progress(repeat + 1, repeats)
    return fastest
