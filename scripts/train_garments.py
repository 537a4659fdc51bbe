"""Train the generator of garments, measure it by the judge and write its model card.

Everything in `src/edgepact/inference/models/garments/` comes from one run of this script, after
`scripts/train_garment_judge.py`::

    OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false \
        python scripts/train_garments.py

Figures in the card are of the files as they ship, with weights of 8 bits, beside those of the same
weights in single precision. `--kept FILE` writes the latter, or reads them in place of a training
if the file is there. `--smoke` does the same with a few steps and writes to a temporary folder.
"""

import json
import platform
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer

from edgepact.errors import EdgepactError
from edgepact.inference import models
from edgepact.inference.flow import WEIGHTS, Flow, Network, write_flow
from edgepact.inference.judge import Judge
from edgepact.jobs.picture.chain import GENERATOR_JSON, Generator, TextVectors, read_generator
from edgepact.jobs.picture.prompts import built_in
from edgepact.studies.picture_quality import frechet
from edgepact.training import fashion_mnist
from edgepact.training.captions import TEMPLATES
from edgepact.training.garments import (
    Components,
    GarmentsConfig,
    GarmentsTrained,
    caption_vectors,
    train_garments,
)

STEPS, GUIDANCE = 8, 3.0
"""With which the generator ships. Of the guidances that the study `pictures` sweeps, 3 leaves the
widest recall at 8 steps; more is judged better by another point, and draws less various pictures.
"""

PICTURES, SMOKE_PICTURES = 2000, 40
SMOKE_IMAGES = 1024


def main(
    data: Annotated[
        Path, typer.Option(help="Folder with the four gzipped IDX files of Fashion-MNIST.")
    ] = fashion_mnist.DEBIAN_FOLDER,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; the package's own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="All randomness comes from it.")] = 0,
    kept: Annotated[
        Path | None, typer.Option(help="File of the weights in single precision.")
    ] = None,
    smoke: Annotated[bool, typer.Option(help="A few steps, into a temporary folder.")] = False,
) -> None:
    """Train the generator on Fashion-MNIST and write its folder."""
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="edgepact-garments-")) if smoke else models.garments()
    config = GarmentsConfig()
    if smoke:
        config = replace(config, steps=4, chunk_steps=2, captions=8, width=32, blocks=1)
    try:
        run(data, out, seed, config, kept, smoke)
    except EdgepactError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None


def run(
    data: Path, out: Path, seed: int, config: GarmentsConfig, kept: Path | None, smoke: bool
) -> None:
    """Read, train, write, measure."""
    training = fashion_mnist.read(data, "train")
    test = fashion_mnist.read(data, "test")
    if smoke:
        training, test = training.first(SMOKE_IMAGES), test.first(SMOKE_IMAGES)
    if kept is not None and kept.is_file():
        trained = _read(kept)
    else:
        texts = caption_vectors(models.embedded(), config.captions, seed)
        trained = train_garments(
            training.images,
            training.labels,
            texts,
            config,
            seed=seed,
            report=lambda done, steps, loss: print(f"{done}/{steps} steps, loss {loss:.4f}"),
        )
        if kept is not None:
            _write(kept, trained)
    out.mkdir(parents=True, exist_ok=True)
    write_flow(trained.flow, out)
    stated = {
        "name": "garments",
        "steps": STEPS,
        "guidance": GUIDANCE,
        "labels": list(fashion_mnist.LABELS),
        "templates": list(TEMPLATES),
    }
    (out / GENERATOR_JSON).write_text(json.dumps(stated, indent=2) + "\n")
    shipped = read_generator(out, {})
    metrics = measure(shipped, trained, test, config, SMOKE_PICTURES if smoke else PICTURES)
    metrics["variance_kept"] = Components.of(training.images, config.components).kept
    metrics["seed"] = seed
    metrics["bytes"] = (out / WEIGHTS).stat().st_size
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (out / "MODEL_CARD.md").write_text(card(config, metrics))
    print(f"{metrics['accuracy']:.2%} judged as meant; written to {out}")


