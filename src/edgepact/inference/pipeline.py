"""Run stages [i, j) of a cut model: the half of a device, or that of the server.

Every stage is an ONNX Runtime session of its own, opened when it is first
needed, so that one set of stages serves all cuts; a session for every split
would hold several copies of the weights. The sessions are chained through
buffers that stay where they are: the output of one is bound as the input of the
next, once for each batch size.

This module is what a device process imports: ONNX Runtime, NumPy, Pillow and the
standard library, nothing heavier.
"""

import functools
import json
import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnxruntime as ort
from jaxtyping import Float
from PIL import Image

from edgepact.errors import InputError, shown
from edgepact.fields import FLOAT_MAX
from edgepact.inference.pictures import decoded

IMAGE_GRAPH = "image.onnx"
MODEL_JSON = "model.json"
SERVER_HALF = "server"
"""Folder in a model folder with another form of the model, which the server runs its stages of."""
BATCH_MAX = 1024
LAYERS_MAX = 97
"""Stage files carry two digits, and there are two stages more than layers."""

FITS = ("square", "shortest_edge", "squash")
"""What becomes of a picture: the largest square in its middle is scaled; it is scaled until its
shorter side fits, by whole pixels, and the middle of that is cut out, as CLIP's libraries do it; or
all of it is scaled to a square."""

RESAMPLES = tuple(filter_.name.lower() for filter_ in Image.Resampling)

TensorKind = tuple[np.dtype[Any], tuple[int, ...]]
"""Element type of a batch, and shape of one item in it."""


def stage_path(model_dir: Path, stage: int) -> Path:
    """Where a model directory keeps a stage."""
    return model_dir / f"stage_{stage:02d}.onnx"


