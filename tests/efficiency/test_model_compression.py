import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from benchmarks.random_vit import VitShape, write_vit
from edgepact.efficiency.footprint import footprint
from edgepact.efficiency.model_compression.int8 import quantise_int8
from edgepact.efficiency.model_compression.magnitude import prune_magnitude, without_smallest
from edgepact.efficiency.model_compression.model_folder import read_image_encoder
from edgepact.efficiency.model_compression.report import (
    CompressionReport,
    Images,
    centred_cosine,
    report,
)
from edgepact.efficiency.model_compression.structured import (
    Activity,
    Mlp,
    mlps_by_block,
    prune_by_activity,
    prune_by_norm,
    prune_structured,
)
from edgepact.efficiency.model_compression.weight_only import quantise_weights4, quantise_weights8
from edgepact.efficiency.partition import LayerCosts
from edgepact.efficiency.profile import profile
from edgepact.errors import InputError, InputWarning
from edgepact.inference import graph
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import ModelInfo, Pipeline, open_session
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.studies.compress import CompressConfig, compress, read_images

SHAPES = {
    "small": VitShape(),
    "colour": VitShape(layers=2, width=48, heads=4, channels=3, patch=14, class_token=True, seed=1),
    "shape_paths": VitShape(layers=2, class_token=True, shape_paths=True, seed=2),
}

Compress = Callable[[Path, Path], None]

METHODS: dict[str, Compress] = {
    "int8": quantise_int8,
    "weights8": quantise_weights8,
    "weights4": quantise_weights4,
    "magnitude": lambda model, out: prune_magnitude(model, out, 0.5),
    "structured": lambda model, out: prune_structured(model, out, 0.5),
}


@pytest.fixture(scope="module")
def sample_images() -> Images:
    return read_images(samples(), ModelInfo.read(embedded()), split="test")


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES.keys())
def vit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cut model of every kind in turn; not to be changed."""
    model_dir = write_vit(tmp_path_factory.mktemp("vit"), request.param)
    graph.cut(model_dir)
    return model_dir


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_dir = write_vit(tmp_path_factory.mktemp("small"), VitShape(layers=2))
    graph.cut(model_dir)
    return model_dir


@pytest.fixture(scope="module")
def in_int8(tmp_path_factory: pytest.TempPathFactory, sample_images: Images) -> CompressionReport:
    out = tmp_path_factory.mktemp("int8") / "out"
    quantise_int8(embedded(), out)
    return report(out, embedded(), sample_images, repeats=3)


def whole(model_dir: Path, pixels: np.ndarray) -> np.ndarray:
    session = open_session(model_dir / "image.onnx")
    return np.asarray(session.run(None, {session.get_inputs()[0].name: pixels})[0])


def drawn(model_dir: Path, count: int = 3) -> np.ndarray:
    _, shape = Pipeline(model_dir).expects(0)
    return np.random.default_rng(0).standard_normal((count, *shape), np.float32)


def stored(model_dir: Path) -> dict[str, np.ndarray]:
    model = onnx.load(model_dir / "image.onnx")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def edited(source: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A copy of a model folder with another image graph."""
    shutil.copytree(source, target)
    model = onnx.load(target / "image.onnx", load_external_data=False)
    change(model)
    onnx.save(model, target / "image.onnx")
    return target


