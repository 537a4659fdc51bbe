"""The device: its decision, its images, its footprint."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepact.errors import InputError, MarketError
from edgepact.inference.models import embedded, samples
from edgepact.market.device import DeviceConfig, best_layers, find_images, run_device
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from tests.market.harness import DEVICE

SATISFACTION: dict[str, Callable[[float], float]] = {
    "log1p": math.log1p,
    "log": lambda y: math.log(y) if y > 0 else -math.inf,
    "sqrt": math.sqrt,
    "exp": lambda y: 1 - math.exp(-y),
}


def config(tmp_path: Path, **settings: object) -> DeviceConfig:
    values = {
        "server_url": "http://127.0.0.1:9",  # the discard port: nobody answers
        "name": "cam-1",
        "model_dir": embedded(),
        "images": samples(),
        "results": tmp_path / "results.jsonl",
        "enrol_token": "once",
        "away_timeout_s": 0.2,
        **DEVICE,
    } | settings
    return DeviceConfig(**values)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the decision


@settings(max_examples=200, deadline=None)
@given(
    price=st.floats(0, 20),
    alpha=st.floats(0.01, 50),
    capacity=st.floats(0, 30),
    A=st.floats(0.05, 5),
    B=st.floats(0, 5),
    satisfaction=st.sampled_from(sorted(FAMILIES)),
    layers_max=st.integers(1, 24),
)
def test_no_other_number_of_layers_is_better(
    price: float,
    alpha: float,
    capacity: float,
    A: float,
    B: float,
    satisfaction: str,
    layers_max: int,
) -> None:
    chosen = best_layers(
        price,
        alpha=alpha,
        capacity=capacity,
        A=A,
        B=B,
        satisfaction=satisfaction,
        layers_max=layers_max,
    )
    if capacity < B:
        assert chosen == 0
        return
    value = SATISFACTION[satisfaction]

    def utility(layers: int) -> float:
        return price * layers + alpha * value(max(capacity - A * layers - B, 0.0))

    feasible = range(min(layers_max, math.floor((capacity - B) / A)) + 1)
    assert chosen in feasible
    best = max(utility(layers) for layers in feasible)
    assert utility(chosen) >= best - 1e-6 * layers_max - 1e-9


def test_ties_go_to_more_layers() -> None:
    # sqrt: 0 layers leave 1, 1 layer leaves 0; at price alpha both are worth the same.
    device = {"alpha": 2.0, "capacity": 1.0, "A": 1.0, "B": 0.0, "satisfaction": "sqrt"}
    assert best_layers(2.0, **device, layers_max=1) == 1  # type: ignore[arg-type]
    assert best_layers(1.9, **device, layers_max=1) == 0  # type: ignore[arg-type]


def test_device_too_small_to_embed_takes_no_part() -> None:
    tiny = {"alpha": 1.0, "capacity": 0.5, "A": 0.1, "B": 0.6, "satisfaction": "log1p"}
    assert best_layers(1e6, **tiny, layers_max=12) == 0  # type: ignore[arg-type]


# ---------------------------------------------------------------- images and settings


def test_images_in_class_folders_and_flat(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "0.PNG", "notes.txt", "a/deeper/3.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, "PNG")
    found = find_images(tmp_path)
    told = [(picture.path.relative_to(tmp_path).as_posix(), picture.label) for picture in found]
    assert told == [("0.PNG", None), ("a/1.png", "a"), ("b/2.png", "b")]


def test_missing_or_empty_image_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        run_device(config(tmp_path, images=tmp_path / "none"))
    with pytest.raises(InputError, match="0 images"):
        run_device(config(tmp_path, images=tmp_path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"),
        ("server_url", "ftp://x"),
        ("server_url", "http://"),
        ("server_url", "http://x:y"),
        ("alpha", 0.0),
        ("alpha", math.nan),
        ("capacity", -1.0),
        ("A", 0.0),
        ("B", math.inf),
        ("satisfaction", "linear"),
        ("codec", "int4"),
        ("layers_max", -1),
        ("away_timeout_s", 0.0),
    ],
)
def test_impossible_setting_names_the_field(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        config(tmp_path, **{field: value})


def test_unusable_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="results"):
        run_device(config(tmp_path, results=tmp_path / "none" / "results.jsonl"))
    with pytest.raises(InputError, match="one-time token"):
        run_device(config(tmp_path, enrol_token=None))
    (tmp_path / "token").write_text("")
    with pytest.raises(InputError, match="device token"):
        run_device(config(tmp_path, token_file=tmp_path / "token"))


def test_server_that_does_not_answer_is_a_market_error(tmp_path: Path) -> None:
    with pytest.raises(MarketError, match=r"has not answered for 0\.2 s"):
        run_device(config(tmp_path))


# ---------------------------------------------------------------- the footprint

_FOOTPRINT = """
import json, sys, psutil
from pathlib import Path
from edgepact.inference.models import embedded, samples
from edgepact.market.device import DeviceConfig, find_images, run_device
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.inference.codec import encode
pipeline = Pipeline(embedded())
image = find_images(samples())[0].path.read_bytes()
pixels = preprocess(image, pipeline.info)
for layers in range(pipeline.layers_max + 1):  # every stage it could ever run
    x = pipeline.device_part(pixels, layers)
KnowledgeBase.from_texts(embedded()).classify(x)
encode(pipeline.device_part(pixels, 4), "int8")
print(json.dumps({"rss": psutil.Process().memory_info().rss, "modules": sorted(sys.modules)}))
"""


def test_device_process_is_light() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _FOOTPRINT], capture_output=True, text=True, check=True
    )
    footprint = json.loads(told.stdout)
    heavy = {"jax", "jaxlib", "equinox", "optax", "sqlalchemy", "onnx", "onnx_ir", "scipy",
             "pyarrow", "matplotlib", "starlette", "uvicorn", "torch"}  # fmt: skip
    assert heavy.isdisjoint(footprint["modules"])
    assert "onnxruntime" in footprint["modules"]
    assert footprint["rss"] < 150e6


def test_server_does_not_load_jax_by_itself() -> None:
    """Its pricer may; a server at a fixed price starts in a fraction of the time."""
    code = "import sys, edgepact.market.server; print('jax' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
