import gzip
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from benchmarks.random_vit import VitShape, write_vit
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.codecs import FP32, INT8
from edgepact.inference.models import embedded, samples
from edgepact.inference.pictures import pixels_max
from edgepact.inference.pipeline import (
    BATCH_MAX,
    ModelInfo,
    Pipeline,
    open_session,
    preprocess,
    stage_path,
)
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.tensors import Codec, TensorSpec

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")


def whole_model(model_dir: Path, pixels: np.ndarray) -> np.ndarray:
    session = open_session(model_dir / "image.onnx")
    return np.asarray(session.run(None, {session.get_inputs()[0].name: pixels})[0])


def over_the_link(x: np.ndarray, codec: Codec) -> np.ndarray:
    """An activation as the server has it."""
    spec = TensorSpec(name="x", datatype="FP32", shape=x.shape, coded=True)
    return np.asarray(codec.unpack(codec.pack({"x": x}, [spec]), [spec])["x"])


def drawn_pixels(pipeline: Pipeline, batch: int) -> np.ndarray:
    shape = (batch, *pipeline.expects(0)[1])
    return np.random.default_rng(batch).standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(embedded())


@pytest.fixture(scope="module")
def sample_pixels(pipeline: Pipeline) -> np.ndarray:
    files = sorted(samples().glob("*/*.png"))
    return np.concatenate([preprocess(file.read_bytes(), pipeline.info) for file in files])


class TestSplit:
    def test_halves_of_the_embedded_model_make_the_whole_at_all_cuts(
        self, pipeline: Pipeline, sample_pixels: np.ndarray
    ) -> None:
        pixels = sample_pixels[::10]
        whole = whole_model(embedded(), pixels)
        for layers in range(pipeline.layers_max + 1):
            handed_over = pipeline.device_part(pixels, layers)
            if 0 < layers < pipeline.layers_max:
                handed_over = over_the_link(handed_over, FP32)
            np.testing.assert_array_equal(pipeline.server_part(handed_over, layers), whole)

    @pytest.mark.parametrize("batch", [1, 2, 5])
    def test_halves_of_any_vision_transformer_make_the_whole(
        self, model_dir: Path, vit_shape: VitShape, batch: int
    ) -> None:
        pipeline = Pipeline(model_dir)
        pixels = drawn_pixels(pipeline, batch)
        whole = whole_model(model_dir, pixels)
        assert whole.shape == (batch, vit_shape.dim)
        for layers in range(pipeline.layers_max + 1):
            handed_over = pipeline.device_part(pixels, layers)
            np.testing.assert_array_equal(pipeline.server_part(handed_over, layers), whole)

    def test_what_a_device_hands_over(self, pipeline: Pipeline) -> None:
        pixels = drawn_pixels(pipeline, 2)
        info = pipeline.info
        assert pipeline.device_part(pixels, 0) is pixels
        assert pipeline.device_part(pixels, 1).shape == (2, info.tokens, info.width)
        assert pipeline.device_part(pixels, info.layers_max).shape == (2, info.dim)

    def test_stages_of_device_and_server_follow_each_other(self, pipeline: Pipeline) -> None:
        assert pipeline.device_stages(0) == range(0)
        assert pipeline.device_stages(3) == range(4)
        assert pipeline.device_stages(12) == range(14)
        for layers in range(13):
            both = [*pipeline.device_stages(layers), *pipeline.server_stages(layers)]
            assert both == list(range(pipeline.stage_count))

    def test_with_the_default_codec_the_best_class_stays(
        self, pipeline: Pipeline, sample_pixels: np.ndarray
    ) -> None:
        assert _agreement(pipeline, sample_pixels).min() >= 0.995

    @pytest.mark.full
    @pytest.mark.skipif(not FASHION_MNIST.exists(), reason="needs dataset-fashion-mnist")
    def test_with_the_default_codec_the_best_class_stays_on_all_test_images(
        self, pipeline: Pipeline
    ) -> None:
        raw = np.frombuffer(gzip.decompress(FASHION_MNIST.read_bytes())[16:], np.uint8)
        info = pipeline.info
        pixels = raw.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)
        pixels = (pixels - np.float32(info.mean[0])) / np.float32(info.std[0])
        assert len(pixels) == 10_000
        assert _agreement(pipeline, pixels).min() >= 0.995