class TestEveryMethod:
    @pytest.mark.parametrize("method", METHODS)
    def test_device_plus_server_is_the_compressed_whole_at_every_cut(
        self, method: str, vit: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        METHODS[method](vit, out)
        pipeline, pixels = Pipeline(out), drawn(vit)
        expected = whole(out, pixels)
        for layers in range(pipeline.layers_max + 1):
            halves = pipeline.server_part(pipeline.device_part(pixels, layers), layers)
            assert np.array_equal(halves, expected), layers

    @pytest.mark.parametrize("method", METHODS)
    def test_the_result_is_a_model_folder_like_any_other(self, method: str, tmp_path: Path) -> None:
        out = tmp_path / "out"
        METHODS[method](embedded(), out)
        before, after = ModelInfo.read(embedded()), ModelInfo.read(out)
        assert after.name.startswith(f"fashion-clip-{method}")
        assert (after.labels, after.layers_max) == (before.labels, before.layers_max)
        ours, theirs = (KnowledgeBase.from_texts(folder) for folder in (out, embedded()))
        assert np.array_equal(ours.vectors, theirs.vectors)
        assert profile(out, repeats=1).costs == LayerCosts.of_model(out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]

    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_is_overwritten(self, method: str, small: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("mine")
        with pytest.raises(InputError, match="expected a new or empty folder"):
            METHODS[method](small, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda folder: (folder / "image.onnx").unlink(), "expected an ONNX model"),
            (lambda folder: (folder / "image.onnx").write_bytes(b"no"), "expected an ONNX model"),
            (lambda folder: (folder / "weights.bin").unlink(), "expected an ONNX model with"),
            (lambda folder: (folder / "weights.bin").write_bytes(b""), "expected an ONNX model"),
            (lambda folder: (folder / "model.json").write_text("{"), "model.json"),
        ],
        ids=["no graph", "damaged graph", "no weights", "short weights", "damaged description"],
    )
    def test_a_damaged_model_is_one_clear_error_and_leaves_nothing(
        self,
        method: str,
        damage: Callable[[Path], None],
        message: str,
        small: Path,
        tmp_path: Path,
    ) -> None:
        model_dir, out = tmp_path / "model", tmp_path / "out"
        shutil.copytree(small, model_dir)
        damage(model_dir)
        with pytest.raises(InputError, match=message):
            METHODS[method](model_dir, out)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("method", METHODS)
    def test_a_model_that_does_not_say_where_it_is_cut(
        self, method: str, small: Path, tmp_path: Path
    ) -> None:
        model = edited(small, tmp_path / "model", lambda model: model.ClearField("metadata_props"))
        with pytest.raises(InputError, match=r"edgepact\.boundaries"):
            METHODS[method](model, tmp_path / "out")


class TestInt8:
    def test_hardly_any_class_changes(self, in_int8: CompressionReport) -> None:
        assert in_int8.top1_agreement is not None
        assert in_int8.top1_agreement >= 0.99
        assert in_int8.centred_cosine > 0.999
        assert in_int8.compressed.accuracy == pytest.approx(in_int8.original.accuracy, abs=0.01)

    def test_weights_take_little_over_half_the_bytes_of_fp16(
        self, in_int8: CompressionReport
    ) -> None:
        before, after = in_int8.original.footprint, in_int8.compressed.footprint
        assert 0.5 < after.weight_bytes / before.weight_bytes < 0.6
        assert after.bytes < before.bytes
        assert after.macs == before.macs
        assert [stage.macs for stage in after.stages] == [stage.macs for stage in before.stages]

    def test_weights_keep_to_seven_bits(self, small: Path, tmp_path: Path) -> None:
        quantise_int8(small, tmp_path / "out")
        matrices = [
            array
            for array in stored(tmp_path / "out").values()
            if array.dtype == np.int8 and array.ndim == 2
        ]
        # Six in each of two blocks, and the projection.
        assert len(matrices) == 13
        assert max(int(np.abs(matrix.astype(int)).max()) for matrix in matrices) <= 64

    def test_what_is_quantised_already_is_refused(self, small: Path, tmp_path: Path) -> None:
        quantise_int8(small, tmp_path / "once")
        with pytest.raises(InputError, match="with a constant matrix, found none"):
            quantise_int8(tmp_path / "once", tmp_path / "twice")

    def test_a_pruned_model_can_be_quantised(self, small: Path, tmp_path: Path) -> None:
        prune_structured(small, tmp_path / "pruned", 0.5)
        quantise_int8(tmp_path / "pruned", tmp_path / "both")
        pixels = drawn(small, 1)
        likeness = np.sum(whole(tmp_path / "both", pixels) * whole(tmp_path / "pruned", pixels))
        assert likeness > 0.99
        assert footprint(tmp_path / "both").macs == footprint(tmp_path / "pruned").macs


