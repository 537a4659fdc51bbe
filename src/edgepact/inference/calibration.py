"""Measures how far honest work and cheats lie from a server's own, and sets tolerances between.

What honest devices do is imitated by ONNX Runtime with its graph optimisations off or halved,
with two threads, and by relative perturbations of 1e-6 to 1e-5 behind every stage, which is more
than processors differ by that add in another order. The cheats each save some of the work and
come as near to the honest activation as that allows:

- `block J skipped`, each single one;
- `int8 weights`: every matrix rounded to 8 bits with a scale for each column, and the rest exact;
- `tokens passed by`: the quarter of the tokens with the shortest activations skips the last block;
- `NAME instead`: the stages of a cheaper form of the model, where there are other forms of it;
- `ridge regression`: a linear map from pixels to activation, fitted to half of the images and
  tried on the others, where there are images enough.

The tolerance is the geometric mean of the largest honest and the least cheating deviation, but at
most `HONEST_MOST` times the largest honest one at any cut: a finer cheat than these would otherwise
escape for nothing. Where the two overlap, honest devices come first, and the power that is left is
told.

Images are run one by one, as the market runs them: the scale of an activation in a model with
int8 products spans a batch.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.compact_evidence import deviation, kept
from edgepact.inference.pipeline import ModelInfo, Pipeline, stage_path
from edgepact.inference.sketch import sketch
from edgepact.inference.tolerances import Margin, Tolerances
from edgepact.tensors import Codec, TensorSpec

HONEST_LEAST = 2.0
HONEST_MOST = 8.0
"""Least multiple of the largest honest deviation that a tolerance is, and most of that at any cut:
with few images a cut alone would say too little."""

PERTURBATIONS = (1e-6, 3e-6, 1e-5)

REPEAT_MULTIPLE = 2.0
"""Of the largest distance between a picture's sketch and that of a copy with one bit changed."""

PAIRS_NEAR_MOST = 0.01
"""Largest share of the pairs of different images that may count as repeats."""

IMAGES_DRAWN = 24
IMAGES_LEAST = 4

Run = Callable[[np.ndarray], np.ndarray]
Devs = dict[tuple[int, str], dict[str, list[float]]]


def calibrate(
    model_dir: Path,
    *,
    model_digest: str,
    pixels: Sequence[np.ndarray] | None = None,
    codecs: Sequence[Codec] = BUILT_IN,
    seed: int = 0,
    seconds_max: float = 20.0,
    cheaper: Mapping[str, Path] | None = None,
) -> Tolerances:
    """Measure a cut model.

    Args:
        model_dir: a model directory with its stages.
        model_digest: of the model, kept with what is found.
        pixels: preprocessed images, each `1 channels size size`; drawn ones if None.
        codecs: to measure with.
        seed: of keys, perturbations and drawn images.
        seconds_max: about how long it may take; fewer drawn images are used where a block is
            slow, down to `IMAGES_LEAST`. Images that are handed in are all used.
        cheaper: folders of other forms of the model by name, which a device could run instead.

    Raises:
        InputError: the model cannot be used.
    """
    pipeline = Pipeline(model_dir)
    if pixels is None:
        drawn = draw_pixels(pipeline.info, IMAGES_DRAWN, seed)
        pixels = drawn[: _affordable(pipeline, drawn[0], seconds_max)]
    measured = _Calibration(model_dir, pipeline, pixels, codecs, seed, cheaper or {})
    return measured.result(model_digest)


def draw_pixels(info: ModelInfo, count: int, seed: int) -> list[np.ndarray]:
    """Images of blots and noise, as a model's input: for models that come without images."""
    rng = np.random.default_rng(seed)
    size = info.image_size
    at = np.linspace(0, 3.999, size).astype(int)
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (info.mean, info.std))
    images: list[np.ndarray] = []
    for _ in range(count):
        blots = rng.random((info.channels, 4, 4))[:, at][:, :, at]
        noisy = blots + rng.normal(0, 0.1, (info.channels, size, size))
        whole = np.rint(np.clip(noisy, 0, 1) * 255) / 255
        images.append(((whole - mean) / std)[None].astype(np.float32))
    return images