def measure(
    shipped: Generator,
    trained: GarmentsTrained,
    test: fashion_mnist.LabelledImages,
    config: GarmentsConfig,
    pictures: int,
) -> dict:
    """The judge's word on the same prompts and noise, with weights of 8 bits and with all bits."""
    judge = Judge(models.garment_judge())
    prompts = built_in(shipped.labels, shipped.templates)
    prompts = [prompts[at % len(prompts)] for at in range(pictures)]
    vectors = TextVectors(shipped.text_folder)
    texts = np.concatenate([vectors.of(each.text) for each in prompts])
    labels = np.array([judge.labels.index(each.label) for each in prompts])
    noise = shipped.flow.noise(0, pictures)
    real = judge.seen(test.images)[1]

    def drawn(generator: Generator) -> tuple[np.ndarray, np.ndarray, float]:
        images = generator.flow.decoded(generator.passed(noise, 0, STEPS, texts))
        seen, features = judge.seen(images)
        return images, seen.argmax(axis=1) == labels, frechet(features, real)

    images, right, far = drawn(shipped)
    exact, exactly_right, exactly_far = drawn(replace(shipped, flow=trained.flow))
    apart = (images.astype(float) - exact) ** 2
    return {
        "accuracy": float(right.mean()),
        "accuracy_single": float(exactly_right.mean()),
        "frechet": far,
        "frechet_single": exactly_far,
        "levels_apart": float(np.sqrt(apart.reshape(pictures, -1).mean(axis=1)).mean()),
        "accuracy_by_class": {
            label: float(right[labels == at].mean()) for at, label in enumerate(judge.labels)
        },
        "pictures": pictures,
        "parameters": sum(
            getattr(trained.flow.network, field.name).size for field in fields(Network)
        ),
        "step_mmac": 1e3 * shipped.flow.step_gmac,
        "steps_trained": len(trained.losses),
        "loss_first": float(trained.losses[:100].mean()),
        "loss_last": float(trained.losses[-100:].mean()),
        "cpu_seconds": trained.cpu_seconds,
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
    }


def card(config: GarmentsConfig, metrics: dict) -> str:
    """The model card; every figure in it was measured by this run or is a setting of it."""
    classes = "\n".join(
        f"| {label} | {share:.1%} |" for label, share in metrics["accuracy_by_class"].items()
    )
    versions = metrics["versions"]
    return f"""# Model card: garments

Written by `scripts/train_garments.py`, which measured all figures. They are also in
`metrics.json`.

## What it is

A generator of grey pictures of 28x28 from a text: flow matching in {config.components} principal
components, which hold {metrics["variance_kept"]:.1%} of the pictures' variance. What a Gaussian
would leave to guess is guessed by {config.blocks} residual blocks of width {config.width}; the text
is a vector of the embedded CLIP's text encoder. It exists so that a chain of steps can be split
between a server and a device, priced and audited without a download.

{metrics["parameters"]:,} parameters, in 8 bits with a scale for each output, and computed in
single precision; the file takes {metrics["bytes"]:,} bytes. A guided step is
{metrics["step_mmac"]:.2f} million multiplications. It ships with {STEPS} steps and a guidance of
{GUIDANCE:g}.

## Data

Fashion-MNIST's 60,000 training images (Xiao, Rasul and Vollgraf 2017; copyright 2017 Zalando SE,
MIT licence), from Debian's package `dataset-fashion-mnist`. The captions are put together by
`edgepact.training.captions`, {config.captions:,} of each class, and encoded by the embedded CLIP.

## Training

    python scripts/train_garments.py --seed {metrics["seed"]}

AdamW, {metrics["steps_trained"]:,} steps of {config.batch} pictures, learning rate
{config.learning_rate:g} after a warm-up and down a cosine; {config.no_text:.0%} of the pictures
without a text; kept is a running mean of the weights (decay {config.average:g}).
{metrics["cpu_seconds"]:.0f} CPU seconds on one thread; the loss fell from
{metrics["loss_first"]:.3f} to {metrics["loss_last"]:.3f}. Python {versions["python"]}, JAX
{versions["jax"]}, NumPy {versions["numpy"]}.

## Quality

{metrics["pictures"]:,} pictures, as many of each class, judged by a network that took no part in
making them (`garment_judge/`), with the same prompts and noise:

| weights | judged as meant | Fréchet distance to test images |
|---|---|---|
| 8 bits, as shipped | {metrics["accuracy"]:.2%} | {metrics["frechet"]:.2f} |
| single precision | {metrics["accuracy_single"]:.2%} | {metrics["frechet_single"]:.2f} |

Pictures of the two differ by {metrics["levels_apart"]:.2f} grey levels (root mean square, mean).

| class | judged as meant |
|---|---|
{classes}

By guidance and steps, shared and split, with variety beside accuracy: `docs/studies/pictures.md`.

## Limits

- It draws ten kinds of garments and nothing else. Whatever a text says, one of them comes; words
  that the embedded CLIP has not learnt mean next to nothing, as that one's card shows.
- Texts choose the kind of garment. Colours, patterns and lengths that a text names are not heeded.
- Fine texture is lost in the components that are left out.
- Pictures of a class are more alike than real ones.
"""


def _write(path: Path, trained: GarmentsTrained) -> None:
    flow = trained.flow
    arrays = {field.name: getattr(flow.network, field.name) for field in fields(Network)}
    arrays |= {"mean": flow.mean, "basis": flow.basis, "variance": flow.variance}
    np.savez(path, losses=trained.losses, cpu_seconds=trained.cpu_seconds, **arrays)


def _read(path: Path) -> GarmentsTrained:
    with np.load(path, allow_pickle=False) as file:
        network = Network(**{field.name: file[field.name] for field in fields(Network)})
        flow = Flow(
            mean=file["mean"], basis=file["basis"], variance=file["variance"], network=network
        )
        return GarmentsTrained(
            flow=flow, losses=file["losses"], cpu_seconds=float(file["cpu_seconds"])
        )


if __name__ == "__main__":
    typer.run(main)
