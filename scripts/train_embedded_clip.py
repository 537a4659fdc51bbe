"""Train the embedded CLIP, export it, measure it and write its model card.

Everything under `src/edgepact/inference/models/` that is not code comes from
one run of this script::

    OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false \
        python scripts/train_embedded_clip.py

The accuracies in the card are those of the exported ONNX files on all 10,000
test images, which the training never sees. `--smoke` does the same with a few
steps and few images and writes to a temporary folder.
"""

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import onnxruntime as ort
import typer
from jaxtyping import Float, UInt8
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edgepact.errors import EdgepactError
from edgepact.inference import models
from edgepact.inference.calibration import calibrate
from edgepact.inference.pipeline import IMAGE_GRAPH, ModelInfo, open_session, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.jobs.classification import digest_of, find_images
from edgepact.training import captions, fashion_mnist
from edgepact.training.clip import (
    Clip,
    ClipConfig,
    Normalisation,
    Report,
    Trained,
    TrainingConfig,
    encode_images,
    train,
    tune_text,
)
from edgepact.training.export import export, load

NAME = "fashion-clip"
# The second stage sees the text encoder alone, which is cheap: more captions, stranger ones.
TUNING = TrainingConfig(epochs=6, batch=256, captions=16, learning_rate=1e-3)
CAPTIONS_PER_CLASS = 4096
CAPTIONS_PER_CLASS_TUNING = 16384
SAMPLES_PER_CLASS = 30
BATCH_MEASURED = 500
SMOKE_STEPS = 4
SMOKE_IMAGES = 1024

console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one run does."""

    data: Path
    out: Path
    seed: int
    epochs: int
    smoke: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How a stage of training went; losses are means over the first and last chunk of steps."""

    steps: int
    loss_first: float
    loss_last: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A model and how its last stage of training went."""

    model: Clip
    stage: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What was measured; written as `metrics.json` and into the model card.

    Accuracies are shares of the test images; those by template or by name are
    in the order of the lists in `edgepact.training.captions`.
    """

    stages: tuple[Stage, ...]
    jax: str
    test_images: int
    parameters: int
    model_bytes: int
    accuracy: float
    accuracy_by_class: dict[str, float]
    accuracy_trained_templates: dict[str, float]
    accuracy_held_out_ensemble: float
    accuracy_held_out_templates: dict[str, float]
    accuracy_trained_names: list[float]
    accuracy_held_out_phrases: float
    accuracy_held_out_synonyms: float
    accuracy_samples: float


def main(
    data: Annotated[
        Path, typer.Option(help="Folder with the four gzipped IDX files of Fashion-MNIST.")
    ] = fashion_mnist.DEBIAN_FOLDER,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write into; the package's own models by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="All randomness comes from it.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = (
        TrainingConfig().epochs
    ),
    smoke: Annotated[bool, typer.Option(help="A few steps, into a temporary folder.")] = False,
) -> None:
    """Train the embedded CLIP on Fashion-MNIST and write its model directory."""
    if out is None:
        default = models.embedded().parent
        out = Path(tempfile.mkdtemp(prefix="edgepact-clip-")) if smoke else default
    try:
        run(Config(data=data, out=out, seed=seed, epochs=epochs, smoke=smoke))
    except EdgepactError as error:
        console.print(str(error), style="red", soft_wrap=True)
        raise typer.Exit(2) from None


def run(config: Config) -> Metrics:
    """Read, train, export, measure, write."""
    training_images = fashion_mnist.read(config.data, "train")
    test_images = fashion_mnist.read(config.data, "test")
    if config.smoke:
        training_images = training_images.first(SMOKE_IMAGES)
        test_images = test_images.first(SMOKE_IMAGES)
    normalisation = Normalisation.of(training_images.images)
    shape, schedule = ClipConfig(), TrainingConfig(epochs=config.epochs)
    both = _train(config, training_images, normalisation, shape, schedule)
    tuned = _tune(config, both.model, training_images, normalisation)
    model = tuned.model

    model_dir = config.out / models.embedded().name
    export(
        model,
        shape,
        normalisation,
        name=NAME,
        labels=fashion_mnist.LABELS,
        templates=captions.TEMPLATES,
        model_dir=model_dir,
    )
    samples = write_samples(test_images, config.out / models.samples().name)
    metrics = measure(model_dir, (both.stage, tuned.stage), normalisation, test_images, samples)
    (model_dir / "metrics.json").write_text(json.dumps(asdict(metrics), indent=2) + "\n")
    (model_dir / "MODEL_CARD.md").write_text(model_card(config, shape, schedule, metrics))
    _calibrate(model_dir, config.out / models.samples().name)
    console.print(_table(metrics))
    console.print(f"written to {config.out}")
    return metrics


