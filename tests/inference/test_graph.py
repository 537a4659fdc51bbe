import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from benchmarks.random_vit import VitShape, write_vit
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.models import embedded


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto] | None = None,
    sizes: tuple[str | int, ...] = ("batch", 4),
    boundaries: object = None,
) -> Path:
    """A model from `x` to `y`."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("x", "y")]
    made = helper.make_graph(nodes, "drawn", ends[:1], ends[1:], initializers or [])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if boundaries is not None:
        text = boundaries if isinstance(boundaries, str) else json.dumps(boundaries)
        helper.set_model_props(model, {graph.BOUNDARIES_KEY: text})
    onnx.save(model, path)
    return path


CHAIN = [
    helper.make_node("Neg", ["x"], ["a"]),
    helper.make_node("Abs", ["a"], ["b"]),
    helper.make_node("Exp", ["a"], ["c"]),
    helper.make_node("Add", ["b", "c"], ["d"]),
    helper.make_node("Tanh", ["d"], ["y"]),
]


class TestSingleTensorCuts:
    def test_two_branches_hide_what_is_inside_them(self, tmp_path: Path) -> None:
        assert graph.single_tensor_cuts(save(tmp_path / "m.onnx", CHAIN)) == ("a", "d")

    def test_a_skip_connection_from_the_input_hides_everything(self, tmp_path: Path) -> None:
        nodes = [*CHAIN[:-1], helper.make_node("Add", ["x", "d"], ["y"])]
        assert graph.single_tensor_cuts(save(tmp_path / "m.onnx", nodes)) == ()

    def test_what_no_output_needs_hides_nothing(self, tmp_path: Path) -> None:
        nodes = [CHAIN[0], helper.make_node("Cos", ["x"], ["idle"]), *CHAIN[1:]]
        nodes.append(helper.make_node("Add", ["idle", "d"], ["also_idle"]))
        assert graph.single_tensor_cuts(save(tmp_path / "m.onnx", nodes)) == ("a", "d")

    def test_constants_computed_in_the_graph_hide_nothing(self, tmp_path: Path) -> None:
        weight = helper.make_tensor("half", TensorProto.FLOAT16, [4], [1, 2, 3, 4])
        nodes = [
            helper.make_node("Cast", ["half"], ["weight"], to=TensorProto.FLOAT),
            *CHAIN[:-1],
            helper.make_node("Mul", ["d", "weight"], ["y"]),
        ]
        assert graph.single_tensor_cuts(save(tmp_path / "m.onnx", nodes, [weight])) == ("a", "d")

    def test_a_shape_of_the_input_hides_nothing(self, tmp_path: Path) -> None:
        nodes = [
            *CHAIN[:-1],
            helper.make_node("Shape", ["x"], ["sizes"]),
            helper.make_node("Reshape", ["d", "sizes"], ["y"]),
        ]
        assert graph.single_tensor_cuts(save(tmp_path / "m.onnx", nodes)) == ("a", "d")

    def test_a_subgraph_keeps_alive_what_it_reads(self, tmp_path: Path) -> None:
        value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        branch = helper.make_graph(
            [helper.make_node("Add", ["a", "d"], ["inner"])], "branch", [], [value]
        )
        flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
        choice = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
        path = save(tmp_path / "m.onnx", [*CHAIN[:-1], choice], [flag])
        assert graph.single_tensor_cuts(path) == ("a",)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_they_are_what_all_paths_share(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        names = ["x"]
        nodes = []
        for at in range(data.draw(st.integers(1, 9), "nodes")):
            read = data.draw(st.lists(st.sampled_from(names[-4:]), min_size=1, max_size=2))
            nodes.append(helper.make_node("Sum", read, [f"v{at}"]))
            names.append(f"v{at}")
        nodes[-1].output[0] = "y"
        path = save(tmp_path_factory.mktemp("drawn") / "m.onnx", nodes)

        made = {node.output[0]: list(node.input) for node in nodes}

        def reached_without(avoided: str, name: str) -> bool:
            if name == avoided:
                return False
            return name == "x" or any(reached_without(avoided, read) for read in made[name])

        expected = tuple(name for name in names[1:-1] if not reached_without(name, "y"))
        assert graph.single_tensor_cuts(path) == expected

    def test_of_a_vision_transformer_hold_the_ends_of_its_blocks(
        self, model_dir: Path, vit_shape: VitShape
    ) -> None:
        ends = ["embed/out", *(f"block{block}/out" for block in range(1, vit_shape.layers + 1))]
        assert set(ends) < set(graph.single_tensor_cuts(model_dir / "image.onnx"))
        assert graph.boundaries(model_dir / "image.onnx") == tuple(ends)

    @pytest.mark.parametrize("content", [None, b"", b"no model at all"])
    def test_a_file_that_is_no_model(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "m.onnx"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"m\.onnx: expected an ONNX model"):
            graph.single_tensor_cuts(path)

    def test_nodes_out_of_order(self, tmp_path: Path) -> None:
        path = save(tmp_path / "m.onnx", CHAIN[::-1])
        with pytest.raises(InputError, match="expected inputs made before it, found d"):
            graph.single_tensor_cuts(path)


class TestBoundaries:
    @pytest.mark.parametrize(
        ("boundaries", "found"),
        [
            (None, "no such entry"),
            ("[", r"\["),
            ({"a": 1}, "a"),
            (["a"], "a"),
            (["a", 1], "a"),
            (["a", "b"], "'b', beside which other values are alive"),
            (["a", "z"], "'z', which does not exist"),
            (["d", "a"], r'\["d", "a"\]'),
            (["a", "a"], r'\["a", "a"\]'),
        ],
    )
    def test_a_list_that_cannot_be_followed(
        self, tmp_path: Path, boundaries: object, found: str
    ) -> None:
        path = save(tmp_path / "m.onnx", CHAIN, boundaries=boundaries)
        with pytest.raises(InputError, match=rf"edgepact\.boundaries\].*found .*{found}"):
            graph.boundaries(path)


class TestCut:
    def test_stages_hold_graphs_only_and_share_the_weights(self, model_dir: Path) -> None:
        paths = sorted(model_dir.glob("stage_*.onnx"))
        weights = (model_dir / "weights.bin").stat().st_size
        assert sum(path.stat().st_size for path in paths) < weights
        names = []
        for path in paths:
            external = [
                tensor
                for tensor in onnx.load(path, load_external_data=False).graph.initializer
                if tensor.data_location == TensorProto.EXTERNAL
            ]
            assert {pair.value for one in external for pair in one.external_data[:1]} == {
                "weights.bin"
            }
            names += [tensor.name for tensor in external]
        assert len(names) == len(set(names)), "a weight belongs to one stage"

    def test_ends_carry_their_names_and_a_symbolic_batch(self, model_dir: Path) -> None:
        names = graph.boundaries(model_dir / "image.onnx")
        ends = ["pixels", *names, "vector"]
        for stage, path in enumerate(sorted(model_dir.glob("stage_*.onnx"))):
            made = onnx.load(path, load_external_data=False).graph
            (start,), (stop,) = made.input, made.output
            assert (start.name, stop.name) == (ends[stage], ends[stage + 1])
            assert start.type.tensor_type.shape.dim[0].dim_param == "batch"
            assert stop.type.tensor_type.shape.dim[0].dim_param == "batch"

    def test_cutting_again_changes_nothing_and_removes_what_is_left_over(
        self, tmp_path: Path
    ) -> None:
        model_dir = write_vit(tmp_path / "m", VitShape(layers=2))
        first = {path.name: path.read_bytes() for path in graph.cut(model_dir)}
        (model_dir / "stage_09.onnx").write_bytes(b"of a deeper model")
        second = {path.name: path.read_bytes() for path in graph.cut(model_dir)}
        assert first == second
        assert sorted(os.listdir(model_dir)) == sorted(
            [*first, "image.onnx", "model.json", "weights.bin"]
        )

    def test_a_batch_size_frozen_inside_is_found_before_any_file_is_replaced(
        self, tmp_path: Path
    ) -> None:
        sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [1, 4])
        nodes = [
            *CHAIN[:-1],
            helper.make_node("Reshape", ["d", "sizes"], ["frozen"]),
            helper.make_node("Add", ["d", "frozen"], ["y"]),
        ]
        save(tmp_path / "image.onnx", nodes, [sizes], boundaries=["a", "d"])
        with pytest.raises(InputError, match="a batch of any size"):
            graph.cut(tmp_path)
        assert os.listdir(tmp_path) == ["image.onnx"]

    def test_a_fixed_batch_is_cut_as_it_is_if_it_is_one(self, tmp_path: Path) -> None:
        save(tmp_path / "image.onnx", CHAIN, sizes=(1, 4), boundaries=["a", "d"])
        assert len(graph.cut(tmp_path)) == 3
        save(tmp_path / "image.onnx", CHAIN, sizes=(3, 4), boundaries=["a", "d"])
        with pytest.raises(InputError, match="input x: expected a symbolic batch dimension first"):
            graph.cut(tmp_path)

    def test_weights_in_another_folder_are_refused(self, tmp_path: Path) -> None:
        model_dir = write_vit(tmp_path / "m", VitShape(layers=1))
        model = onnx.load(model_dir / "image.onnx", load_external_data=False)
        model.graph.initializer[0].external_data[0].value = "../weights.bin"
        onnx.save(model, model_dir / "image.onnx")
        with pytest.raises(InputError, match="external data beside the graph"):
            graph.cut(model_dir)

    @pytest.mark.parametrize("truncated", [True, False])
    def test_weights_that_are_missing_or_cut_short(self, tmp_path: Path, truncated: bool) -> None:
        model_dir = write_vit(tmp_path / "m", VitShape(layers=1))
        weights = model_dir / "weights.bin"
        if truncated:
            weights.write_bytes(weights.read_bytes()[:-2])
        else:
            weights.unlink()
        with pytest.raises(InputError, match=r"weights\.bin: expected a file that holds"):
            graph.cut(model_dir)

    def test_a_shape_that_a_stage_cannot_rebuild_is_named(self, tmp_path: Path) -> None:
        # NonZero makes a size that only running the graph can tell.
        nodes = [
            helper.make_node("Neg", ["x"], ["a"]),
            helper.make_node("NonZero", ["a"], ["found"]),
            helper.make_node("Cast", ["found"], ["b"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["b"], ["total"], keepdims=0),
            helper.make_node("Add", ["a", "total"], ["c"]),
            helper.make_node("Shape", ["found"], ["sizes"]),
            helper.make_node("Cast", ["sizes"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceProd", ["numbers"], ["product"], keepdims=0),
            helper.make_node("Add", ["c", "product"], ["y"]),
        ]
        save(tmp_path / "image.onnx", nodes, boundaries=["a", "c"])
        with pytest.raises(InputError, match=r"node sizes: expected sizes that follow from .* c"):
            graph.cut(tmp_path)


class TestMacs:
    def test_equal_the_closed_form(self, model_dir: Path, vit_shape: VitShape) -> None:
        tokens, width = vit_shape.tokens, vit_shape.width
        embed, *blocks, head = graph.macs_per_stage(model_dir)
        patch_numbers = vit_shape.channels * vit_shape.patch**2
        assert embed == (tokens - vit_shape.class_token) * patch_numbers * width
        assert blocks == [12 * tokens * width**2 + 2 * tokens**2 * width] * vit_shape.layers
        assert head == width * vit_shape.dim

    def test_grouped_convolution_and_transposed_gemm(self, tmp_path: Path) -> None:
        def weights(name: str, *dims: int) -> onnx.TensorProto:
            numbers = np.arange(np.prod(dims), dtype=np.float32)
            return helper.make_tensor(name, TensorProto.FLOAT, dims, numbers)

        initializers = [weights("kernel", 6, 2, 3, 3), weights("matrix", 5, 96)]
        nodes = [
            helper.make_node("Conv", ["x", "kernel"], ["a"], group=2, kernel_shape=[3, 3]),
            helper.make_node("Flatten", ["a"], ["b"]),
            helper.make_node("Gemm", ["b", "matrix"], ["y"], transB=1),
        ]
        path = save(
            tmp_path / "image.onnx", nodes, initializers, ("batch", 4, 6, 6), boundaries=["a", "b"]
        )
        model = onnx.load(path)
        del model.graph.output[0].type.tensor_type.shape.dim[1:]
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 5
        onnx.save(model, path)
        # 6 channels of 4x4 from 2 channels and a 3x3 window; 5 numbers from 96.
        assert graph.macs_per_stage(tmp_path) == (6 * 16 * 2 * 9, 0, 5 * 96)


def test_the_embedded_model_was_cut_from_what_lies_beside_it(tmp_path: Path) -> None:
    shipped = embedded()
    for name in ("image.onnx", "weights.bin"):
        shutil.copy(shipped / name, tmp_path / name)
    anew = graph.cut(tmp_path)
    probe = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
    for path in anew:
        outputs = []
        for model in (path, shipped / path.name):
            session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            outputs.append(session.run(None, {session.get_inputs()[0].name: probe})[0])
        np.testing.assert_array_equal(outputs[0], outputs[1])
        probe = outputs[0]