def one_bit_changed(
    pixels: np.ndarray, info: ModelInfo, rng: np.random.Generator, bit: int = 0
) -> np.ndarray:
    """A copy of a preprocessed image in which one bit of one pixel is another."""
    mean, std = (np.array(each)[:, None, None] for each in (info.mean, info.std))
    whole = np.rint((pixels[0] * std + mean) * 255).astype(np.int64)
    place = tuple(int(rng.integers(side)) for side in whole.shape)
    whole[place] ^= 1 << bit
    copy: np.ndarray = ((whole / 255 - mean) / std)[None].astype(np.float32)
    return copy


def int8_weights(stage: Path) -> bytes | None:
    """A stage whose float matrices are rounded to 8 bits, a scale for each column; None if it
    has no such matrix."""
    model = onnx.load(stage)
    changed = False
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim != 2 or weights.dtype not in (np.float16, np.float32):
            continue
        exact = weights.astype(np.float32)
        scale = np.abs(exact).max(axis=0, keepdims=True) / 127
        rounded = np.rint(exact / np.where(scale > 0, scale, 1)) * scale
        tensor.CopyFrom(numpy_helper.from_array(rounded.astype(weights.dtype), tensor.name))
        changed = True
    return bytes(model.SerializeToString()) if changed else None


def tolerance_between(honest: float, cheat: float, honest_anywhere: float) -> float:
    """Between the largest honest and the least cheating deviation; see this module.

    Args:
        honest: largest at this cut.
        cheat: least at this cut.
        honest_anywhere: largest at any cut with this codec.

    Example:
        >>> tolerance_between(1e-4, 9e-4, 1e-4), tolerance_between(1e-4, 1.0, 1e-4)
        (0.0003, 0.0008)
        >>> tolerance_between(1e-4, 1e-4, 2e-4)
        0.0002
    """
    most = max(HONEST_MOST * honest_anywhere, HONEST_LEAST * honest)
    between = float(np.clip(np.sqrt(honest * cheat), HONEST_LEAST * honest, most))
    # A number that turns to the next one at half precision moves by this much.
    return float(f"{max(between, 1e-5):.6g}")


def _affordable(pipeline: Pipeline, image: np.ndarray, seconds_max: float) -> int:
    layers = pipeline.layers_max
    pipeline.load(range(pipeline.stage_count))
    start_s = time.perf_counter()
    pipeline.run(image, 0, pipeline.stage_count)
    whole_s = time.perf_counter() - start_s
    # Skipped blocks and copies packed at a cut run half of the model each on average; all else,
    # ten times, all of it.
    runs = layers + 10
    return int(np.clip(seconds_max / max(whole_s * runs, 1e-9), IMAGES_LEAST, IMAGES_DRAWN))


