import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.random_vit import VitShape, write_vit
from edgepact.efficiency.footprint import Footprint, footprint
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.models import embedded


@pytest.fixture(scope="module")
def counted() -> Footprint:
    return footprint(embedded())


def test_bytes_are_those_of_the_files(counted: Footprint) -> None:
    files = sum(path.stat().st_size for path in embedded().glob("stage_*.onnx"))
    assert counted.bytes - counted.weight_bytes == files
    # The weight file holds the text encoder too.
    assert counted.weight_bytes < (embedded() / "weights.bin").stat().st_size
    assert counted.deflated_bytes < counted.bytes


def test_parameters_follow_from_the_shape(counted: Footprint) -> None:
    tokens, width, pixels = 16, 64, 49
    # Norms, four projections and an MLP of 4 d, with biases; two constants of one number.
    block = 12 * width**2 + 13 * width + 2
    assert [stage.parameters for stage in counted.stages[1:-1]] == [block] * 12
    assert counted.stages[0].parameters == (pixels + 1 + tokens) * width
    assert counted.stages[-1].parameters == width**2 + 3 * width
    assert counted.weight_bytes == 2 * (counted.parameters - 2 * 12)


def test_operations_and_cuts_come_from_the_graph(counted: Footprint) -> None:
    assert tuple(stage.macs for stage in counted.stages) == graph.macs_per_stage(embedded())
    ends = tuple(stage.ends_with for stage in counted.stages)
    assert ends == (*graph.boundaries(embedded() / "image.onnx"), "vector")


def test_json_and_table_hold_all_stages(counted: Footprint) -> None:
    table = counted.to_dict()
    assert json.loads(json.dumps(table)) == table
    assert table["bytes"] == counted.bytes
    assert len(table["stages"]) == 14
    written = io.StringIO()
    Console(width=100, file=written).print(counted)
    assert f"{counted.macs:,}" in written.getvalue()
    assert "block_12.out" in written.getvalue()


def test_a_model_that_is_not_cut(tmp_path: Path) -> None:
    model_dir = write_vit(tmp_path, VitShape(layers=1))
    with pytest.raises(InputError, match=r"stage_00\.onnx: expected a stage with its weights"):
        footprint(model_dir)


def test_a_damaged_stage(tmp_path: Path) -> None:
    model_dir = write_vit(tmp_path, VitShape(layers=1))
    graph.cut(model_dir)
    (model_dir / "stage_01.onnx").write_bytes(b"no stage")
    with pytest.raises(InputError, match=r"stage_01\.onnx: expected a stage with its weights"):
        footprint(model_dir)
