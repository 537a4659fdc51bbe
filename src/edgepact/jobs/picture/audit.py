"""Whether a picture is what a device's steps make of what it was handed.

An audit does the steps again and compares grey levels: at pixels drawn from a key that the device
does not know, the root of the mean square of the differences. An honest device differs by what
another processor makes of the same sums, now and then a level at a pixel. How much that is, and
how much a device differs that saves computing, is measured with the weights in use, for each
amount: chains computed in double precision stand for other processors, and these for cheats:

- a step is skipped: the first two of the device's are done as one, or the last two;
- the guidance is left out, which halves the computing of every step;
- a cheaper model, its weights rounded to 4 bits;
- a picture of the same text from another chain, made once and sent for ever;
- what came is shown as it came, without any step.

The tolerance lies between, at the geometric mean of the largest honest difference and the least
of a cheat's. Where they meet, an audit finds only a share of such cheats, and the market is told
so (`work.ServerPart.audit_power`).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float, UInt8

from edgepact.inference.flow import MATRICES, Flow, Network, moved
from edgepact.jobs.picture.chain import Generator

PIXELS_KEPT = 256
"""Pixels of a picture that are kept until it is settled."""

HONEST_LEAST = 0.125
"""Grey levels, root mean square, that are granted to any processor: a level at one pixel of 64."""

CHAINS = 12
"""Chains of each amount that are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """How far honest work and cheats differ at an amount; grey levels, root mean square.

    Attributes:
        amount: steps of the device.
        honest: largest difference of honest work.
        tolerance: differences above it are cheats.
        cheat: least difference of the cheat that differs least.
        cheat_name: what it does.
        power: least share, over all cheats, of pictures that an audit finds.
    """

    amount: int
    honest: float
    tolerance: float
    cheat: float
    cheat_name: str
    power: float


def kept_pixels(picture: bytes, key: bytes) -> bytes:
    """The pixels of a picture that are kept."""
    return np.frombuffer(picture, np.uint8)[_places(len(picture), key)].tobytes()


def difference(evidence: bytes, own: UInt8[np.ndarray, "size size"], key: bytes) -> float:
    """How far kept pixels are from one's own picture: grey levels, root mean square."""
    mine = own.reshape(-1)[_places(own.size, key)].astype(np.float64)
    came = np.frombuffer(evidence, np.uint8)
    if came.shape != mine.shape:
        return math.inf
    return float(np.sqrt(np.mean((came - mine) ** 2)))


def margins(
    generator: Generator, texts: Sequence[Float[np.ndarray, "1 dim"]], *, seed: int = 0
) -> tuple[Margin, ...]:
    """What honest work and cheats differ by, at every amount from 1.

    Args:
        generator: weights and recipe.
        texts: vectors of prompts of different classes.
        seed: of the chains.
    """
    flow, steps = generator.flow, generator.recipe.steps
    rows = CHAINS
    text = np.concatenate([texts[at % len(texts)] for at in range(rows)])
    chain = [flow.noise(seed, rows)]
    for step in range(steps):
        chain.append(generator.advanced(chain[-1], np.full(rows, step), text))
    finished = flow.decoded(chain[-1])
    other = flow.decoded(generator.passed(flow.noise(seed + 1, rows), 0, steps, text))
    double = replace(generator, flow=_double(flow))
    rounded = replace(generator, flow=_rounded(flow))
    plain = replace(generator, recipe=replace(generator.recipe, guidance=1.0))
    found = []
    for amount in range(1, steps + 1):
        begin = steps - amount
        x = chain[begin]
        honest = flow.decoded(double.passed(x.astype(np.float64), begin, steps, text))
        cheats = {
            "no guidance": flow.decoded(plain.passed(x, begin, steps, text)),
            "weights of 4 bits": flow.decoded(rounded.passed(x, begin, steps, text)),
            "another picture": other,
            "no step": flow.decoded(x),
        }
        if amount > 1:
            for name, at in (("the first", begin), ("the last", steps - 2)):
                skipped = _two_as_one(generator, x, begin, at, text)
                cheats[f"{name} two steps as one"] = flow.decoded(skipped)
        if generator.recipe.guidance == 1.0:
            del cheats["no guidance"]
        found.append(_margin(amount, finished, honest, cheats))
    return tuple(found)


def _margin(
    amount: int,
    finished: UInt8[np.ndarray, "rows size size"],
    honest: UInt8[np.ndarray, "rows size size"],
    cheats: dict[str, UInt8[np.ndarray, "rows size size"]],
) -> Margin:
    apart = max(HONEST_LEAST, float(_apart(honest, finished).max()))
    by_cheat = {name: _apart(pictures, finished) for name, pictures in cheats.items()}
    name = min(by_cheat, key=lambda each: float(by_cheat[each].min()))
    least = float(by_cheat[name].min())
    tolerance = max(apart, math.sqrt(apart * least))
    # As an audit sees them, which has only the pixels that were kept.
    evidence = {
        name: [
            difference(kept_pixels(picture.tobytes(), bytes([row])), own, bytes([row]))
            for row, (picture, own) in enumerate(zip(pictures, finished, strict=True))
        ]
        for name, pictures in cheats.items()
    }
    power = min(float(np.mean(np.array(each) > tolerance)) for each in evidence.values())
    return Margin(
        amount=amount,
        honest=apart,
        tolerance=tolerance,
        cheat=least,
        cheat_name=name,
        power=power,
    )


def _apart(
    these: UInt8[np.ndarray, "rows size size"], those: UInt8[np.ndarray, "rows size size"]
) -> Float[np.ndarray, " rows"]:
    squares = (these.astype(np.float64) - those) ** 2
    found: np.ndarray = np.sqrt(squares.reshape(len(squares), -1).mean(axis=1))
    return found


def _two_as_one(
    generator: Generator,
    x: Float[np.ndarray, "rows components"],
    begin: int,
    at: int,
    text: Float[np.ndarray, "rows dim"],
) -> Float[np.ndarray, "rows components"]:
    """A device's steps from `begin`, those at `at` and after it done as one."""
    recipe, rows = generator.recipe, len(x)
    x = generator.passed(x, begin, at, text)
    now, then = recipe.time(np.full(rows, at)), recipe.time(np.full(rows, at + 2))
    x = moved(x, generator.flow.meant(x, now, text, recipe.guidance), now, then)
    return generator.passed(x, at + 2, recipe.steps, text)


def _double(flow: Flow) -> Flow:
    network = {
        field.name: getattr(flow.network, field.name).astype(np.float64)
        for field in fields(Network)
    }
    return replace(
        flow,
        mean=flow.mean.astype(np.float64),
        basis=flow.basis.astype(np.float64),
        variance=flow.variance.astype(np.float64),
        network=Network(**network),
    )


def _rounded(flow: Flow) -> Flow:
    """Weights of 4 bits, with a scale for each output."""

    def rounded(name: str) -> np.ndarray:
        values = getattr(flow.network, name)
        if name not in MATRICES:
            return np.asarray(values)
        scale = np.maximum(np.abs(values).max(axis=-2, keepdims=True) / 7, 1e-12)
        return np.asarray(np.rint(values / scale) * scale, np.float32)

    network = Network(**{field.name: rounded(field.name) for field in fields(Network)})
    return replace(flow, network=network)


def _places(pixels: int, key: bytes) -> np.ndarray:
    """Where the kept pixels stand: drawn by SHAKE-256, whose stream no version changes."""
    drawn = hashlib.shake_256(b"pixels\n" + key).digest(4 * pixels)
    return np.argsort(np.frombuffer(drawn, "<u4"), kind="stable")[:PIXELS_KEPT]