class TestMagnitude:
    @given(st.integers(0, 40), st.integers(1, 9), st.floats(0, 1, exclude_max=True), st.integers(0))
    def test_the_smallest_go_and_the_others_stay(
        self, rows: int, columns: int, share: float, seed: int
    ) -> None:
        values = np.random.default_rng(seed).integers(-5, 6, (rows, columns)).astype(np.float16)
        pruned = without_smallest(values, share)
        gone = pruned != values
        assert np.all(pruned[gone] == 0)
        assert np.count_nonzero(pruned) == min(
            values.size - round(share * values.size), np.count_nonzero(values)
        )
        if gone.any() and np.count_nonzero(pruned):
            assert np.abs(values[gone]).max() <= np.abs(pruned[pruned != 0]).min()

    def test_share_0_changes_no_bit(self, vit: Path, tmp_path: Path) -> None:
        prune_magnitude(vit, tmp_path / "out", 0.0)
        assert_same_weights(vit, tmp_path / "out")

    def test_zeros_save_bytes_in_an_encoding_and_nowhere_else(self, tmp_path: Path) -> None:
        prune_magnitude(embedded(), tmp_path / "out", 0.8)
        before, after = footprint(embedded()), footprint(tmp_path / "out")
        assert (after.parameters, after.macs) == (before.parameters, before.macs)
        assert after.weight_bytes == before.weight_bytes
        # Biases, norms and positions are left alone; they are 2 % of the weights.
        assert after.zeros / after.parameters == pytest.approx(0.8, abs=0.02)
        assert after.deflated_bytes < 0.4 * before.deflated_bytes
        assert after.sparse_bytes < 0.4 * before.sparse_bytes
        assert before.sparse_bytes == before.bytes

    def test_a_quantised_model_has_no_matrix_to_prune(self, tmp_path: Path) -> None:
        quantise_int8(embedded(), tmp_path / "int8")
        with pytest.raises(InputError, match="matrix of floating-point numbers, found none"):
            prune_magnitude(tmp_path / "int8", tmp_path / "out", 0.5)


