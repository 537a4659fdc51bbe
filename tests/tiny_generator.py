"""A generator of pictures with random weights, small enough for every test."""

import json
from pathlib import Path

import numpy as np

from edgepact.inference.flow import FREQUENCIES, PIXELS, Flow, Network, write_flow
from edgepact.jobs.picture.chain import GENERATOR_JSON

DIM = 64
"""Numbers of a text vector of the embedded CLIP."""


def tiny_flow(seed: int = 0, *, components: int = 12, width: int = 16, blocks: int = 2) -> Flow:
    """Random weights; orthogonal components of falling variance."""
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        values = rng.standard_normal(shape) * shape[-2 if len(shape) > 1 else 0] ** -0.5
        return np.asarray(values, np.float32)

    basis = np.linalg.qr(rng.standard_normal((PIXELS, components)))[0].T
    variance = np.linspace(3.0, 0.2, components).astype(np.float32)
    return Flow(
        mean=np.full(PIXELS, -0.2, np.float32),
        basis=(4.0 * basis).astype(np.float32),
        variance=variance,
        network=Network(
            embed=drawn(components, width),
            condition=drawn(DIM + 2 * FREQUENCIES, width),
            condition_bias=drawn(width),
            blend=drawn(width, width),
            blend_bias=drawn(width),
            modulate=drawn(blocks, width, 2 * width),
            modulate_bias=drawn(blocks, 2 * width),
            up=drawn(blocks, width, width),
            up_bias=drawn(blocks, width),
            down=drawn(blocks, width, width),
            out=drawn(width, components),
        ),
    )


def write_tiny(folder: Path, *, steps: int = 4, guidance: float = 2.0, seed: int = 0) -> Path:
    """A folder with a tiny generator; its text encoder is the embedded CLIP's."""
    folder.mkdir(parents=True, exist_ok=True)
    write_flow(tiny_flow(seed), folder)
    stated = {
        "name": "tiny",
        "steps": steps,
        "guidance": guidance,
        "labels": ["bag", "coat", "dress"],
        "templates": ["a photo of a {}", "my {}"],
    }
    (folder / GENERATOR_JSON).write_text(json.dumps(stated))
    return folder