def open_session(path: Path, *, threads: int = 1, planned: bool = True) -> ort.InferenceSession:
    """Open an ONNX model the one way this package does.

    Five devices and a server share the cores of a machine, so the number of
    threads is always set and no thread spins while it waits. All sessions of a
    process take their memory from one arena: a stage then works in the memory
    that the stage before it has just left, which is still in the cache.

    The fusion of a residual sum with the normalisation after it is left out. It
    would reach across the end of a block in the whole model but not in its
    stages, and the two would differ in the last bit; it saves no time here.

    Args:
        path: of the model.
        threads: that one operator may use.
        planned: whether the memory of a run is one piece, laid out after the first run with its
            sizes; chunks of many sizes need less of it without.

    Raises:
        InputError: `path` is missing or ONNX Runtime cannot load it.
    """
    if not path.is_file():
        raise InputError(path, "", "an ONNX model", "no such file")
    _share_arena()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = planned
    options.log_severity_level = 4  # What goes wrong is raised and told once, by us.
    for key, value in {
        "session.use_env_allocators": "1",
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
    }.items():
        options.add_session_config_entry(key, value)
    try:
        return ort.InferenceSession(
            path,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
            enable_fallback=0,  # to the same provider, with a word on standard output
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(path, "", "a model that ONNX Runtime can load", reason) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What `model.json` says of a model; checked, so that later code need not ask.

    Attributes:
        name: short name of the model, part of an offer.
        layers_max: number of transformer blocks, $L_{max}$.
        image_size: height and width of the input, pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        mean: subtracted from each channel after scaling to [0, 1].
        std: divides each channel after that.
        dim: length of the image vector.
        logit_scale: factor on the cosine of image and text vector.
        labels: names of the classes.
        templates: prompts with `{}` where the label goes.
        tokens: length of the sequence between two blocks.
        width: numbers in each token of it.
        fit: how a picture is brought to the model's size: one of `FITS`.
        resample: Pillow's name of the filter that scales it, in small letters.
    """

    name: str
    layers_max: int
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dim: int
    logit_scale: float
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    tokens: int
    width: int
    fit: str = "square"
    resample: str = "bicubic"

    @classmethod
    def read(cls, model_dir: Path) -> "ModelInfo":
        """Read `model.json`; fields it does not know are passed over.

        Raises:
            InputError: the file is missing, is no JSON object, or a field is
                missing or impossible.
        """
        path = model_dir / MODEL_JSON
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            found = getattr(error, "strerror", None) or "bytes that are no UTF-8 text"
            raise InputError(path, "", "a model description", found) from error
        except json.JSONDecodeError as error:
            raise InputError(path, f"line {error.lineno}", "JSON", error.msg) from error
        except (ValueError, RecursionError) as error:  # a number, or a depth, without end
            raise InputError(path, "", "JSON", str(error)) from error
        if not isinstance(table, dict):
            raise InputError(path, "", "a JSON object", type(table).__name__)
        fields = _Fields(path, table)
        channels = fields.whole("channels", 3)
        if channels == 2:
            raise InputError(path, "channels", "1 or 3", channels)
        templates = fields.texts("templates")
        for at, template in enumerate(templates):
            if "{}" not in template:
                raise InputError(path, f"templates[{at}]", "a prompt with {}", template)
        labels = fields.texts("labels")
        if len(set(labels)) < len(labels):
            raise InputError(path, "labels", "names that differ", list(labels))
        return cls(
            name=fields.text("name"),
            layers_max=fields.whole("layers_max", LAYERS_MAX),
            image_size=fields.whole("image_size", 4096),
            channels=channels,
            mean=fields.per_channel("mean", channels),
            std=fields.per_channel("std", channels, above=0.0),
            dim=fields.whole("dim", 65536),
            logit_scale=fields.number("logit_scale", above=0.0),
            labels=labels,
            templates=templates,
            tokens=fields.whole("tokens", 65536),
            width=fields.whole("width", 65536),
            fit=fields.word("fit", FITS, "square"),
            resample=fields.word("resample", RESAMPLES, "bicubic"),
        )


@runtime_checkable
class PictureInput(Protocol):
    """What a model says of the pictures that it sees, as `ModelInfo` does."""

    @property
    def image_size(self) -> int:
        """Height and width, pixels."""
        ...

    @property
    def channels(self) -> int:
        """1 or 3."""
        ...

    @property
    def mean(self) -> Sequence[float]:
        """Subtracted from each channel after scaling to [0, 1]."""
        ...

    @property
    def std(self) -> Sequence[float]:
        """Divides each channel after that."""
        ...

    @property
    def fit(self) -> str:
        """One of `FITS`."""
        ...

    @property
    def resample(self) -> str:
        """One of `RESAMPLES`."""
        ...


def preprocess(
    image_bytes: bytes, info: PictureInput, *, source: object = "image"
) -> Float[np.ndarray, "1 channels size size"]:
    """Make the model's input from the bytes of an image file.

    The picture as a viewer shows it is brought to the model's size as the model
    says (`FITS`). One of the right size is not resampled.

    Args:
        image_bytes: a PNG, JPEG, WebP or BMP file.
        info: sizes and normalisation of the model.
        source: what errors name, such as the path of the file.

    Returns:
        Normalised pixels, shape `1 channels size size`.

    Raises:
        InputError: the bytes are no such image, or a larger one than `pictures`
            allows for the model.
    """
    image = decoded(image_bytes, image_size=info.image_size, source=source)
    image = image.convert("L" if info.channels == 1 else "RGB")
    size = info.image_size
    if image.size != (size, size):
        # Never the whole picture first: scaling a strip of one pixel by a million would fill the
        # memory.
        kept = _kept(image.size, info)
        image = image.resize((size, size), Image.Resampling[info.resample.upper()], box=kept)
    scaled = np.asarray(image, np.float32).reshape(size, size, info.channels) / np.float32(255)
    pixels: np.ndarray = (scaled - np.array(info.mean, np.float32)) / np.array(info.std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _kept(sides: tuple[int, int], info: PictureInput) -> tuple[float, float, float, float]:
    """What of a picture of these sides fills the model's input: left, top, right, lower."""
    width, height = sides
    if info.fit == "squash":
        return (0.0, 0.0, float(width), float(height))
    side = min(sides)
    if info.fit == "square":
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side)
    ends = []
    for length in sides:  # the pixels of the scaled picture, whole ones, and where they come from
        scaled = info.image_size if length == side else int(info.image_size * length / side)
        first = (scaled - info.image_size) // 2
        ends.append((first * length / scaled, (first + info.image_size) * length / scaled))
    (left, right), (top, lower) = ends
    return (left, top, right, lower)


