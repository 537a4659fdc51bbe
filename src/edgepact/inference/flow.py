r"""A small generator of pictures from text: flow matching in principal components, with NumPy.

A picture is a vector $z$ of scaled principal components. The chain begins with noise, $x_0 \sim
N(0, I)$, and ends with a picture: $x_t = (1-t) x_0 + t z$ (Lipman et al. 2023; Liu, Gong and Liu
2023). A network estimates the picture that is meant, $D(x, t, c) \approx E[z \mid x_t = x, c]$,
and a step from $t$ to $s$ keeps the noise that the estimate leaves:

$$x_s = (1-s) \frac{x_t - t D}{1-t} + s D.$$

What can be known without learning is not learnt. If $z$ were Gaussian with the variances
$\lambda_i$ of the components, the mean would be $\lambda_i t x_i / q_i$ with
$q_i = (1-t)^2 + t^2 \lambda_i$, and the variance around it $v_i = \lambda_i (1-t)^2 / q_i$. The
network gives the rest, in units of $\sqrt{v_i}$.

With a guidance $g$ the estimate is $D(x, t, 0) + g (D(x, t, c) - D(x, t, 0))$, where 0 stands for
no text (Ho and Salimans 2022).

Rows of a batch have a time each, so that pictures at different steps pass the network together.
A device runs this: NumPy and the standard library, nothing else.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from edgepact.errors import InputError

WEIGHTS = "flow.npz"
IMAGE_SIZE = 28
PIXELS = IMAGE_SIZE**2
FREQUENCIES = 16
"""Of the time: sine and cosine of pi times 0 to 15."""

BYTES_MAX = 64 * 2**20
"""Largest weights that are read, unpacked."""

MATRICES = ("embed", "condition", "blend", "modulate", "up", "down", "out")
"""The parts of the network that are kept as bytes, with a scale for each output."""

_FLOOR = np.float32(1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Weights, all in single precision; those of the blocks are stacked.

    Attributes:
        embed: `components width`, of the scaled input.
        condition: `dim+times cond`, of text vector and time; `condition_bias`, `cond`.
        blend: `cond cond`, the second layer of the condition; `blend_bias`, `cond`.
        modulate: `blocks cond 2*width`; `modulate_bias`, `blocks 2*width`.
        up, down: `blocks width width`; `up_bias`, `blocks width`.
        out: `width components`.
    """

    embed: Float[np.ndarray, "components width"]
    condition: Float[np.ndarray, "inputs cond"]
    condition_bias: Float[np.ndarray, " cond"]
    blend: Float[np.ndarray, "cond cond"]
    blend_bias: Float[np.ndarray, " cond"]
    modulate: Float[np.ndarray, "blocks cond double"]
    modulate_bias: Float[np.ndarray, "blocks double"]
    up: Float[np.ndarray, "blocks width width"]
    up_bias: Float[np.ndarray, "blocks width"]
    down: Float[np.ndarray, "blocks width width"]
    out: Float[np.ndarray, "width components"]

    @property
    def multiplications(self) -> int:
        """Multiplications of one picture through the network, without guidance."""
        return sum(getattr(self, name).size for name in MATRICES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flow:
    """A generator.

    Attributes:
        mean: of the pictures, grey levels from -1 to 1.
        basis: picture of each component's unit, `components pixels`.
        variance: of each component.
        network: its weights.
    """

    mean: Float[np.ndarray, " pixels"]
    basis: Float[np.ndarray, "components pixels"]
    variance: Float[np.ndarray, " components"]
    network: Network

    @property
    def components(self) -> int:
        """Numbers of a picture on its way."""
        return len(self.variance)

    @property
    def dim(self) -> int:
        """Numbers of a text vector."""
        return len(self.network.condition) - 2 * FREQUENCIES

    @property
    def step_gmac(self) -> float:
        """Computing of a guided step of one picture, GMAC."""
        return 2e-9 * self.network.multiplications

    @property
    def decode_gmac(self) -> float:
        """Computing of a picture from its components, GMAC."""
        return 1e-9 * self.basis.size

    def noise(self, seed: int, rows: int = 1) -> Float[np.ndarray, "rows components"]:
        """Where chains begin: the same for the same seed, on any machine."""
        rng = np.random.default_rng(seed)
        return rng.standard_normal((rows, self.components)).astype(np.float32)

    def meant(
        self,
        x: Float[np.ndarray, "rows components"],
        t: Float[np.ndarray, " rows"],
        text: Float[np.ndarray, "rows dim"],
        guidance: float,
    ) -> Float[np.ndarray, "rows components"]:
        """The guided estimate of the pictures that are meant.

        Args:
            x: chains on their way.
            t: time of each, from 0 to below 1.
            text: vectors of length 1.
            guidance: 1 for none; twice the computing otherwise.
        """
        if guidance == 1.0:
            return self.estimate(x, t, text)
        both = self.estimate(
            np.concatenate([x, x]),
            np.concatenate([t, t]),
            np.concatenate([text, np.zeros_like(text)]),
        )
        told, free = both[: len(x)], both[len(x) :]
        guided: np.ndarray = free + np.float32(guidance) * (told - free)
        return guided

    def estimate(
        self,
        x: Float[np.ndarray, "rows components"],
        t: Float[np.ndarray, " rows"],
        text: Float[np.ndarray, "rows dim"],
    ) -> Float[np.ndarray, "rows components"]:
        """The estimate for a text, or for none where the vector is 0."""
        time = np.asarray(t, np.float32)[:, None]
        spread = (1 - time) ** 2 + time**2 * self.variance
        known = self.variance * time * x / spread
        unknown = np.sqrt(self.variance / spread) * (1 - time)
        net = self.network
        inputs = np.concatenate([text * np.float32(self.dim**0.5), _waves(time)], axis=1)
        told = _silu(inputs @ net.condition + net.condition_bias)
        told = _silu(told @ net.blend + net.blend_bias)
        h = (x / np.sqrt(spread)) @ net.embed
        for at in range(len(net.up)):
            scale, shift = np.split(told @ net.modulate[at] + net.modulate_bias[at], 2, axis=1)
            inner = _normal(h) * (1 + scale) + shift
            h = h + _silu(inner @ net.up[at] + net.up_bias[at]) @ net.down[at]
        found: np.ndarray = known + unknown * (_normal(h) @ net.out)
        return found

    def decoded(
        self, z: Float[np.ndarray, "rows components"]
    ) -> UInt8[np.ndarray, "rows size size"]:
        """Grey levels of finished pictures."""
        levels = (self.mean + z @ self.basis + 1) * np.float32(127.5)
        whole = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
        return whole.reshape(len(z), IMAGE_SIZE, IMAGE_SIZE)

    def encoded(
        self, images: UInt8[np.ndarray, "rows size size"]
    ) -> Float[np.ndarray, "rows components"]:
        """Components of pictures: what `decoded` makes the nearest pictures of."""
        levels = images.reshape(len(images), -1).astype(np.float32) / np.float32(127.5) - 1
        size = (self.basis**2).sum(axis=1)
        found: np.ndarray = (levels - self.mean) @ (self.basis / size[:, None]).T
        return found


def moved(
    x: Float[np.ndarray, "rows components"],
    meant: Float[np.ndarray, "rows components"],
    t: Float[np.ndarray, " rows"],
    s: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, "rows components"]:
    """Chains at time `t`, moved to the later time `s` along the estimates of their pictures."""
    now, then = np.asarray(t, np.float32)[:, None], np.asarray(s, np.float32)[:, None]
    found: np.ndarray = (1 - then) * (x - now * meant) / (1 - now) + then * meant
    return found


def write_flow(flow: Flow, folder: Path) -> None:
    """Writes the weights: matrices in bytes, with a scale for each output, the rest in fp16."""
    arrays: dict[str, np.ndarray] = {
        "mean": flow.mean.astype(np.float16),
        "basis": flow.basis.astype(np.float16),
        "variance": flow.variance.astype(np.float32),
    }
    for field in fields(Network):
        values = getattr(flow.network, field.name)
        if field.name in MATRICES:
            scale = np.maximum(np.abs(values).max(axis=-2, keepdims=True) / 127, 1e-12)
            arrays[field.name] = np.rint(values / scale).astype(np.int8)
            arrays[field.name + "_scale"] = scale.astype(np.float32)
        else:
            arrays[field.name] = values.astype(np.float16)
    np.savez_compressed(folder / WEIGHTS, **arrays)  # type: ignore[arg-type]


def read_flow(folder: Path) -> Flow:
    """Reads what `write_flow` wrote.

    Raises:
        InputError: the file is missing, too large, damaged, or its arrays do not fit together.
    """
    path = folder / WEIGHTS
    arrays = _arrays(path)

    def single(name: str) -> np.ndarray:
        values = arrays[name].astype(np.float32)
        return values * arrays[name + "_scale"] if name in MATRICES else values

    own = ("mean", "basis", "variance")
    layers = [field.name for field in fields(Network)]
    try:
        found = {name: single(name) for name in (*own, *layers)}
    except (KeyError, ValueError) as error:
        raise InputError(path, "", "the arrays of a generator", str(error)) from None
    _expect_fitting(path, found)
    network = Network(**{name: found[name] for name in layers})
    return Flow(**{name: found[name] for name in own}, network=network)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > BYTES_MAX:
            raise InputError(path, "", f"at most {BYTES_MAX} bytes of arrays", size)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(path, "", "the weights of a generator", "no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(path, "", "the weights of a generator", str(error)) from None


def _expect_fitting(path: Path, found: Mapping[str, np.ndarray]) -> None:
    """Refuses shapes that do not fit together, and numbers that are none."""
    for name, axes in (("embed", 2), ("condition", 2), ("up", 3)):
        if found[name].ndim != axes:
            raise InputError(path, name, f"{axes} axes", f"shape {found[name].shape}")
    components, width = found["embed"].shape
    inputs, cond = found["condition"].shape
    blocks = len(found["up"])
    shapes = {
        "mean": (PIXELS,),
        "basis": (components, PIXELS),
        "variance": (components,),
        "condition": (inputs, cond),
        "condition_bias": (cond,),
        "blend": (cond, cond),
        "blend_bias": (cond,),
        "modulate": (blocks, cond, 2 * width),
        "modulate_bias": (blocks, 2 * width),
        "up": (blocks, width, width),
        "up_bias": (blocks, width),
        "down": (blocks, width, width),
        "out": (width, components),
    }
    for name, values in found.items():
        shape = shapes.get(name, values.shape)
        if values.shape != shape:
            raise InputError(path, name, f"shape {shape}", f"{values.shape}")
        if not np.isfinite(values).all():
            raise InputError(path, name, "finite numbers", "NaN or infinity")
    if not (found["variance"] > 0).all():
        least = float(found["variance"].min())
        raise InputError(path, "variance", "numbers above 0", least)


def _waves(time: Float[np.ndarray, "rows 1"]) -> Float[np.ndarray, "rows waves"]:
    angles = np.float32(np.pi) * time * np.arange(FREQUENCIES, dtype=np.float32)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def _silu(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x / (1 + np.exp(-np.maximum(x, np.float32(-80))))
    return found


def _normal(h: np.ndarray) -> np.ndarray:
    h = h - h.mean(axis=1, keepdims=True)
    found: np.ndarray = h / np.sqrt((h * h).mean(axis=1, keepdims=True) + _FLOOR)
    return found