def _calibrate(model_dir: Path, samples: Path) -> None:
    """Tolerances of audits, as `scripts/calibrate_embedded_clip.py` measures them."""
    info = ModelInfo.read(model_dir)
    pixels = [preprocess(each.path.read_bytes(), info) for each in find_images(samples)]
    calibrate(model_dir, model_digest=digest_of(model_dir), pixels=pixels).write(model_dir)


def write_samples(test: fashion_mnist.LabelledImages, folder: Path) -> list[int]:
    """The first test images of each class as PNG files that hold their exact pixels.

    Returns:
        Their indices in the test set; files are named after them.
    """
    if folder.exists():
        shutil.rmtree(folder)
    chosen = []
    for number, label in enumerate(fashion_mnist.LABELS):
        (folder / label).mkdir(parents=True)
        for index in np.flatnonzero(test.labels == number)[:SAMPLES_PER_CLASS]:
            Image.fromarray(test.images[index]).save(
                folder / label / f"{index:05d}.png", optimize=True
            )
            chosen.append(int(index))
    return chosen


def measure(
    model_dir: Path,
    stages: tuple[Stage, ...],
    normalisation: Normalisation,
    test: fashion_mnist.LabelledImages,
    samples: Sequence[int],
) -> Metrics:
    """Run the exported files on the test images, with seen and unseen prompts."""
    vectors = _image_vectors(model_dir, test.images, normalisation)
    labels = fashion_mnist.LABELS

    def right(names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        base = KnowledgeBase.from_texts(model_dir, names, templates)
        return np.asarray(base.classify(vectors).argmax(axis=1) == test.labels)

    def accuracy(names: Sequence[str], templates: Sequence[str]) -> float:
        return float(right(names, templates).mean())

    by_default = right(labels, captions.TEMPLATES)
    return Metrics(
        stages=stages,
        jax=jax.__version__,
        test_images=len(test),
        parameters=_parameters(model_dir),
        model_bytes=sum(
            file.stat().st_size for file in model_dir.iterdir() if file.suffix in (".onnx", ".bin")
        ),
        accuracy=float(by_default.mean()),
        accuracy_by_class={
            label: float(by_default[test.labels == number].mean())
            for number, label in enumerate(labels)
        },
        accuracy_trained_templates={one: accuracy(labels, [one]) for one in captions.TEMPLATES},
        accuracy_held_out_ensemble=accuracy(labels, captions.HELD_OUT_TEMPLATES),
        accuracy_held_out_templates={
            one: accuracy(labels, [one]) for one in captions.HELD_OUT_TEMPLATES
        },
        accuracy_trained_names=[
            accuracy(names, captions.TEMPLATES)
            for names in zip(*(captions.NAMES[label] for label in labels), strict=True)
        ],
        accuracy_held_out_phrases=accuracy(
            [captions.HELD_OUT_PHRASES[label] for label in labels], captions.TEMPLATES
        ),
        accuracy_held_out_synonyms=accuracy(
            [captions.HELD_OUT_SYNONYMS[label] for label in labels], captions.TEMPLATES
        ),
        accuracy_samples=float(by_default[list(samples)].mean()),
    )


def model_card(
    config: Config, shape: ClipConfig, schedule: TrainingConfig, metrics: Metrics
) -> str:
    """The model card; every figure in it was measured by this run or is a setting of it."""
    command = f"python scripts/train_embedded_clip.py --seed {config.seed} --epochs {config.epochs}"
    first, second = metrics.stages
    late = [metrics.accuracy_held_out_templates[one] for one in captions.LATE_HELD_OUT_TEMPLATES]
    held_out = metrics.accuracy_held_out_templates.values()
    rows = [
        ("labels in the default prompts", metrics.accuracy),
        ("labels, prompts never used in training, together", metrics.accuracy_held_out_ensemble),
        ("labels, the worst single prompt never used in training", min(held_out)),
        ("labels, the best single prompt never used in training", max(held_out)),
        ("the same, the worst of those written last", min(late)),
        ("other names seen in training, worst set", min(metrics.accuracy_trained_names[1:])),
        ("other names seen in training, best set", max(metrics.accuracy_trained_names[1:])),
        ("unseen phrases around a seen word", metrics.accuracy_held_out_phrases),
        ("unseen synonyms without a seen word", metrics.accuracy_held_out_synonyms),
    ]
    accuracies = "\n".join(f"| {what} | {share:.2%} |" for what, share in rows)
    classes = "\n".join(
        f"| {label} | {share:.1%} |" for label, share in metrics.accuracy_by_class.items()
    )
    prompts = "\n".join(
        f"| `{template}` | {share:.2%} |"
        for template, share in metrics.accuracy_held_out_templates.items()
    )
    phrases, synonyms = (
        ", ".join(f"{label} = *{name}*" for label, name in names.items())
        for names in (captions.HELD_OUT_PHRASES, captions.HELD_OUT_SYNONYMS)
    )
    chance = 1 / len(fashion_mnist.LABELS)
    return f"""# Model card: {NAME}

Written by `scripts/train_embedded_clip.py`, which measured all figures. They are also in
`metrics.json`.

## What it is

A small CLIP: an image encoder and a text encoder whose vectors of matching image and text point
the same way. It exists so that split inference, pricing and payment can be shown on real images
without a download. The image encoder is a vision transformer of {shape.layers} equal blocks
(width {shape.width}, {shape.heads} heads, MLP {shape.mlp_width}, {shape.tokens} patches of
{shape.patch}x{shape.patch} pixels, mean pooling); the text encoder reads up to
{shape.text_bytes} bytes and has {shape.text_layers} blocks of the same size. Together they have
{metrics.parameters:,} parameters, stored in half precision and computed in single precision;
weights and graphs take {metrics.model_bytes:,} bytes.

## Data

Fashion-MNIST (Xiao, Rasul and Vollgraf 2017; copyright 2017 Zalando SE, MIT licence), from Debian's
package `dataset-fashion-mnist`: 60,000 training images, {metrics.test_images:,} test images, all
{shape.image_size}x{shape.image_size} grey pixels. The captions are put together by
`edgepact.training.captions`. The sample images shipped with the package are the first
{SAMPLES_PER_CLASS} test images of each class, pixel for pixel; on them the model scores
{metrics.accuracy_samples:.1%}.

## Training

    {command}

First both encoders together: multi-positive InfoNCE, AdamW, {schedule.epochs} epochs of batches of
{schedule.batch} images and {schedule.captions} captions of each class, learning rate
{schedule.learning_rate:g} after a warm-up and down a cosine, weight decay
{schedule.weight_decay:g}, images mirrored and shifted by up to {schedule.shift_pixels} pixel; half
of the captions use the label and half another name of the class, half real prompts and half
made-up words around the name. {first.steps:,} steps took {first.seconds:.0f} s; the loss fell from
{first.loss_first:.2f} to {first.loss_last:.2f}.

Then the text encoder alone, against the finished image vectors: batches of {TUNING.batch} images
and {TUNING.captions} captions of each class, with more and longer made-up words and some capitals,
learning rate {TUNING.learning_rate:g}. {second.steps:,} steps took {second.seconds:.0f} s; the loss
fell from {second.loss_first:.2f} to {second.loss_last:.2f}. (A batch with several right captions
and images has a lowest possible loss far above 0, so the two stages cannot be compared.)

Seconds are wall time on a {platform.machine()} CPU. Seed {config.seed}, Python
{platform.python_version()}, JAX {metrics.jax}, ONNX Runtime {ort.__version__}. Another machine or
version may add in another order, so that its weights differ.

What the test images decided: after the first stage had been measured once, the first
{len(captions.FIRST_HELD_OUT_TEMPLATES)} prompts of the list below showed that single prompts could
still fail, and the second stage was added. The last {len(captions.LATE_HELD_OUT_TEMPLATES)} were
written before it was first run and have decided nothing.

## Zero-shot accuracy on {metrics.test_images:,} test images

Measured with the exported ONNX files; chance is {chance:.0%}.

| prompts and names | accuracy |
|---|---|
{accuracies}

| prompt never used in training | accuracy |
|---|---|
{prompts}

| class | accuracy |
|---|---|
{classes}

Unseen phrases: {phrases}.
Unseen synonyms: {synonyms}.

## Limits

- It is **not open vocabulary**. It has learnt ten classes and a handful of names for each. A word
  it was not trained on means next to nothing to it, as the row of unseen synonyms shows, and yet
  every image gets some class. Most new prompts around known names work, some cost accuracy: the
  worst one measured loses {metrics.accuracy - min(held_out):.1%} of the images. New names do not
  work. Several prompts together are steadier than one.
- It knows small grey pictures of garments on black, and nothing else. Photographs, colours,
  several objects or other things get a class all the same.
- It confuses shirt, t-shirt, pullover and coat with each other.
- Probabilities are not calibrated.
- The data set's "T-shirt/top" is called "t-shirt" here.

It is meant for showing and testing. For real images import a real CLIP checkpoint.
"""


def _train(
    config: Config,
    data: fashion_mnist.LabelledImages,
    normalisation: Normalisation,
    shape: ClipConfig,
    schedule: TrainingConfig,
) -> Staged:
    """First stage: both encoders together."""
    bank = captions.caption_bank(CAPTIONS_PER_CLASS, seed=config.seed)
    model_key, training_key = jax.random.split(jax.random.key(config.seed))
    start = time.perf_counter()
    with _progress("both encoders") as report:
        trained = train(
            Clip.init(model_key, shape),
            data.images,
            data.labels,
            bank,
            normalisation,
            schedule,
            training_key,
            steps_max=SMOKE_STEPS if config.smoke else None,
            report=report,
        )
    return _staged(trained, schedule, start)


def _tune(
    config: Config,
    model: Clip,
    data: fashion_mnist.LabelledImages,
    normalisation: Normalisation,
) -> Staged:
    """Second stage: the text encoder alone."""
    start = time.perf_counter()
    bank = captions.caption_bank(
        CAPTIONS_PER_CLASS_TUNING // (100 if config.smoke else 1),
        seed=config.seed + 1,
        made_up_share=0.7,
        words_after_max=5,
        capitals_share=0.1,
    )
    vectors = encode_images(model, data.images, normalisation)
    with _progress("text encoder") as report:
        trained = tune_text(
            model,
            vectors,
            data.labels,
            bank,
            TUNING,
            jax.random.fold_in(jax.random.key(config.seed), 2),
            steps_max=SMOKE_STEPS if config.smoke else None,
            report=report,
        )
    return _staged(trained, TUNING, start)


def _staged(trained: Trained, schedule: TrainingConfig, start: float) -> Staged:
    chunk = schedule.chunk_steps
    stage = Stage(
        steps=len(trained.losses),
        loss_first=float(trained.losses[:chunk].mean()),
        loss_last=float(trained.losses[-chunk:].mean()),
        seconds=time.perf_counter() - start,
    )
    return Staged(model=trained.model, stage=stage)


@contextmanager
def _progress(what: str) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps  loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=None, loss=float("nan"))
        yield lambda done, steps, loss: progress.update(
            task, completed=done, total=steps, loss=loss
        )