class Pipeline:
    """The stages of one model, opened as they are needed.

    Stage 0 embeds, stages 1 to L_max are the blocks, stage L_max + 1 is the
    head. Threads may share a pipeline: they share its sessions, and each has
    buffers of its own.

    Args:
        model_dir: a model directory with its stage files.
        threads: that each session may use for one operator.

    Raises:
        InputError: `model.json` is missing or impossible.
    """

    def __init__(self, model_dir: Path, *, threads: int = 1) -> None:
        if threads < 1:
            raise InputError("pipeline", "threads", "at least 1", threads)
        self.info = info = ModelInfo.read(model_dir)
        shapes: list[tuple[int, ...]] = [(info.channels, info.image_size, info.image_size)]
        shapes += [(info.tokens, info.width)] * (info.layers_max + 1)
        shapes += [(info.dim,)]
        self._kinds: list[TensorKind] = [(np.dtype(np.float32), shape) for shape in shapes]
        self._model_dir = model_dir
        self._threads = threads
        self._sessions: dict[int, ort.InferenceSession] = {}
        self._opening = threading.Lock()
        self._of_thread = threading.local()

    @property
    def layers_max(self) -> int:
        """Number of blocks, $L_{max}$."""
        return self.info.layers_max

    @property
    def stage_count(self) -> int:
        """All blocks, embed and head."""
        return self.info.layers_max + 2

    def device_stages(self, layers: int) -> range:
        """Stages that a device with `layers` layers runs.

        None for 0 layers: it sends the image file. All, with the head, for L_max.
        """
        if not 0 <= layers <= self.layers_max:
            raise InputError("cut", "layers", f"a number from 0 to {self.layers_max}", layers)
        if layers == self.layers_max:
            return range(self.stage_count)
        return range(layers + 1 if layers else 0)

    def server_stages(self, layers: int) -> range:
        """Stages that are left to the server."""
        return range(self.device_stages(layers).stop, self.stage_count)

    def expects(self, stage: int) -> TensorKind:
        """What a stage takes: element type, and shape of one item without the batch.

        `stage_count` stands for the finished image vector. No session is opened
        for the answer, so that a server can refuse a tensor before any work.
        """
        if not 0 <= stage <= self.stage_count:
            raise InputError("pipeline", "stage", f"a number from 0 to {self.stage_count}", stage)
        return self._kinds[stage]

    def load(self, stages: range) -> None:
        """Open the sessions of these stages now and not at the first image."""
        for stage in stages:
            self._session(stage)

    def run(self, x: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Run stages `start` to `stop - 1` on a batch.

        Args:
            x: what stage `start` expects, batch first.
            start: first stage to run.
            stop: first stage not to run; `x` itself comes back if it is `start`.

        Returns:
            What stage `stop` expects, batch first, in memory of its own.

        Raises:
            InputError: `x` or the range does not fit the model, a stage file is
                missing, or it does not fit `model.json`.
        """
        if not 0 <= start <= stop <= self.stage_count:
            expected = f"0 <= start <= stop <= {self.stage_count}"
            raise InputError("pipeline", "stages", expected, f"[{start}, {stop})")
        self._check(x, start)
        if start == stop:
            return x
        first, steps, last = self._buffers(len(x)).chain(start, stop)
        first[...] = x
        for run_stage in steps:
            run_stage()
        return last.copy()

    def advance(
        self, items: Sequence[np.ndarray], start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[np.ndarray], int]:
        """Take items through stages together, from `start` to `stop` or to where to pause.

        Args:
            items: what stage `start` expects, a batch of one each.
            start: first stage to run.
            stop: first stage not to run, above `start`.
            pause: whether to stop earlier, asked between two stages.

        Returns:
            The items in the same order, a batch of one each, and the stage that expects them.

        Raises:
            InputError: as `run`.
        """
        if not 0 <= start < stop <= self.stage_count:
            expected = f"0 <= start < stop <= {self.stage_count}"
            raise InputError("pipeline", "stages", expected, f"[{start}, {stop})")
        for item in items:
            self._check(item, start, most=1)
        buffers = self._buffers(len(items))
        first, steps, _ = buffers.chain(start, stop)
        for at, item in enumerate(items):
            first[at] = item[0]
        reached = start
        for run_stage in steps:
            run_stage()
            reached += 1
            if reached < stop and pause():
                break
        passed = buffers.tensor(reached)[0].copy()
        return [passed[at : at + 1] for at in range(len(items))], reached

    def takes_batches(self) -> bool:
        """Whether every stage takes several items at once, and each comes out as it does alone.

        Stages of other exporters may be fixed to one item, and quantised ones may scale an item
        by its neighbours. Two images of noise tell, within rounding.
        """
        shape = (2, *self.expects(0)[1])
        pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
        alone = [self.run(pixels[at : at + 1], 0, self.stage_count) for at in range(2)]
        try:
            together = self.run(pixels, 0, self.stage_count)
        except Exception:  # ONNX Runtime's exceptions share no base of their own.
            return False
        expected = np.concatenate(alone)
        apart = np.abs(together - expected).max()
        return bool(apart <= _ROUNDING * np.abs(expected).max())

    def device_part(self, pixels: np.ndarray, layers: int) -> np.ndarray:
        """What a device with `layers` layers makes of preprocessed pixels.

        Returns:
            The pixels as they are for 0 layers, an activation, or for L_max the
            image vector.
        """
        stages = self.device_stages(layers)
        return self.run(pixels, stages.start, stages.stop)

    def server_part(self, x: np.ndarray, layers: int) -> np.ndarray:
        """Image vectors from what a device with `layers` layers handed over."""
        stages = self.server_stages(layers)
        return self.run(x, stages.start, stages.stop)

    def _check(self, x: np.ndarray, stage: int, most: int = BATCH_MAX) -> None:
        dtype, shape = self._kinds[stage]
        if x.dtype != dtype or x.shape[1:] != shape or not 1 <= len(x) <= most:
            expected = f"{dtype} of shape [1 to {most}, {', '.join(map(str, shape))}]"
            found = f"{x.dtype} of shape {list(x.shape)}"
            raise InputError(f"input of stage {stage}", "", expected, found)

    def _session(self, stage: int) -> ort.InferenceSession:
        session = self._sessions.get(stage)
        if session is None:
            with self._opening:
                session = self._sessions.get(stage)
                if session is None:
                    session = self._opened(stage)
                    self._sessions[stage] = session
        return session

    def _opened(self, stage: int) -> ort.InferenceSession:
        path = stage_path(self._model_dir, stage)
        session = open_session(path, threads=self._threads)
        ends = {"input": session.get_inputs(), "output": session.get_outputs()}
        for (end, tensors), at in zip(ends.items(), (stage, stage + 1), strict=True):
            shape = list(self.expects(at)[1])
            found = [(tensor.type, list(tensor.shape[1:])) for tensor in tensors]
            if found != [("tensor(float)", shape)]:
                expected = f"one float tensor of shape [batch, {', '.join(map(str, shape))}]"
                raise InputError(path, end, f"{expected} as {MODEL_JSON} says", found)
        return session

    def _buffers(self, batch: int) -> "_Buffers":
        """This thread's buffers for a batch size; the least used ones are given up."""
        by_size: OrderedDict[int, _Buffers] | None = getattr(self._of_thread, "by_size", None)
        if by_size is None:
            by_size = self._of_thread.by_size = OrderedDict()
            self._of_thread.memory = weakref.WeakValueDictionary()
        buffers = by_size.get(batch)
        if buffers is None:
            buffers = by_size[batch] = _Buffers(self, batch, self._of_thread.memory)
            if len(by_size) > _BATCH_SIZES_KEPT:
                by_size.popitem(last=False)
        by_size.move_to_end(batch)
        return buffers


_BATCH_SIZES_KEPT = 32

_ROUNDING = 1e-3
"""Difference, as a share of the largest number, that the order of a sum can make in a model."""

_Memory = weakref.WeakValueDictionary[tuple[int, int, TensorKind], np.ndarray]


class _Buffers:
    """Tensors between the stages for one batch size, and the stages tied to them.

    Two buffers serve all blocks in turn: a block writes where the block before
    the last one has written, which is still in the cache. Batch sizes up to the
    same power of two lie in the same memory: a batch that others join at every
    stage would have memory for each size otherwise.
    """

    def __init__(self, pipeline: Pipeline, batch: int, memory: "_Memory") -> None:
        self._pipeline = pipeline
        self._batch = batch
        self._memory = memory
        self._held: list[np.ndarray] = []
        self._tensors: dict[tuple[int, TensorKind], _Tensor] = {}
        self._steps: dict[int, _Step] = {}
        self._bindings: list[ort.IOBinding] = []
        self._chains: dict[tuple[int, int], _Chain] = {}

    def chain(self, start: int, stop: int) -> "_Chain":
        """Where stage `start` reads, what to call, and where stage `stop - 1` writes."""
        chain = self._chains.get((start, stop))
        if chain is None:
            steps = tuple(self._step(stage) for stage in range(start, stop))
            chain = self.tensor(start)[0], steps, self.tensor(stop)[0]
            self._chains[start, stop] = chain
        return chain

    def tensor(self, stage: int) -> "_Tensor":
        """What a stage reads, and the one before it writes."""
        kind = dtype, shape = self._pipeline.expects(stage)
        tensor = self._tensors.get((stage % 2, kind))
        if tensor is None:
            capacity = 1 << (self._batch - 1).bit_length()
            memory = self._memory.get((capacity, stage % 2, kind))
            if memory is None:
                memory = self._memory[capacity, stage % 2, kind] = _aligned(
                    (capacity, *shape), dtype
                )
            self._held.append(memory)  # the dictionary does not hold it
            array = memory[: self._batch]
            # On a CPU the value is no copy: it stands for the array's own memory.
            tensor = array, ort.OrtValue.ortvalue_from_numpy(array)
            self._tensors[stage % 2, kind] = tensor
        return tensor

    def _step(self, stage: int) -> "_Step":
        step = self._steps.get(stage)
        if step is None:
            session = self._pipeline._session(stage)
            binding = session.io_binding()
            binding.bind_ortvalue_input(session.get_inputs()[0].name, self.tensor(stage)[1])
            binding.bind_ortvalue_output(session.get_outputs()[0].name, self.tensor(stage + 1)[1])
            self._bindings.append(binding)
            step = self._steps[stage] = tied(session, binding)
        return step


_Tensor = tuple[np.ndarray, ort.OrtValue]
_Step = Callable[[], None]
_Chain = tuple[np.ndarray, tuple[_Step, ...], np.ndarray]


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array that starts a cache line, as ONNX Runtime's own tensors do."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + _CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


_CACHE_LINE_BYTES = 64


def tied(session: ort.InferenceSession, binding: ort.IOBinding) -> Callable[[], None]:
    """A call that runs the session on its bound buffers; both must be kept by the caller.

    `run_with_iobinding` first asks whether a GPU graph is to be captured. On a
    block of 40 us that is 3 % of the time, more than all the rest of splitting
    costs, so the method under it is called where ONNX Runtime has it in the known
    place. No run options: a call takes ten times as long with them.
    """
    inner_session = getattr(session, "_sess", None)
    inner_binding = getattr(binding, "_iobinding", None)
    if inner_session is None or inner_binding is None:
        return functools.partial(session.run_with_iobinding, binding)
    # The outer objects are kept alive by the pipeline and the buffers.
    return functools.partial(inner_session.run_with_iobinding, inner_binding, None)


@functools.cache
def _share_arena() -> None:
    """Give ONNX Runtime one arena for all sessions of this process."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, None)


@dataclass(frozen=True, slots=True)
class _Fields:
    """Reads fields of a JSON object, and says which one is wrong."""

    path: Path
    table: Mapping[str, Any]

    def _value(self, name: str, expected: str) -> Any:
        if name not in self.table:
            raise InputError(self.path, name, expected, "nothing")
        return self.table[name]

    def whole(self, name: str, at_most: int) -> int:
        expected = f"a whole number from 1 to {at_most}"
        value = self._value(name, expected)
        if type(value) is not int or not 1 <= value <= at_most:
            raise InputError(self.path, name, expected, shown(value))
        return value

    def number(self, name: str, *, above: float) -> float:
        expected = f"a finite number above {above:g}"
        return self._number(name, self._value(name, expected), above, expected)

    def _number(self, name: str, value: Any, above: float, expected: str) -> float:
        number = type(value) in (int, float)
        if not number or not above < value or abs(value) > FLOAT_MAX:
            raise InputError(self.path, name, expected, shown(value))
        return float(value)

    def per_channel(
        self, name: str, channels: int, *, above: float = -math.inf
    ) -> tuple[float, ...]:
        """One number for all channels, or a list with one for each."""
        expected = f"a finite number or a list of {channels}"
        expected += f", above {above:g}" if above > -math.inf else ""
        value = self._value(name, expected)
        values = value if isinstance(value, list) else [value] * channels
        if len(values) != channels:
            raise InputError(self.path, name, expected, shown(value))
        return tuple(self._number(name, item, above, expected) for item in values)

    def text(self, name: str) -> str:
        value = self._value(name, "a text")
        if not isinstance(value, str) or not value:
            raise InputError(self.path, name, "a text", shown(value))
        return value

    def word(self, name: str, words: tuple[str, ...], usual: str) -> str:
        value = self.table.get(name, usual)
        if value not in words:
            raise InputError(self.path, name, f"one of {', '.join(words)}", shown(value))
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        expected = "a list of texts"
        value = self._value(name, expected)
        if not isinstance(value, list) or not value:
            raise InputError(self.path, name, expected, shown(value))
        if not all(isinstance(item, str) and item for item in value):
            raise InputError(self.path, name, expected, shown(value))
        return tuple(value)