def _agreement(pipeline: Pipeline, pixels: np.ndarray) -> np.ndarray:
    """Share of images whose best class survives int8 on the link, for each inner cut."""
    texts = KnowledgeBase.from_texts(embedded())
    agreed = np.zeros(pipeline.layers_max - 1)
    for at in range(0, len(pixels), 250):
        x = pipeline.run(pixels[at : at + 250], 0, 1)
        received = []
        for layers in range(1, pipeline.layers_max):
            x = pipeline.run(x, layers, layers + 1)
            received.append(over_the_link(x, INT8))
        best = texts.classify(pipeline.server_part(x, pipeline.layers_max - 1)).argmax(axis=1)
        for layers, activation in enumerate(received, start=1):
            split = texts.classify(pipeline.server_part(activation, layers)).argmax(axis=1)
            agreed[layers - 1] += (split == best).sum()
    return agreed / len(pixels)


class TestRun:
    def test_a_result_is_not_overwritten_by_the_next_image(self, pipeline: Pipeline) -> None:
        first = pipeline.run(drawn_pixels(pipeline, 1), 0, 5)
        kept = first.copy()
        pipeline.run(drawn_pixels(pipeline, 1) + 1, 0, 5)
        np.testing.assert_array_equal(first, kept)

    def test_many_batch_sizes_in_turn(self, pipeline: Pipeline) -> None:
        pixels = drawn_pixels(pipeline, 12)
        expected = pipeline.run(pixels, 0, 2)
        for batch in [*range(1, 13), 1, 12]:
            found = pipeline.run(pixels[:batch], 0, 2)
            np.testing.assert_allclose(found, expected[:batch], rtol=1e-4, atol=1e-5)

    def test_threads_do_not_disturb_each_other(self, model_dir: Path) -> None:
        pipeline = Pipeline(model_dir)
        inputs = [drawn_pixels(pipeline, 1) * scale for scale in (1, 2, 3, 4)]
        expected = [Pipeline(model_dir).run(x, 0, pipeline.stage_count) for x in inputs]
        wrong = []

        def work(at: int) -> None:
            for _ in range(50):
                if (pipeline.run(inputs[at], 0, pipeline.stage_count) != expected[at]).any():
                    wrong.append(at)

        threads = [threading.Thread(target=work, args=(at,)) for at in range(len(inputs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=600)
            assert not thread.is_alive()
        assert not wrong

    def test_an_array_that_is_not_contiguous(self, pipeline: Pipeline) -> None:
        pixels = drawn_pixels(pipeline, 6)
        np.testing.assert_array_equal(
            pipeline.run(pixels[::2], 0, 14), pipeline.run(pixels[::2].copy(), 0, 14)
        )

    @pytest.mark.parametrize(
        ("x", "start"),
        [
            (np.zeros((1, 1, 28, 28), np.float64), 0),
            (np.zeros((1, 3, 28, 28), np.float32), 0),
            (np.zeros((1, 28, 28), np.float32), 0),
            (np.zeros((0, 1, 28, 28), np.float32), 0),
            (np.zeros((BATCH_MAX + 1, 64), np.float32), 14),
            (np.zeros((1, 1, 28, 28), np.float32), 1),
            (np.zeros((), np.float32), 1),
        ],
    )
    def test_a_tensor_that_does_not_fit(
        self, pipeline: Pipeline, x: np.ndarray, start: int
    ) -> None:
        with pytest.raises(InputError, match=rf"input of stage {start}: expected float32 of shape"):
            pipeline.run(x, start, 14)

    @pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 15)])
    def test_a_range_that_does_not_exist(self, pipeline: Pipeline, start: int, stop: int) -> None:
        with pytest.raises(InputError, match="0 <= start <= stop <= 14"):
            pipeline.run(drawn_pixels(pipeline, 1), start, stop)

    @pytest.mark.parametrize("layers", [-1, 13])
    def test_a_cut_that_does_not_exist(self, pipeline: Pipeline, layers: int) -> None:
        with pytest.raises(InputError, match="a number from 0 to 12"):
            pipeline.device_part(drawn_pixels(pipeline, 1), layers)

    def test_expects_tells_what_a_tensor_must_be(self, pipeline: Pipeline) -> None:
        assert pipeline.expects(0) == (np.float32, (1, 28, 28))
        assert pipeline.expects(1) == pipeline.expects(13) == (np.float32, (16, 64))
        assert pipeline.expects(14) == (np.float32, (64,))
        with pytest.raises(InputError, match="a number from 0 to 14, found 15"):
            pipeline.expects(15)


