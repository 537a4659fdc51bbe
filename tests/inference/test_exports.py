"""Models as exporters write them are cut and counted right, whatever the way of writing."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgepact.efficiency.footprint import footprint
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.pipeline import Pipeline
from tests.inference import exports


def written(folder: Path, export: exports.Export) -> Path:
    (folder / "image.onnx").write_bytes(export().SerializeToString())
    exports.model_json(folder)
    return folder


def whole(folder: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(folder / "image.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = x.astype(np.float16) if given.type == "tensor(float16)" else x
    return np.asarray(session.run(None, {given.name: x})[0], np.float32)


@pytest.mark.parametrize("export", exports.SAME, ids=lambda export: export.__name__)
def test_the_same_encoder_in_other_words(tmp_path: Path, export: exports.Export) -> None:
    folder = written(tmp_path, export)
    assert len(graph.cut(folder)) == 4
    assert graph.macs_per_stage(folder) == exports.MACS
    pipeline = Pipeline(folder)
    batch = 1 if export is exports.batch_of_one else 3
    pixels = np.random.default_rng(1).standard_normal((batch, 3, 8, 8)).astype(np.float32)
    vectors = pipeline.run(pixels, 0, 4)
    rounding = 5e-3 if "half" in export.__name__ else 1e-6
    np.testing.assert_allclose(vectors, whole(folder, pixels), rtol=0, atol=rounding)
    # Device and server, at every cut.
    for layers in (1, 2):
        sent = pipeline.device_part(pixels, layers)
        assert sent.dtype == np.float32
        sent = sent if layers == 2 else pipeline.server_part(sent, layers)
        np.testing.assert_allclose(sent, vectors, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "export",
    [exports.encoder, exports.weights_in_constant_nodes, exports.blocks_in_local_functions],
)
def test_parameters_are_counted_wherever_they_stand(tmp_path: Path, export: exports.Export) -> None:
    folder = written(tmp_path, export)
    graph.cut(folder)
    assert tuple(stage.parameters for stage in footprint(folder).stages) == exports.PARAMETERS


def test_what_follows_from_the_batch_alone_is_counted_in_the_stage_that_makes_it(
    tmp_path: Path,
) -> None:
    folder = written(tmp_path, exports.probe_repeated_by_the_batch)
    graph.cut(folder)
    assert graph.macs_per_stage(folder) == (1536, 256, 256, 64 + 48)


def test_attention_counts_its_scores_and_its_mixing(tmp_path: Path) -> None:
    folder = written(tmp_path, exports.attention_operator)
    graph.cut(folder)
    assert graph.macs_per_stage(folder) == (1536, 3 * 256 + 2 * 4 * 4 * 8, 256, 48)


def test_an_operator_without_a_formula_is_named_and_nothing_is_counted(tmp_path: Path) -> None:
    model = exports.encoder()
    (tanh,) = (node for node in model.graph.node if node.output[0] == "g2")
    tanh.op_type, tanh.domain, tanh.name = "SecretProduct", "some.vendor", "second/secret"
    model.opset_import.append(onnx.helper.make_opsetid("some.vendor", 1))
    (tmp_path / "image.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"node second/secret.*some\.vendor\.SecretProduct"):
        graph.macs_per_stage(tmp_path)
    with pytest.raises(InputError, match=r"node second/secret: .*have types .* for tensor o2"):
        graph.cut_file(tmp_path / "image.onnx", [["o1"], ["o2"]], tmp_path / "stages")


def test_a_function_whose_operators_mean_something_else_is_refused_by_name(tmp_path: Path) -> None:
    model = exports.functions_of_another_version()
    inner = model.functions[1]
    inner.node[1].op_type = "Reshape"
    inner.opset_import[0].version = 13
    (tmp_path / "image.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        InputError, match=r"function local\.Linear: node a: .*Reshape of version 13"
    ):
        graph.macs_per_stage(tmp_path)


def test_stages_carry_nothing_that_the_exporter_noted_down(tmp_path: Path) -> None:
    folder = written(tmp_path, exports.notes_of_the_exporter)
    for path in graph.cut(folder):
        assert b"somebody" not in path.read_bytes()


def test_a_free_size_beside_the_batch_is_named(tmp_path: Path) -> None:
    model = exports.encoder()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    (tmp_path / "image.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="expected fixed sizes after the batch, found the free"):
        graph.cut(tmp_path)