class _Calibration:
    """One measurement: what the server computes itself, and all that is held against it."""

    def __init__(
        self,
        model_dir: Path,
        pipeline: Pipeline,
        pixels: Sequence[np.ndarray],
        codecs: Sequence[Codec],
        seed: int,
        cheaper: Mapping[str, Path],
    ) -> None:
        self._cheaper = cheaper
        self._model_dir, self._pipeline, self._pixels = model_dir, pipeline, pixels
        self._codecs, self._seed = codecs, seed
        self._layers = pipeline.layers_max
        self._stages = range(pipeline.stage_count)
        self._keys = [hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(len(pixels))]
        self._base = list(self._chains([self._base_stage(stage) for stage in self._stages]))
        self._own = {
            (amount, codec.name): [self._through(codec, amount, x) for x in self._end(amount)]
            for amount in range(1, self._layers + 1)
            for codec in codecs
        }
        self._honest: Devs = defaultdict(lambda: defaultdict(list))
        self._cheats: Devs = defaultdict(lambda: defaultdict(list))

    def result(self, model_digest: str) -> Tolerances:
        """All that is measured."""
        self._measure_honest()
        self._measure_cheats()
        distance, pairs, near = self._repeats()
        return Tolerances(
            model_digest=model_digest,
            images=len(self._pixels),
            seed=self._seed,
            margins=tuple(self._margin(*at) for at in self._own),
            repeat_distance=distance,
            pairs=pairs,
            pairs_near=near,
        )

    def _margin(self, amount: int, codec: str) -> Margin:
        honest = [dev for devs in self._honest[amount, codec].values() for dev in devs]
        cheats = self._cheats[amount, codec]
        least = {name: min(devs) for name, devs in cheats.items()}
        name = min(least, key=lambda each: least[each])
        # The vector is packed by no codec, and is a scale of its own.
        cuts = [at for at in self._own if at[1] == codec and at[0] < self._layers]
        alike = cuts if amount < self._layers else [(amount, codec)]
        anywhere = max(max(devs) for at in alike for devs in self._honest[at].values())
        tolerance = tolerance_between(max(honest), least[name], anywhere)
        powers = [float(np.mean([dev > tolerance for dev in devs])) for devs in cheats.values()]
        return Margin(
            amount=amount,
            codec=codec,
            tolerance=tolerance,
            honest=float(f"{max(honest):.3g}"),
            cheat=float(f"{least[name]:.3g}"),
            cheat_name=name,
            audits=len(honest),
            false_alarms=sum(dev > tolerance for dev in honest),
            power=min(powers),
        )

    # ------------------------------------------------------------ honest work

    def _measure_honest(self) -> None:
        levels = ort.GraphOptimizationLevel
        for name, level, threads in (
            ("no graph optimisation", levels.ORT_DISABLE_ALL, 1),
            ("basic graph optimisation", levels.ORT_ENABLE_BASIC, 1),
            ("two threads", levels.ORT_ENABLE_ALL, 2),
        ):
            runs = (
                _opened(str(stage_path(self._model_dir, stage)), level, threads)
                for stage in self._stages
            )
            self._hold(self._honest, name, enumerate(self._chains(runs)))
        for size in PERTURBATIONS:
            rng = np.random.default_rng([self._seed, round(size * 1e9)])
            runs = (self._perturbed(stage, size, rng) for stage in self._stages)
            self._hold(self._honest, f"perturbed by {size:g}", enumerate(self._chains(runs)))

    def _perturbed(self, stage: int, size: float, rng: np.random.Generator) -> Run:
        def run(x: np.ndarray) -> np.ndarray:
            y = self._pipeline.run(x, stage, stage + 1)
            return y * (1 + size * rng.standard_normal(y.shape, np.float32))

        return run

    # ------------------------------------------------------------ cheats

    def _measure_cheats(self) -> None:
        for block in range(1, self._layers + 1):
            self._hold(self._cheats, f"block {block} skipped", self._without(block))
        # No cheat where the blocks' products are in whole numbers already.
        if int8_weights(stage_path(self._model_dir, 1)) is not None:
            runs = (self._int8_stage(stage) for stage in self._stages)
            self._hold(self._cheats, "int8 weights", enumerate(self._chains(runs)))
        for name, folder in self._cheaper.items():
            other = Pipeline(folder)
            stages = [partial(other.run, start=at, stop=at + 1) for at in self._stages]
            self._hold(self._cheats, f"{name} instead", enumerate(self._chains(stages)))
        for amount in range(1, self._layers + 1):
            passed_by = [
                _passed_by(before, after)
                for before, after in zip(self._base[amount - 1], self._base[amount], strict=True)
            ]
            self._hold(self._cheats, "tokens passed by", self._ends(amount, passed_by))
            if len(self._pixels) >= 2 * IMAGES_LEAST:
                half = len(self._pixels) // 2
                guessed = self._regressed(self._end(amount), half)
                self._at(self._cheats, "ridge regression", amount, guessed, first=half)

    def _int8_stage(self, stage: int) -> Run:
        content = int8_weights(stage_path(self._model_dir, stage))
        if content is None:
            return self._base_stage(stage)
        return _opened(content, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, 1)

    def _without(self, block: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        xs = self._base[block - 1]
        yield block, xs
        for stage in range(block + 1, len(self._stages)):
            xs = [self._pipeline.run(x, stage, stage + 1) for x in xs]
            yield stage, xs

    def _ends(self, amount: int, xs: list[np.ndarray]) -> Iterator[tuple[int, list[np.ndarray]]]:
        """What is handed over at a cut, from activations behind its last block."""
        if amount == self._layers:
            head = self._stages[-1]
            xs = [self._pipeline.run(x, head, head + 1) for x in xs]
            amount = head
        yield amount, xs

    def _regressed(self, end: Sequence[np.ndarray], half: int) -> list[np.ndarray]:
        """What a linear map makes of the second half of the images, fitted to the first."""
        x = np.concatenate([each.reshape(1, -1) for each in self._pixels]).astype(np.float64)
        y = np.concatenate([each.reshape(1, -1) for each in end[:half]]).astype(np.float64)
        known = x[:half]
        products = known @ known.T
        ridge = 0.1 * np.trace(products) / half * np.eye(half)
        weights = np.linalg.solve(products + ridge, y - y.mean(axis=0))
        guessed = x[half:] @ known.T @ weights + y.mean(axis=0)
        return [row.reshape(end[0].shape).astype(np.float32) for row in guessed]

    # ------------------------------------------------------------ repeats

    def _repeats(self) -> tuple[float, int, int]:
        """Distance of repeats; pairs of different images, and how many of them are nearer."""
        rng = np.random.default_rng([self._seed, 1])
        end = len(self._stages)
        own = np.concatenate([sketch(x) for x in self._base[-1]])
        farthest = 0.0
        for i, pixels in enumerate(self._pixels):
            x = one_bit_changed(pixels, self._pipeline.info, rng)
            for stage in self._stages:
                x = self._pipeline.run(x, stage, stage + 1)
                sent = x
                if 1 <= stage < self._layers:  # by the first codec, which is the least exact
                    sent = self._through(self._codecs[0], stage, x)
                elif stage != self._stages[-1]:
                    continue
                vector = self._pipeline.run(sent, stage + 1, end)
                farthest = max(farthest, float(np.linalg.norm(sketch(vector)[0] - own[i])))
        distance = float(f"{REPEAT_MULTIPLE * farthest:.3g}")
        rows, columns = np.triu_indices(len(own), 1)
        near = int((np.linalg.norm(own[rows] - own[columns], axis=1) < distance).sum())
        if near > PAIRS_NEAR_MOST * len(rows):
            return 0.0, len(rows), near
        return distance, len(rows), near

    # ------------------------------------------------------------ all

    def _base_stage(self, stage: int) -> Run:
        return lambda x: self._pipeline.run(x, stage, stage + 1)

    def _chains(self, runs: Iterable[Run]) -> Iterator[list[np.ndarray]]:
        """Outputs of one stage after the other, of all images; one stage is open at a time."""
        xs = list(self._pixels)
        for run in runs:
            xs = [run(x) for x in xs]
            yield xs

    def _end(self, amount: int) -> list[np.ndarray]:
        return self._base[self._stages[-1] if amount == self._layers else amount]

    def _through(self, codec: Codec, amount: int, x: np.ndarray) -> np.ndarray:
        if amount == self._layers:
            return x
        spec = (TensorSpec(name="x", datatype="FP32", shape=x.shape, coded=True),)
        return np.asarray(codec.unpack(codec.pack({"x": x}, spec), spec)["x"])

    def _hold(self, devs: Devs, name: str, found: Iterator[tuple[int, list[np.ndarray]]]) -> None:
        """Records how far outputs of stages are from one's own, at the cuts they stand for."""
        for stage, xs in found:
            if 1 <= stage < self._layers:
                self._at(devs, name, stage, xs)
            elif stage == self._stages[-1]:
                self._at(devs, name, self._layers, xs)

    def _at(
        self, devs: Devs, name: str, amount: int, xs: Sequence[np.ndarray], *, first: int = 0
    ) -> None:
        for codec in self._codecs:
            own = self._own[amount, codec.name]
            for i, x in enumerate(xs, first):
                evidence = kept(self._through(codec, amount, x), self._keys[i])
                far = deviation(evidence, own[i], self._keys[i])
                devs[amount, codec.name][name].append(far)


def _opened(model: str | bytes, level: ort.GraphOptimizationLevel, threads: int) -> Run:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: np.ndarray) -> np.ndarray:
        (found,) = session.run(None, {name: x})
        return np.asarray(found)

    return run


def _passed_by(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """An activation in which a quarter of the tokens is as it was before the block."""
    count = max(1, before.shape[1] // 4)
    shortest = np.argsort(np.linalg.norm(before[0], axis=-1))[:count]
    found = after.copy()
    found[0, shortest] = before[0, shortest]
    return found