class TestModelDirectory:
    @pytest.fixture
    def broken(self, tmp_path: Path) -> Path:
        """A directory that a test may spoil."""
        model_dir = write_vit(tmp_path / "m", VitShape(layers=1))
        graph.cut(model_dir)
        return model_dir

    def test_only_the_stages_in_use_are_opened(self, broken: Path) -> None:
        stage_path(broken, 2).write_bytes(b"spoilt")
        pipeline = Pipeline(broken)
        assert pipeline.run(drawn_pixels(pipeline, 1), 0, 2).shape == (1, 16, 32)

    def test_a_missing_stage(self, broken: Path) -> None:
        stage_path(broken, 1).unlink()
        with pytest.raises(InputError, match=r"stage_01\.onnx: .*no such file"):
            Pipeline(broken).load(range(3))

    def test_a_stage_that_is_no_model(self, broken: Path) -> None:
        stage_path(broken, 1).write_bytes(b"spoilt")
        with pytest.raises(InputError, match=r"stage_01\.onnx: .*ONNX Runtime can load"):
            Pipeline(broken).load(range(3))

    def test_weights_cut_short(self, broken: Path) -> None:
        weights = broken / "weights.bin"
        weights.write_bytes(weights.read_bytes()[:100])
        with pytest.raises(InputError, match=r"stage_00\.onnx: .*ONNX Runtime can load"):
            Pipeline(broken).load(range(3))

    def test_a_stage_of_another_model(self, broken: Path) -> None:
        stage_path(broken, 1).write_bytes(stage_path(broken, 2).read_bytes())
        with pytest.raises(InputError, match=r"stage_01\.onnx: output: .*model\.json says"):
            Pipeline(broken).load(range(3))

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"model\.json: .*No such file"):
            Pipeline(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\xff\xfe", "no UTF-8 text"),
            (b"{", "line 1: expected JSON"),
            (b"[]", "a JSON object, found list"),
        ],
    )
    def test_a_description_that_is_no_object(
        self, broken: Path, content: bytes, message: str
    ) -> None:
        (broken / "model.json").write_bytes(content)
        with pytest.raises(InputError, match=message):
            ModelInfo.read(broken)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", ""),
            ("name", 3),
            ("layers_max", 0),
            ("layers_max", True),
            ("layers_max", 98),
            ("image_size", 28.0),
            ("channels", 2),
            ("mean", [0.1, 0.2]),
            ("mean", "0.1"),
            ("mean", float("nan")),
            ("std", 0),
            ("dim", -1),
            ("logit_scale", float("inf")),
            ("logit_scale", 10**400),
            ("labels", []),
            ("labels", ["cat", "cat"]),
            ("labels", ["cat", 1]),
            ("templates", ["no place for a label"]),
            ("tokens", None),
            ("width", "64"),
        ],
    )
    def test_a_field_that_is_impossible(self, broken: Path, field: str, value: object) -> None:
        path = broken / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
        with pytest.raises(InputError, match=rf"model\.json: {field}.*: expected"):
            ModelInfo.read(broken)

    def test_a_field_that_is_missing(self, broken: Path) -> None:
        path = broken / "model.json"
        table = json.loads(path.read_text())
        for field in set(table) - {"drawn"}:
            path.write_text(json.dumps({key: table[key] for key in table if key != field}))
            with pytest.raises(InputError, match=rf"model\.json: {field}: .*found nothing"):
                ModelInfo.read(broken)


