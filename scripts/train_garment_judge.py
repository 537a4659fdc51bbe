"""Train the judge of garments, measure it on the test images and write its model card.

Everything in `src/edgepact/inference/models/garment_judge/` comes from one run of this script::

    OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false \
        python scripts/train_garment_judge.py

`--smoke` does the same with few images and writes to a temporary folder.
"""

import json
import platform
import tempfile
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import onnxruntime as ort
import typer

from edgepact.errors import EdgepactError
from edgepact.inference import models
from edgepact.inference.judge import LABELS_JSON, Judge
from edgepact.training import fashion_mnist
from edgepact.training.garment_judge import JudgeConfig, train_judge, write_judge

SMOKE_IMAGES = 1024


def main(
    data: Annotated[
        Path, typer.Option(help="Folder with the four gzipped IDX files of Fashion-MNIST.")
    ] = fashion_mnist.DEBIAN_FOLDER,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; the package's own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="All randomness comes from it.")] = 1,
    smoke: Annotated[bool, typer.Option(help="Few images, into a temporary folder.")] = False,
) -> None:
    """Train the judge on Fashion-MNIST and write its folder."""
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="edgepact-judge-")) if smoke else models.garment_judge()
    try:
        run(data, out, seed, JudgeConfig(), smoke)
    except EdgepactError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None


def run(data: Path, out: Path, seed: int, config: JudgeConfig, smoke: bool) -> None:
    """Read, train, write, measure."""
    training = fashion_mnist.read(data, "train")
    test = fashion_mnist.read(data, "test")
    if smoke:
        training, test = training.first(SMOKE_IMAGES), test.first(SMOKE_IMAGES)
    trained = train_judge(
        training.images,
        training.labels,
        config,
        seed=seed,
        report=lambda done, steps, loss: print(f"{done}/{steps} steps, loss {loss:.4f}"),
    )
    out.mkdir(parents=True, exist_ok=True)
    path = write_judge(trained.weights, out)
    (out / LABELS_JSON).write_text(json.dumps(list(fashion_mnist.LABELS)) + "\n")
    found = Judge(out).seen(test.images)[0].argmax(axis=1)
    metrics = {
        "accuracy": float(np.mean(found == test.labels)),
        "accuracy_by_class": {
            label: float(np.mean(found[test.labels == at] == at))
            for at, label in enumerate(fashion_mnist.LABELS)
        },
        "test_images": len(test),
        "parameters": sum(each.size for each in trained.weights.values()),
        "bytes": path.stat().st_size,
        "steps": len(trained.losses),
        "loss_last": float(trained.losses[-100:].mean()),
        "cpu_seconds": trained.cpu_seconds,
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "onnxruntime": ort.__version__,
        },
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (out / "MODEL_CARD.md").write_text(card(config, metrics))
    print(f"{metrics['accuracy']:.2%} of {len(test)} test images; written to {out}")


def card(config: JudgeConfig, metrics: dict) -> str:
    """The model card; every figure in it was measured by this run or is a setting of it."""
    one, two, three = config.channels
    classes = "\n".join(
        f"| {label} | {share:.1%} |" for label, share in metrics["accuracy_by_class"].items()
    )
    versions = metrics["versions"]
    return f"""# Model card: the judge of garments

Written by `scripts/train_garment_judge.py`, which measured all figures. They are also in
`metrics.json`.

## What it is

A convolutional network that tells which of ten garments a grey picture of 28x28 shows. It judges
pictures that the generator in `garments/` makes. It had no part in training that one, and never
saw a caption, a vector of the embedded CLIP, or a generated picture. The two have seen the same
training images.

Convolutions of 3x3 with {one}, {two} and {three} channels, each followed by the largest of 2x2;
{config.features} features, in which Fréchet distances are measured; ten classes.
{metrics["parameters"]:,} parameters in half precision, {metrics["bytes"]:,} bytes.

## Data

Fashion-MNIST (Xiao, Rasul and Vollgraf 2017; copyright 2017 Zalando SE, MIT licence), from
Debian's package `dataset-fashion-mnist`.

## Training

    python scripts/train_garment_judge.py --seed {metrics["seed"]}

AdamW, {config.epochs} epochs of batches of {config.batch}, learning rate {config.learning_rate:g}
after a warm-up and down a cosine, images mirrored and moved by up to {config.shift_pixels} pixel.
{metrics["steps"]:,} steps took {metrics["cpu_seconds"]:.0f} CPU seconds on one thread; the loss of
the last hundred was {metrics["loss_last"]:.3f}. Python {versions["python"]}, JAX
{versions["jax"]}, ONNX Runtime {versions["onnxruntime"]}.

## Accuracy

{metrics["accuracy"]:.2%} of {metrics["test_images"]:,} test images.

| class | accuracy |
|---|---|
{classes}

## Limits

It knows ten classes and gives one of them to any picture. It confuses shirts with t-shirts,
pullovers and coats, so that even real pictures are not all judged right; a generator can be
judged better than reality by drawing only what is typical.
"""


if __name__ == "__main__":
    typer.run(main)