def _parameters(model_dir: Path) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(load(model_dir).model))


def _image_vectors(
    model_dir: Path, images: UInt8[np.ndarray, "n size size"], normalisation: Normalisation
) -> Float[np.ndarray, "n dim"]:
    session = open_session(model_dir / IMAGE_GRAPH)
    vectors = []
    for start in range(0, len(images), BATCH_MEASURED):
        grey = images[start : start + BATCH_MEASURED, None].astype(np.float32)
        pixels = (grey / 255 - normalisation.mean) / normalisation.std
        vectors.append(session.run(["vector"], {"pixels": pixels.astype(np.float32)})[0])
    return np.concatenate(vectors)


def _table(metrics: Metrics) -> Table:
    table = Table("measured on the test images", "accuracy", title=NAME)
    table.add_row("labels, default prompts", f"{metrics.accuracy:.2%}")
    table.add_row("labels, held-out prompts together", f"{metrics.accuracy_held_out_ensemble:.2%}")
    for template, share in metrics.accuracy_held_out_templates.items():
        table.add_row(f"  {template}", f"{share:.2%}")
    table.add_row("unseen phrases", f"{metrics.accuracy_held_out_phrases:.2%}")
    table.add_row("unseen synonyms", f"{metrics.accuracy_held_out_synonyms:.2%}")
    return table


if __name__ == "__main__":
    typer.run(main)