class TestPreprocess:
    @staticmethod
    def file_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        return buffer.getvalue()

    def test_an_image_of_the_right_size_is_only_normalised(self, pipeline: Pipeline) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
        info = pipeline.info
        expected = (grey.astype(np.float32) / np.float32(255) - np.float32(info.mean[0])) / (
            np.float32(info.std[0])
        )
        np.testing.assert_array_equal(preprocess(self.file_of(grey), info)[0, 0], expected)

    def test_channels_are_normalised_each_for_itself(self, tmp_path: Path) -> None:
        model_dir = write_vit(tmp_path / "m", VitShape(layers=1, channels=3))
        path = model_dir / "model.json"
        table = json.loads(path.read_text()) | {"mean": [0.0, 0.5, 1.0], "std": [1, 0.5, 0.25]}
        path.write_text(json.dumps(table))
        white = np.full((28, 28, 3), 255, np.uint8)
        found = preprocess(self.file_of(white), ModelInfo.read(model_dir))
        assert found.shape == (1, 3, 28, 28)
        np.testing.assert_array_equal(found[0, :, 0, 0], [1.0, 1.0, 0.0])

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_the_middle_of_a_larger_image_is_scaled(self, pipeline: Pipeline, kind: str) -> None:
        wide = np.zeros((56, 168, 3), np.uint8)
        wide[:, 56:112] = 255
        found = preprocess(self.file_of(wide, kind), pipeline.info)
        white = (1 - pipeline.info.mean[0]) / pipeline.info.std[0]
        np.testing.assert_allclose(found[0, 0, 4:-4, 4:-4], white, atol=0.05)

    def test_a_strip_does_not_fill_the_memory(self, pipeline: Pipeline) -> None:
        strip = self.file_of(np.zeros((1, pixels_max(28)), np.uint8))
        assert preprocess(strip, pipeline.info).shape == (1, 1, 28, 28)

    def test_an_image_that_unpacks_to_too_much(self, pipeline: Pipeline) -> None:
        buffer = io.BytesIO()
        Image.new("1", (10_000, pixels_max(28) // 10_000 + 1)).save(buffer, "PNG")
        with pytest.raises(InputError, match=f"at most {pixels_max(28)} pixels, found 10000x81"):
            preprocess(buffer.getvalue(), pipeline.info)

    def test_bytes_that_are_no_image(self, pipeline: Pipeline) -> None:
        whole = self.file_of(np.zeros((28, 28), np.uint8))
        for spoilt in (b"", b"GIF89a", whole[:40], whole[: len(whole) // 2]):
            with pytest.raises(InputError, match="an image file"):
                preprocess(spoilt, pipeline.info)


MEASURE = """
import json
from benchmarks.staged_inference import measure
print(json.dumps(measure((("embedded", 1, 10), ("embedded", 8, 5)))["cases"]))
"""


@pytest.mark.slow
def test_what_a_chain_of_sessions_costs_can_be_measured() -> None:
    # In a process of its own, since here every call is type-checked while it runs. What it costs
    # is for `make bench` to show: it is a neighbour's doing as much as ours.
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=600, check=True
    )
    rows = json.loads(done.stdout)
    assert [row["batch"] for row in rows] == [1, 8]
    assert all(np.isfinite(row["slower_percent"]) for row in rows)


DEVICE = """
import sys
from pathlib import Path
import numpy as np
from edgepact.inference.codecs import INT8
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.tensors import TensorSpec
pipeline = Pipeline(Path(sys.argv[1]))
pixels = preprocess(Path(sys.argv[2]).read_bytes(), pipeline.info)
for _ in range(20):
    x = pipeline.device_part(pixels, 11)
    INT8.pack({"x": x}, [TensorSpec(name="x", datatype="FP32", shape=x.shape, coded=True)])
    pipeline.device_part(pixels, 12)
heavy = {"jax", "onnx", "onnx_ir", "scipy", "sqlalchemy", "matplotlib", "pyarrow"}
print(*sorted(heavy & set(sys.modules)))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's accounts")
def test_a_device_stays_light() -> None:
    image = next(iter(sorted(samples().glob("*/*.png"))))
    done = subprocess.run(
        [sys.executable, "-c", DEVICE, embedded(), image],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    heavy, resident_kib = done.stdout.splitlines()
    assert heavy == ""
    assert int(resident_kib) < 150 * 1024
    assert done.stderr == ""


class TestTogether:
    """Items that come in at different stages and pass the rest together."""

    def test_joining_on_the_way_is_passing_alone_to_rounding(
        self, pipeline: Pipeline, sample_pixels: np.ndarray
    ) -> None:
        end = pipeline.stage_count
        starts = [0, 2, 2, 5, 11, 13, 0, 8]
        sent = [
            pipeline.run(sample_pixels[at : at + 1], 0, start) for at, start in enumerate(starts)
        ]
        expected = [
            pipeline.run(x, start, end).copy() for x, start in zip(sent, starts, strict=True)
        ]
        travelling: dict[int, np.ndarray] = {}
        for stage in range(end):
            travelling |= {at: sent[at] for at, start in enumerate(starts) if start == stage}
            passed, reached = pipeline.advance(
                list(travelling.values()), stage, stage + 1, lambda: False
            )
            assert reached == stage + 1
            travelling = dict(zip(travelling, passed, strict=True))
        for at, alone in enumerate(expected):
            assert np.abs(travelling[at] - alone).max() <= 1e-5 * np.abs(alone).max()

    def test_it_stops_between_two_stages_when_it_is_told_to(
        self, pipeline: Pipeline, sample_pixels: np.ndarray
    ) -> None:
        items = [sample_pixels[:1], sample_pixels[1:2]]
        asked = iter([False, False, True])
        held, reached = pipeline.advance(items, 0, 9, lambda: next(asked))
        assert reached == 3
        kept = [each.copy() for each in held]
        pipeline.advance(items, 0, 9, lambda: False)  # through the same buffers
        for item, own, before in zip(items, held, kept, strict=True):
            np.testing.assert_array_equal(own, before)
            np.testing.assert_allclose(own, pipeline.run(item, 0, 3), rtol=0, atol=1e-5)

    def test_numbers_that_are_none_stay_with_their_own_item(
        self, pipeline: Pipeline, sample_pixels: np.ndarray
    ) -> None:
        pixels = [sample_pixels[at : at + 1] for at in range(3)]
        x = [pipeline.run(each, 0, 4) for each in pixels]
        good, _ = pipeline.advance(x, 4, 14, lambda: False)
        x[1] = np.full_like(x[1], np.nan)
        found, _ = pipeline.advance(x, 4, 14, lambda: False)
        np.testing.assert_array_equal(found[0], good[0])
        np.testing.assert_array_equal(found[2], good[2])
        assert np.isnan(found[1]).all()

    def test_what_does_not_fit_is_refused(
        self, pipeline: Pipeline, sample_pixels: np.ndarray
    ) -> None:
        one = sample_pixels[:1]
        for items, start, stop in (
            ([sample_pixels[:2]], 0, 1),
            ([one, one[:, :, :-1]], 0, 1),
            ([one], 0, 0),
            ([one], 0, 15),
            ([one], 1, 2),
        ):
            with pytest.raises(InputError):
                pipeline.advance(items, start, stop, lambda: False)

    def test_batches_up_to_a_power_of_two_share_memory(self, pipeline: Pipeline) -> None:
        fresh = Pipeline(embedded())
        first = {
            batch: fresh._buffers(batch).chain(0, 3)[0].ctypes.data for batch in (1, 3, 4, 5, 8)
        }
        assert first[3] == first[4]
        assert first[5] == first[8]
        assert len({first[1], first[4], first[8]}) == 3

    def test_stages_that_take_single_items_only_are_found_out(self, tmp_path: Path) -> None:
        shape = VitShape(layers=1)
        graph.cut(write_vit(tmp_path / "vit", shape))
        assert Pipeline(tmp_path / "vit").takes_batches()
        path = stage_path(tmp_path / "vit", 1)
        model = onnx.load(path, load_external_data=False)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        path.write_bytes(model.SerializeToString())
        assert not Pipeline(tmp_path / "vit").takes_batches()

    def test_items_that_change_their_neighbours_are_found_out(self, tmp_path: Path) -> None:
        graph.cut(write_vit(tmp_path / "vit", VitShape(layers=1)))
        path = stage_path(tmp_path / "vit", 2)
        model = onnx.load(path, load_external_data=False)
        (out,) = model.graph.output
        # As dynamic quantisation does: one scale for all that comes at once.
        for node in model.graph.node:
            node.output[:] = [name if name != out.name else "before" for name in node.output]
        model.graph.node.extend(
            [
                onnx.helper.make_node("ReduceMax", ["before"], ["most"], keepdims=0),
                onnx.helper.make_node("Div", ["before", "most"], [out.name]),
            ]
        )
        path.write_bytes(model.SerializeToString())
        assert not Pipeline(tmp_path / "vit").takes_batches()