class TestStructured:
    @given(
        st.integers(1, 6),
        st.integers(1, 24),
        st.integers(1, 6),
        st.floats(0, 1, exclude_max=True),
        st.integers(0),
    )
    def test_by_norm_is_the_dense_mlp_with_units_masked(
        self, inputs: int, units: int, outputs: int, share: float, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        mlp = drawn_mlp(rng, inputs, units, outputs)
        pruned = prune_by_norm(mlp, share)
        kept = pruned.up.shape[1]
        assert kept == units - min(round(share * units), units - 1)
        mask = np.array([any(np.array_equal(u, k) for k in pruned.up.T) for u in mlp.up.T])
        assert mask.sum() == kept
        norms = np.linalg.norm(mlp.up, axis=0) * np.linalg.norm(mlp.down, axis=1)
        assert kept == units or norms[~mask].max() <= norms[mask].min() * (1 + 1e-6)
        x = rng.standard_normal((7, inputs))
        assert np.allclose(run(pruned, x), run(mlp, x, mask), atol=1e-6)

    @settings(max_examples=30)
    @given(st.integers(2, 20), st.integers(1, 5), st.floats(0.1, 0.9), st.integers(0))
    def test_by_activity_beats_the_same_units_masked(
        self, units: int, outputs: int, share: float, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        mlp = drawn_mlp(rng, 4, units, outputs)
        x = rng.standard_normal((200, 4))
        pruned = prune_by_activity(mlp, activity(mlp, x), share)
        mask = np.array([any(np.array_equal(u, k) for k in pruned.up.T) for u in mlp.up.T])
        assert mask.sum() == pruned.up.shape[1] == units - min(round(share * units), units - 1)

        def error(y: np.ndarray) -> float:
            return float(np.mean((y - run(mlp, x)) ** 2))

        assert error(run(pruned, x)) <= error(run(mlp, x, mask)) + 1e-9

    def test_units_that_repeat_another_cost_nothing(self) -> None:
        rng = np.random.default_rng(0)
        half = drawn_mlp(rng, 5, 8, 3)
        twice = Mlp(
            up=np.hstack([half.up, half.up]),
            beside=(np.hstack([half.beside[0]] * 2),),
            down=np.vstack([half.down, rng.standard_normal(half.down.shape)]),
            bias=half.bias,
        )
        x = rng.standard_normal((400, 5))
        pruned = prune_by_activity(twice, activity(twice, x), 0.5)
        assert np.abs(run(pruned, x) - run(twice, x)).max() < 0.02 * np.abs(run(twice, x)).max()
        by_norm = prune_by_norm(twice, 0.5)
        assert np.abs(run(by_norm, x) - run(twice, x)).max() > 0.2 * np.abs(run(twice, x)).max()

    def test_units_that_never_vary_go_into_the_bias(self) -> None:
        mlp = drawn_mlp(np.random.default_rng(0), 3, 4, 2)
        still = Activity(mean=np.ones(4), covariance=np.zeros((4, 4)))
        pruned = prune_by_activity(mlp, still, 0.5)
        assert mlp.bias is not None
        expected = mlp.down.sum(axis=0) + mlp.bias
        assert np.allclose(pruned.down.sum(axis=0) + pruned.bias, expected)

    @pytest.mark.parametrize("pixels", [False, True])
    def test_share_0_changes_no_bit(self, pixels: bool, vit: Path, tmp_path: Path) -> None:
        prune_structured(vit, tmp_path / "out", 0.0, pixels=drawn(vit) if pixels else None)
        assert_same_weights(vit, tmp_path / "out")

    def test_of_a_folder_is_the_dense_model_with_units_masked(
        self, vit: Path, tmp_path: Path
    ) -> None:
        prune_structured(vit, tmp_path / "out", 0.25)
        after = stored(tmp_path / "out")
        masked = onnx.load(vit / "image.onnx")
        for tensor in masked.graph.initializer:
            name = tensor.name.replace("/down/", "/up/")
            if "/down/weight" in tensor.name:
                before = numpy_helper.to_array(
                    next(other for other in masked.graph.initializer if other.name == name)
                )
                kept = {column.tobytes() for column in after[name].T}
                mask = np.array([column.tobytes() in kept for column in before.T])
                assert mask.sum() == 0.75 * len(mask)
                values = numpy_helper.to_array(tensor) * mask[:, None].astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        (tmp_path / "masked").mkdir()
        onnx.save(masked, tmp_path / "masked" / "image.onnx")
        pixels = drawn(vit)
        expected = whole(tmp_path / "masked", pixels)
        assert np.allclose(whole(tmp_path / "out", pixels), expected, atol=1e-5)

    def test_macs_and_bytes_fall_as_the_share_says(self, tmp_path: Path) -> None:
        prune_structured(embedded(), tmp_path / "out", 0.5)
        before, after = footprint(embedded()), footprint(tmp_path / "out")
        # T tokens, width d, 4 d units of which half go; each with a bias of its own.
        tokens, width = 16, 64
        assert before.macs - after.macs == 12 * tokens * 2 * width * 2 * width
        assert before.parameters - after.parameters == 12 * (2 * width * 2 * width + 2 * width)
        assert before.weight_bytes - after.weight_bytes == 2 * 12 * (4 * width**2 + 2 * width)
        for stage in (0, 13):
            assert after.stages[stage].macs == before.stages[stage].macs

    def test_images_to_choose_by_keep_the_classes(
        self, tmp_path: Path, sample_images: Images
    ) -> None:
        # The images that choose and those that judge are different ones.
        judges = Images(pixels=sample_images.pixels[1::3])
        prune_structured(embedded(), tmp_path / "norm", 0.5)
        prune_structured(embedded(), tmp_path / "fit", 0.5, pixels=sample_images.pixels[::3])
        by_norm, fitted = (
            report(tmp_path / name, embedded(), judges, repeats=1) for name in ("norm", "fit")
        )
        assert fitted.top1_agreement is not None
        assert fitted.top1_agreement >= 0.95
        assert fitted.centred_cosine > 0.99 > by_norm.centred_cosine

    @pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
    def test_shares_that_leave_nothing(self, share: float, small: Path, tmp_path: Path) -> None:
        for prune in (prune_structured, prune_magnitude):
            with pytest.raises(InputError, match="share: expected a number from 0 to below 1"):
                prune(small, tmp_path / "out", share)

    def test_a_share_of_nearly_all_leaves_one_unit(self, small: Path, tmp_path: Path) -> None:
        prune_structured(small, tmp_path / "out", 0.9999)
        assert stored(tmp_path / "out")["block1/up/weight/fp16"].shape == (32, 1)
        assert np.isfinite(whole(tmp_path / "out", drawn(small))).all()

    def test_no_images_to_choose_by(self, small: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="images to choose by: expected at least one"):
            prune_structured(small, tmp_path / "out", 0.5, pixels=drawn(small)[:0])

    def test_an_mlp_is_found_in_every_block_by_what_it_is(self, vit: Path) -> None:
        found = mlps_by_block(read_image_encoder(vit), vit)
        layers = ModelInfo.read(vit).layers_max
        assert [len(block) for block in found] == [1] * layers
        names = [f"block{number}" for number in range(1, layers + 1)]
        assert [block[0].up for block in found] == [f"{name}/up/weight" for name in names]
        assert [block[0].bias for block in found] == [f"{name}/down/bias" for name in names]

    @pytest.mark.parametrize(
        ("name", "of"),
        [("block2/gate", "Softmax"), ("block2/gate", "Identity")],
        ids=["mixes units", "no activation"],
    )
    def test_a_block_without_an_mlp_is_named(
        self, name: str, of: str, small: Path, tmp_path: Path
    ) -> None:
        def change(model: onnx.ModelProto) -> None:
            (node,) = (node for node in model.graph.node if node.name == name)
            node.op_type = of

        model = edited(small, tmp_path / "model", change)
        with pytest.raises(InputError, match="block 2: expected MatMul, activation, MatMul"):
            prune_structured(model, tmp_path / "out", 0.5)

    def test_constants_may_be_nodes_as_old_exporters_write_them(
        self, small: Path, tmp_path: Path
    ) -> None:
        def change(model: onnx.ModelProto) -> None:
            onnx.load_external_data_for_model(model, str(small))
            tensors = list(model.graph.initializer)
            del model.graph.initializer[:]
            for tensor in tensors:
                node = onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
                model.graph.node.insert(0, node)

        model = edited(small, tmp_path / "model", change)
        pixels = drawn(small)
        assert np.allclose(whole(model, pixels), whole(small, pixels), atol=1e-6)
        for name, prune in METHODS.items():
            prune(small, tmp_path / f"{name}-1")
            prune(model, tmp_path / f"{name}-2")
            found, expected = (whole(tmp_path / f"{name}-{at}", pixels) for at in (2, 1))
            assert np.allclose(found, expected, atol=1e-5), name

    def test_a_weight_that_two_blocks_share_stays_whole(self, small: Path, tmp_path: Path) -> None:
        def share(model: onnx.ModelProto) -> None:
            (cast,) = (node for node in model.graph.node if node.output[0] == "block2/up/weight")
            cast.input[0] = "block1/up/weight/fp16"

        model = edited(small, tmp_path / "model", share)
        with pytest.raises(InputError, match=r"block 1: expected .* matrices of their own"):
            prune_structured(model, tmp_path / "out", 0.5)

    def test_a_quantised_model_has_no_mlp_to_prune(self, small: Path, tmp_path: Path) -> None:
        quantise_int8(small, tmp_path / "int8")
        with pytest.raises(InputError, match="block 1: expected MatMul, activation, MatMul"):
            prune_structured(tmp_path / "int8", tmp_path / "out", 0.5)


class TestReport:
    def test_a_model_beside_itself(self, sample_images: Images) -> None:
        few = Images(pixels=sample_images.pixels[:20], classes=sample_images.classes[:20])
        found = report(embedded(), embedded(), few, repeats=1)
        assert (found.centred_cosine, found.top1_agreement) == (pytest.approx(1.0), 1.0)
        assert found.original.footprint == found.compressed.footprint
        assert found.original.accuracy == found.compressed.accuracy
        assert json.loads(json.dumps(found.to_dict()))["images"] == 20

    def test_a_model_without_texts_has_no_classes_to_compare(self, small: Path) -> None:
        found = report(small, small, Images(pixels=drawn(small)), repeats=1)
        assert (found.top1_agreement, found.original.accuracy) == (None, None)

    def test_what_cannot_be_compared(self, small: Path) -> None:
        with pytest.raises(InputError, match="one image and one repeat"):
            report(small, small, Images(pixels=drawn(small)[:0]))
        with pytest.raises(InputError, match="dim: expected 64 as in"):
            report(small, embedded(), Images(pixels=drawn(small)))

    def test_cosines_of_vectors_that_are_the_mean(self) -> None:
        same = np.ones((3, 4))
        assert centred_cosine(same, same) == 1.0
        assert centred_cosine(same, np.array([[2.0, 1, 1, 1]] * 3)) == 0.0


class TestCompress:
    def test_options_that_do_not_fit_the_method(self, small: Path, tmp_path: Path) -> None:
        for options, message in (
            ({"method": "zip"}, "--method: expected int8 or weights8 or weights4 or "),
            ({"method": "weights4", "share": 0.5}, "--share: expected none with weights4"),
            ({"method": "heads"}, "--share: expected one with heads"),
            ({"method": "int8", "share": 0.5}, "--share: expected none with int8"),
            ({"method": "magnitude"}, "--share: expected one with magnitude"),
            (
                {"method": "magnitude", "share": 0.5, "fit_images": small},
                "--fit-from: expected only with structured",
            ),
            ({"method": "int8", "images": tmp_path / "none"}, "expected a folder of images"),
        ):
            with pytest.raises(InputError, match=message):
                compress(CompressConfig(model=small, out=tmp_path / "out", **options))
        assert not (tmp_path / "out").exists()

    def test_a_broken_image_is_named(self, tmp_path: Path) -> None:
        for label in ("bag", "coat"):
            (tmp_path / label).mkdir()
            shutil.copy(sorted((samples() / label).iterdir())[0], tmp_path / label)
        broken = tmp_path / "coat" / "zz.jpg"
        for content in (b"", b"GIF89a", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n"):
            broken.write_bytes(content)
            with pytest.raises(InputError, match=r"coat/zz\.jpg: expected an image file"):
                read_images(tmp_path, ModelInfo.read(embedded()), split="test")

    def test_a_hidden_folder_takes_no_class_away(self, tmp_path: Path) -> None:
        for folder in ("bag", "coat", ".ipynb_checkpoints", "__MACOSX"):
            (tmp_path / folder).mkdir()
            label = folder if folder in ("bag", "coat") else "bag"
            shutil.copy(sorted((samples() / label).iterdir())[0], tmp_path / folder)
        found = read_images(tmp_path, ModelInfo.read(embedded()), split="test")
        assert len(found.pixels) == 2
        assert found.classes is not None
        assert len(set(found.classes.tolist())) == 2

    def test_images_of_unknown_classes_have_none(self, tmp_path: Path) -> None:
        shutil.copytree(samples() / "bag", tmp_path / "purse")
        info = ModelInfo.read(embedded())
        with pytest.warns(InputWarning, match='no accuracy is told: .*, found "purse"'):
            assert read_images(tmp_path, info, split="test").classes is None
        assert read_images(samples() / "bag", info, split="test").classes is None


def assert_same_weights(model_dir: Path, other_dir: Path) -> None:
    before, after = stored(model_dir), stored(other_dir)
    assert list(before) == list(after)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    pixels = drawn(model_dir)
    assert np.array_equal(whole(model_dir, pixels), whole(other_dir, pixels))


def drawn_mlp(rng: np.random.Generator, inputs: int, units: int, outputs: int) -> Mlp:
    return Mlp(
        up=rng.standard_normal((inputs, units)),
        beside=(rng.standard_normal(units),),
        down=rng.standard_normal((units, outputs)),
        bias=rng.standard_normal(outputs),
    )


def hidden(mlp: Mlp, x: np.ndarray) -> np.ndarray:
    return np.tanh(x @ mlp.up + mlp.beside[0])


def run(mlp: Mlp, x: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    h = hidden(mlp, x) if mask is None else hidden(mlp, x) * mask
    return h @ mlp.down + mlp.bias


def activity(mlp: Mlp, x: np.ndarray) -> Activity:
    h = hidden(mlp, x)
    return Activity(mean=h.mean(axis=0), covariance=np.cov(h, rowvar=False, bias=True))
