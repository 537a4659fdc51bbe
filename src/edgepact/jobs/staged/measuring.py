"""Measures how far honest work and cheats lie from a server's own, for a model in stages.

As `inference.calibration` does for image encoders, whose rule for the tolerance between the two it
takes. Honest devices are imitated in the same ways. The cheats are those that a model of any kind
allows; each saves some work:

- `stage J skipped`, where a stage gives what has the shape of what it takes;
- `int8 weights`: every matrix and kernel rounded to 8 bits with a scale for each column or channel;
  no cheat where the model's products are in whole numbers already;
- `an eighth made up`: an eighth of each tensor, in its middle, is that of another piece;
- `another piece's`: all of it is.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from edgepact.errors import InputError
from edgepact.inference.calibration import (
    PAIRS_NEAR_MOST,
    PERTURBATIONS,
    REPEAT_MULTIPLE,
    tolerance_between,
)
from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.pipeline import stage_path
from edgepact.inference.sketch import sketch
from edgepact.inference.stage_folder import Handed, StageFolder, StageRunner, run_session
from edgepact.inference.tolerances import Margin, Tolerances
from edgepact.jobs.staged.evidence import deviation, kept
from edgepact.jobs.staged.halves import through
from edgepact.jobs.staged.reading import Reading
from edgepact.tensors import Codec

EXAMPLES = 12
EXAMPLES_LEAST = 4

FAR = 1e9
"""As a deviation whatever is farther is told."""

WHOLE = frozenset({"ConvInteger", "MatMulInteger", "MatMulNBits", "QLinearConv", "QLinearMatMul"})
"""Operators whose weights are of 8 bits or less."""

CHANGED = 1e-2
"""By how much of its spread one number of a piece is changed, to know a copy by."""

Values = dict[str, np.ndarray]
Run = Callable[[Values], Values]
Devs = dict[tuple[int, str], dict[str, list[float]]]


def measured(
    folder: StageFolder,
    reading: Reading,
    *,
    model_digest: str,
    codecs: Sequence[Codec] = BUILT_IN,
    seed: int = 0,
    seconds_max: float = 20.0,
) -> Tolerances:
    """Measure a model.

    Args:
        folder: its stages.
        reading: that has examples.
        model_digest: of the model, kept with what is found.
        codecs: to measure with.
        seed: of keys, perturbations and examples.
        seconds_max: about how long it may take; fewer examples are used where a model is slow,
            down to `EXAMPLES_LEAST`.

    Raises:
        InputError: the model cannot be run.
    """
    runner = StageRunner(folder)
    examples = reading.examples(EXAMPLES, seed)
    runner.load(range(folder.stages))
    start_s = time.perf_counter()
    runner.run(examples[0], 0, folder.stages)
    whole_s = time.perf_counter() - start_s
    # Skipped stages run half of the model each on average; all else about ten times all of it.
    runs = folder.stages / 2 + 10
    count = int(np.clip(seconds_max / max(whole_s * runs, 1e-9), EXAMPLES_LEAST, EXAMPLES))
    return _Measuring(folder, reading, runner, examples[:count], codecs, seed).result(model_digest)


class _Measuring:
    """One measurement: what the server computes itself, and all that is held against it."""

    def __init__(
        self,
        folder: StageFolder,
        reading: Reading,
        runner: StageRunner,
        examples: Sequence[Values],
        codecs: Sequence[Codec],
        seed: int,
    ) -> None:
        self._folder, self._reading, self._runner = folder, reading, runner
        self._examples, self._codecs, self._seed = examples, codecs, seed
        self._keys = [hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(len(examples))]
        # Behind stage 1, 2, ...: what every example has there.
        self._base = [list(examples), *self._chain([self._own(at) for at in self._stages])]
        self._seen = {
            (amount, codec.name): [self._came(codec, amount, x) for x in own]
            for amount in range(1, folder.stages + 1)
            for own in [self._compared(amount, self._base[amount])]
            for codec in codecs
            if self._can(codec, amount)
        }
        self._honest: Devs = defaultdict(lambda: defaultdict(list))
        self._cheats: Devs = defaultdict(lambda: defaultdict(list))

    @property
    def _stages(self) -> range:
        return range(self._folder.stages)

    def result(self, model_digest: str) -> Tolerances:
        """All that is measured."""
        self._measure_honest()
        self._measure_cheats()
        distance, pairs, near = self._repeats()
        return Tolerances(
            model_digest=model_digest,
            images=len(self._examples),
            seed=self._seed,
            margins=tuple(self._margin(*at) for at in self._seen),
            repeat_distance=distance,
            pairs=pairs,
            pairs_near=near,
        )

    def _margin(self, amount: int, codec: str) -> Margin:
        honest = [dev for devs in self._honest[amount, codec].values() for dev in devs]
        cheats = self._cheats[amount, codec]
        least = {name: min(*devs, FAR) for name, devs in cheats.items()}
        name = min(least, key=lambda each: least[each], default="none")
        cuts = [at for at in self._seen if at[1] == codec and at[0] < self._folder.stages]
        alike = cuts if amount < self._folder.stages else [(amount, codec)]
        anywhere = max(max(devs) for at in alike for devs in self._honest[at].values())
        # Without a cheat to compare with, what honest devices need decides.
        tolerance = tolerance_between(max(honest), least.get(name, 0.0), anywhere)
        powers = [float(np.mean([dev > tolerance for dev in devs])) for devs in cheats.values()]
        return Margin(
            amount=amount,
            codec=codec,
            tolerance=tolerance,
            honest=float(f"{max(honest):.3g}"),
            cheat=float(f"{least.get(name, 0.0):.3g}"),
            cheat_name=name,
            audits=len(honest),
            false_alarms=sum(dev > tolerance for dev in honest),
            power=min(powers, default=0.0),
        )

    # ------------------------------------------------------------ honest work

    def _measure_honest(self) -> None:
        levels = ort.GraphOptimizationLevel
        for name, level, threads in (
            ("no graph optimisation", levels.ORT_DISABLE_ALL, 1),
            ("basic graph optimisation", levels.ORT_ENABLE_BASIC, 1),
            ("two threads", levels.ORT_ENABLE_ALL, 2),
        ):
            runs = (self._opened(str(self._path(at)), level, threads, at) for at in self._stages)
            self._hold(self._honest, name, enumerate(self._chain(runs), 1))
        for size in PERTURBATIONS:
            rng = np.random.default_rng([self._seed, round(size * 1e9)])
            runs = (self._perturbed(at, size, rng) for at in self._stages)
            self._hold(self._honest, f"perturbed by {size:g}", enumerate(self._chain(runs), 1))

    def _perturbed(self, stage: int, size: float, rng: np.random.Generator) -> Run:
        own = self._own(stage)

        def run(values: Values) -> Values:
            found = own(values)
            for each in self._folder.handed(stage + 1):
                if each.dtype == "float32" and not each.control:
                    x = found[each.name]
                    noise = rng.standard_normal(x.shape, np.float32)
                    found[each.name] = x * (np.float32(1) + np.float32(size) * noise)
            return found

        return run

    # ------------------------------------------------------------ cheats

    def _measure_cheats(self) -> None:
        for stage in self._stages[1:]:
            if self._skippable(stage):
                name = f"stage {stage + 1} skipped"
                self._hold(self._cheats, name, self._without(stage))
        rounded = {at: self._int8(at) for at in self._stages}
        if any(rounded.values()) and not any(self._in_whole_numbers(at) for at in self._stages):
            runs = (self._rounded(at, content) for at, content in rounded.items())
            self._hold(self._cheats, "int8 weights", enumerate(self._chain(runs), 1))
        for amount in range(1, self._folder.stages + 1):
            own = self._base[amount]
            others = [*own[1:], own[0]]
            made_up = [self._eighth(amount, *pair) for pair in zip(own, others, strict=True)]
            self._at(self._cheats, "an eighth made up", amount, made_up)
            self._at(self._cheats, "another piece's", amount, others)

    def _skippable(self, stage: int) -> bool:
        """Whether a stage gives what has the shape of what it takes, so that it can be left out."""
        pairs = [self._data(at, self._base[at][0]) for at in (stage, stage + 1)]
        shapes = [[(x.shape, x.dtype) for x in each.values()] for each in pairs]
        return shapes[0] == shapes[1]

    def _without(self, stage: int) -> Iterator[tuple[int, list[Values]]]:
        xs = []
        for before, own in zip(self._base[stage], self._base[stage + 1], strict=True):
            came = self._data(stage, before).values()
            names = self._data(stage + 1, own)
            xs.append(own | dict(zip(names, came, strict=True)))
        yield stage + 1, xs
        for at in self._stages[stage + 1 :]:
            xs = [self._runner.run(x, at, at + 1) for x in xs]
            yield at + 1, xs

    def _eighth(self, amount: int, own: Values, other: Values) -> Values:
        found = dict(own)
        for name, x in self._data(amount, own).items():
            if x.ndim == other[name].ndim and x.size > 1:
                copy = x.copy()
                axis = self._reading.rows_axis
                if axis is None:
                    axis = 1 if x.ndim > 1 and x.shape[1] > 1 else x.ndim - 1
                part = [slice(None)] * x.ndim
                middle = x.shape[axis] // 2
                part[axis] = slice(middle, middle + max(1, x.shape[axis] // 8))
                copy[tuple(part)] = _fitted(other[name], x.shape)[tuple(part)]
                found[name] = copy
        return found

    def _rounded(self, stage: int, content: bytes | None) -> Run:
        if content is None:
            return self._own(stage)
        return self._opened(content, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, 1, stage)

    def _in_whole_numbers(self, stage: int) -> bool:
        """Whether a stage multiplies whole numbers."""
        graph = onnx.load(self._path(stage), load_external_data=False).graph
        return any(node.op_type in WHOLE for node in graph.node)

    def _int8(self, stage: int) -> bytes | None:
        """A stage whose float weights are rounded to 8 bits; None if it has none."""
        model = onnx.load(self._path(stage))
        changed = False
        for tensor in model.graph.initializer:
            weights = numpy_helper.to_array(tensor)
            if weights.ndim < 2 or weights.dtype not in (np.float16, np.float32):
                continue
            exact = weights.astype(np.float32)
            axes = (0,) if weights.ndim == 2 else tuple(range(1, weights.ndim))
            scale = np.abs(exact).max(axis=axes, keepdims=True) / 127
            rounded = np.rint(exact / np.where(scale > 0, scale, 1)) * scale
            tensor.CopyFrom(numpy_helper.from_array(rounded.astype(weights.dtype), tensor.name))
            changed = True
        return bytes(model.SerializeToString()) if changed else None

    # ------------------------------------------------------------ repeats

    def _repeats(self) -> tuple[float, int, int]:
        """Distance of repeats; pairs of different examples, and how many of them are nearer."""
        own = [self._reading.alike(x) for x in self._base[-1]]
        if len(own) < 2 or any(each is None for each in own):
            return 0.0, 0, 0
        sketches = np.stack([sketch(each) for each in own if each is not None])
        rng = np.random.default_rng([self._seed, 1])
        farthest = 0.0
        for at, example in enumerate(self._examples):
            # Of words a copy can only be what codecs and rounding make of the tensors between.
            x = self._changed(example, rng) or example
            for stage in self._stages:
                x = self._runner.run(x, stage, stage + 1)
                sent = x
                if stage + 1 < self._folder.stages:  # by the codec that is the least exact
                    if not self._can(self._codecs[0], stage + 1):
                        continue
                    sent = through(self._folder, self._codecs[0], stage + 1, x)
                    sent = self._runner.run(sent, stage + 1, self._folder.stages)
                vector = self._reading.alike(sent)
                assert vector is not None
                farthest = max(farthest, float(np.linalg.norm(sketch(vector) - sketches[at])))
        distance = float(f"{REPEAT_MULTIPLE * farthest:.3g}")
        rows, columns = np.triu_indices(len(sketches), 1)
        apart = np.linalg.norm(sketches[rows] - sketches[columns], axis=1)
        near = int((apart < distance).sum())
        return (0.0 if near > PAIRS_NEAR_MOST * len(rows) else distance), len(rows), near

    def _changed(self, example: Values, rng: np.random.Generator) -> Values | None:
        """A copy of which one number differs a little; None where no input is a float."""
        for each in self._folder.inputs:
            if each.dtype == "float32" and not each.control:
                x = example[each.name].copy()
                place = tuple(int(rng.integers(side)) for side in x.shape)
                x[place] += np.float32(CHANGED * max(float(x.std()), 1e-6))
                return example | {each.name: x}
        return None

    # ------------------------------------------------------------ all

    def _path(self, stage: int) -> Path:
        return stage_path(self._folder.folder, stage)

    def _data(self, after: int, values: Mapping[str, np.ndarray]) -> Values:
        """What stages made of what is handed over."""
        names = [each.name for each in self._folder.handed(after) if not each.control]
        return {name: values[name] for name in names}

    def _own(self, stage: int) -> Run:
        return lambda values: self._runner.run(values, stage, stage + 1)

    def _opened(
        self, model: str | bytes, level: ort.GraphOptimizationLevel, threads: int, stage: int
    ) -> Run:
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        wanted = [each.name for each in self._folder.handed(stage + 1)]

        def run(values: Values) -> Values:
            found = values | run_session(session, values, f"stage {stage}")
            return {name: found[name] for name in wanted}

        return run

    def _chain(self, runs: Iterator[Run] | list[Run]) -> Iterator[list[Values]]:
        """What is handed over behind one stage after the other, of all examples."""
        xs = list(self._examples)
        for run in runs:
            xs = [run(x) for x in xs]
            yield xs

    def _handed(self, amount: int) -> tuple[Handed, ...]:
        """What an audit compares at a cut."""
        last = amount == self._folder.stages
        return self._reading.compared() if last else self._folder.handed(amount)

    def _came(self, codec: Codec, amount: int, values: Values) -> Values:
        """The same, as a codec hands it on; what the whole model gives passes by."""
        if amount == self._folder.stages:
            return values
        return through(self._folder, codec, amount, values)

    def _compared(self, amount: int, xs: Sequence[Values]) -> Sequence[Values]:
        """What is handed over, as an audit looks at it."""
        if amount < self._folder.stages:
            return xs
        return [self._reading.comparable(x) for x in xs]

    def _can(self, codec: Codec, amount: int) -> bool:
        """Whether a codec can express what is handed over at a cut: fp16 ends at 65,504."""
        try:
            for values in self._base[amount]:
                self._came(codec, amount, values)
        except InputError:
            return False
        return True

    def _hold(self, devs: Devs, name: str, found: Iterator[tuple[int, list[Values]]]) -> None:
        for amount, xs in found:
            self._at(devs, name, amount, xs)

    def _at(self, devs: Devs, name: str, amount: int, xs: Sequence[Values]) -> None:
        handed, xs = self._handed(amount), self._compared(amount, xs)
        for codec in self._codecs:
            own = self._seen.get((amount, codec.name))
            for i, x in enumerate(xs if own is not None else ()):
                assert own is not None
                try:
                    came = self._came(codec, amount, x)
                except InputError:  # a cheat that the codec cannot express
                    continue
                if any(came[each.name].shape != own[i][each.name].shape for each in handed):
                    continue
                far = deviation(kept(handed, came, self._keys[i]), handed, own[i], self._keys[i])
                devs[amount, codec.name][name].append(far)


def _fitted(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor at another's sizes: cut, or begun again, along each axis."""
    places = [np.arange(size) % own for size, own in zip(shape, x.shape, strict=True)]
    return x[np.ix_(*places)]
