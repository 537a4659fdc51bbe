"""The device: its decision, its images, its footprint."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgepact.engagement import chosen, posted, truthful_bids
from edgepact.errors import InputError, MarketError
from edgepact.inference.digests import state_weights
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import Pipeline
from edgepact.market.device import run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.device_token import held_alone
from edgepact.market.ledger import Ledger
from edgepact.market.own_cost import computing_cost
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from tests.market.harness import DEVICE, PATIENCE_S, Device, image, inputs_at, served, wait_until

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
        "inputs": samples(),
        "results": tmp_path / "results.jsonl",
        "enrol_token": "once",
        "away_timeout_s": 0.2,
        **DEVICE,
    } | settings
    return DeviceConfig(**values)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the decision


def best_layers(
    price: float,
    *,
    alpha: float,
    capacity: float,
    A: float,
    B: float,
    satisfaction: str,
    layers_max: int,
) -> int:
    """The rule by which devices chose before they weighed menus: every number of layers is tried.

    Of those that are equally good, to a micro-credit a layer, the largest.
    """
    if capacity < B:
        return 0
    layers = np.arange(min(layers_max, int((capacity - B) / A)) + 1)
    left = np.maximum(capacity - A * layers - B, 0.0)
    with np.errstate(divide="ignore"):
        utility = price * layers + alpha * FAMILIES[satisfaction].value(left)
    return int(np.flatnonzero(utility >= utility.max() - layers_max / 1e6)[-1])


def taken_layers(price_microcredits: int, layers_max: int, **device: Any) -> int:
    """What a device takes of a posted price now."""
    question = posted(price_microcredits, layers_max)
    item = chosen(question, computing_cost(**device))
    return 0 if item is None else int(question.menu[item].amount)


DEVICES = st.fixed_dictionaries(
    {
        "alpha": st.floats(0.01, 50),
        "capacity": st.floats(0, 30),
        "A": st.floats(0.05, 5),
        "B": st.floats(0, 5),
        "satisfaction": st.sampled_from(sorted(FAMILIES)),
    }
)


@settings(max_examples=300, deadline=None)
@given(price=st.integers(0, 20_000_000), device=DEVICES, layers_max=st.integers(1, 24))
@example(
    price=2_000_000,
    device={"alpha": 2.0, "capacity": 1.0, "A": 1.0, "B": 0.0, "satisfaction": "sqrt"},
    layers_max=1,
)
@example(
    price=10**12,
    device={"alpha": 1.0, "capacity": 0.5, "A": 0.1, "B": 0.6, "satisfaction": "log1p"},
    layers_max=12,
)
def test_devices_take_the_layers_they_always_took(
    price: int, device: dict[str, Any], layers_max: int
) -> None:
    now = taken_layers(price, layers_max, **device)
    before = best_layers(price / 1e6, **device, layers_max=layers_max)
    if now != before:  # only where both are as good, to the rounding that either rule allows
        value, (A, B) = SATISFACTION[device["satisfaction"]], (device["A"], device["B"])
        utilities = [
            price / 1e6 * layers
            + device["alpha"] * value(max(device["capacity"] - A * layers - B, 0.0))
            for layers in (now, before)
        ]
        assert abs(utilities[0] - utilities[1]) <= 2e-6 * (1 + layers_max)


@settings(max_examples=200, deadline=None)
@given(price=st.integers(0, 20_000_000), device=DEVICES, layers_max=st.integers(1, 24))
def test_no_other_number_of_layers_is_better(
    price: int, device: dict[str, Any], layers_max: int
) -> None:
    taken = taken_layers(price, layers_max, **device)
    capacity, A, B = device["capacity"], device["A"], device["B"]
    if capacity < B:
        assert taken == 0
        return
    value = SATISFACTION[device["satisfaction"]]

    def utility(layers: int) -> float:
        left = max(capacity - A * layers - B, 0.0)
        return price / 1e6 * layers + device["alpha"] * value(left)

    feasible = range(min(layers_max, math.floor((capacity - B) / A)) + 1)
    assert taken in feasible
    best = max(utility(layers) for layers in feasible)
    assert utility(taken) >= best - 2e-6 * (1 + layers_max)


def test_ties_go_to_more_layers() -> None:
    # sqrt: 0 layers leave 1, 1 layer leaves 0; at price alpha both are worth the same.
    device = {"alpha": 2.0, "capacity": 1.0, "A": 1.0, "B": 0.0, "satisfaction": "sqrt"}
    assert taken_layers(2_000_000, 1, **device) == 1
    assert taken_layers(1_900_000, 1, **device) == 0


def test_a_device_does_not_bid_for_what_it_cannot_do() -> None:
    cost = computing_cost(alpha=2.0, capacity=4.0, A=1.0, B=0.0, satisfaction="sqrt", layers_max=3)
    bids = truthful_bids((1.0, 3.0, 4.0, 5.0), cost)
    assert bids == (math.ceil(2e6 * (2 - math.sqrt(3))), 2_000_000, None, None)


# ---------------------------------------------------------------- settings and files


def test_missing_or_empty_image_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        run_device(config(tmp_path, inputs=tmp_path / "none"))
    with pytest.raises(InputError, match="0 images"):
        run_device(config(tmp_path, inputs=tmp_path))


def test_unknown_job_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"device: job: .*classification"):
        run_device(config(tmp_path, job="clasification"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"),
        ("server_url", "ftp://x"),
        ("server_url", "http://"),
        ("server_url", "http://x:y"),
        ("server_url", "http://a:1,http://user:hunter2@b:2"),
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
    with pytest.raises(InputError, match=field) as told:
        config(tmp_path, **{field: value})
    assert "hunter2" not in str(told.value)


def test_unusable_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="results"):
        run_device(config(tmp_path, results=tmp_path / "none" / "results.jsonl"))
    with pytest.raises(InputError, match="one-time token"):
        run_device(config(tmp_path, enrol_token=None))
    (tmp_path / "token").write_text("")
    with pytest.raises(InputError, match="device token"):
        run_device(config(tmp_path, token_file=tmp_path / "token"))


def test_a_token_that_nobody_can_write_beside_is_used_by_one_process_too(tmp_path: Path) -> None:
    def use() -> str:
        code = "import sys, pathlib, edgepact.market.device_token as t; "
        code += "t.held_alone(pathlib.Path(sys.argv[1])).__enter__()"
        told = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
        )
        return told.stderr

    path = tmp_path / "token"
    path.write_text("kept")
    (tmp_path / "token.lock").mkdir()  # whoever runs this, nobody writes to it
    with held_alone(path):
        assert f"{path}: expected a token file that no other process uses" in use()
    assert use() == ""
    with held_alone(None), held_alone(tmp_path / "none" / "token"):
        pass  # there is nothing to use


def test_server_that_does_not_answer_is_a_market_error(tmp_path: Path) -> None:
    with pytest.raises(MarketError, match=r"has not answered for 0\.2 s"):
        run_device(config(tmp_path))


def test_a_device_is_told_whose_token_it_comes_with(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = {
        "token_file": tmp_path / "kept.token",
        "enrol_token": "once-0",
        "away_timeout_s": PATIENCE_S,
    }

    def said(name: str) -> list[str]:
        with served(tmp_path, rounds=said_of[name], units_per_round=1) as server:
            own = {"name": name, "results": tmp_path / f"{name}.jsonl", "server_url": server.url}
            run_device(config(tmp_path, **kept, **own))
        with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
            assert ledger.devices() == ["cam-1"]
        return [line for line in capfd.readouterr().err.splitlines() if line.startswith(name)]

    said_of = {"cam-1": 1, "cam-2": 3}  # rounds in all after each
    assert said("cam-1") == []
    (line,) = said("cam-2")  # once, though it polls in two rounds
    assert line.startswith("cam-2: the server knows this device as cam-1")
    assert "kept.token" in line


@pytest.mark.parametrize("of", ["round", "the market"])
def test_a_budget_that_is_used_up_is_told_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], of: str
) -> None:
    field = "budget" if of == "the market" else "round_budget"
    with served(tmp_path, rounds=3, units_per_round=4, **{field: 24.5}) as server:
        own = {"server_url": server.url, "enrol_token": "once-0", "away_timeout_s": PATIENCE_S}
        done = run_device(config(tmp_path, **own))
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        assert ledger.check() == []
    paid = 2 if of == "the market" else 6  # images of 12 layers
    assert (done.rounds, done.paid_microcredits) == (3, paid * 12_000_000)
    refused = "cam-1: gets no more work"
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith(refused)]
    again = [f"round {number}" for number in (1, 2, 3)] if of == "round" else [of]
    assert said == [
        f"{refused} for now: the budget of {name} is used up: 24.000000 of 24.500000 credits"
        for name in again
    ]


@pytest.mark.parametrize("rounds", [None, 300])
def test_a_market_rests_once_its_budget_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int | None
) -> None:
    monkeypatch.setattr("edgepact.market.play.REST_S", 3600.0)
    monkeypatch.setattr("edgepact.market.play.POLL_TIMEOUT_S", 1.0)
    pipeline = Pipeline(embedded())
    with served(tmp_path, units_per_round=1, budget=1.0, rounds=rounds) as server:
        device = Device(server.url, "once-0", "cam-1")
        with closing(device.http):
            assert device.offer()["round"] == 1
            assert not server.market.glance()["budget_used_up"]
            device.commit(1, 12)
            refused = device.infer(12, 1, "1-0", inputs_at(pipeline, 12, image()))
            assert refused.status_code == 409
            assert "used up" in refused.text
            device.http.post("/market/leave")
            assert device.offer(after=1)["state"] == "wait", "round 2 would come at once"
            assert server.market.glance()["budget_used_up"]
            own = {"Authorization": f"Bearer {server.operator_token}"}

            def limit(credits: float | None) -> None:
                asked = {"action": "budget", "credits": credits, "round_credits": None}
                changed = httpx.post(f"{server.url}/page/control", json=asked, headers=own)
                assert changed.status_code == 200

            limit(0.5)
            assert device.offer(after=1)["state"] == "wait", "less is no reason to go on"
            limit(None)
            assert device.offer(after=1)["round"] == 2
            assert not server.market.glance()["budget_used_up"]


def test_a_market_that_rests_stops_at_once_and_opens_no_round_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepact.market.play.REST_S", 3600.0)
    with served(tmp_path, units_per_round=1, budget=1.0) as server:
        device = Device(server.url, "once-0", "cam-1")
        with closing(device.http):
            assert device.offer()["round"] == 1
            device.commit(1, 12)
            assert device.infer(12, 1, "1-0", inputs_at(Pipeline(embedded()), 12, image())).is_error
            device.http.post("/market/leave")
        wait_until(lambda: server.market.glance()["budget_used_up"])
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        assert [each.number for each in ledger.rounds()] == [1]


def test_a_budget_that_is_used_up_in_the_last_round_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepact.market.play.REST_S", 3600.0)
    with served(tmp_path, units_per_round=1, budget=1.0, rounds=1) as server:
        run_device(config(tmp_path, server_url=server.url, enrol_token="once-0"))


# ---------------------------------------------------------------- what both sides must hold


def test_device_with_other_weights_is_told_before_any_work(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(embedded(), model)
    weights = bytearray((model / "weights.bin").read_bytes())
    weights[1000:2000] = bytes(1000)
    (model / "weights.bin").write_bytes(weights)
    state_weights(model)  # as whoever has trained them would
    with served(tmp_path) as server:
        strange = config(tmp_path, server_url=server.url, enrol_token="once-0", model=model)
        with pytest.raises(MarketError, match="cam-1 holds other weights of fashion-clip than"):
            run_device(strange)
        assert set(server.market._ledger.jobs_by_state().values()) == {0}
        (record,) = server.market._ledger.rounds()
        assert record.answers == {}
    assert not (tmp_path / "results.jsonl").read_text()


def test_an_image_that_cannot_be_read_is_passed_over_and_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for at, path in enumerate(sorted(samples().glob("*/*.png"))[:3]):
        shutil.copy(path, images / f"{at}.png")
    broken = {
        "empty.jpg": b"",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "short.png": (images / "0.png").read_bytes()[:100],
        "huge.bmp": b"BM" + b"\xff" * 24 + b"\1\0\x18\0" + b"\0" * 24,
    }
    for name, content in broken.items():
        (images / name).write_bytes(content)
    with served(tmp_path, rounds=2, units_per_round=6) as server:
        done = run_device(
            config(tmp_path, server_url=server.url, enrol_token="once-0", inputs=images)
        )
    assert (done.rounds, done.units) == (2, 12)
    told = capfd.readouterr().err
    assert {name: told.count(name) for name in broken} == dict.fromkeys(broken, 1)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {line["file"] for line in lines} == {"0.png", "1.png", "2.png"}


def test_a_folder_without_any_usable_image_ends_the_device(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for at in range(2):
        (images / f"{at}.png").write_bytes(b"no image")
    with (
        served(tmp_path) as server,
        pytest.raises(InputError, match=r"\.png: expected an image file"),
    ):
        run_device(config(tmp_path, server_url=server.url, enrol_token="once-0", inputs=images))


# ---------------------------------------------------------------- the footprint

_FOOTPRINT = """
import json, sys, psutil
from edgepact import registry
from edgepact.market.device import run_device
job = registry.part("jobs", "classification")
codec = registry.part("codecs", job.codecs[0])
part = job.device_part(None, None, {})
image = part.pieces()[0]
for layers in range(part.model.amount_max + 1):  # every stage it could ever run
    part.prepare(layers)
    codec.pack(next(part.work(image, layers)), part.expects(layers, 0))
part._alone(part.source(image))
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
    ours = {name for name in footprint["modules"] if name.startswith("edgepact.")}
    assert not any(name.startswith("edgepact.training") for name in ours)
    assert footprint["rss"] < 150e6


def test_a_server_that_quotes_starts_light(tmp_path: Path) -> None:
    """Its mechanism may load what it likes; the shipped policy quotes with NumPy alone."""
    code = """
import sys
import edgepact.cli
from edgepact import registry
from edgepact.live.serving import asked
from edgepact.market import server
from edgepact.market.ledger import Ledger
from edgepact.market.serve_config import ServeOptions
part = registry.part("jobs", "classification").server_part(None, {})
part.warm()
mechanism = asked(ServeOptions(saving=0.4))[1](part.model)
assert mechanism.question(1).price_microcredits
Ledger("sqlite:///" + sys.argv[1]).close()
print(*sorted({"jax", "equinox", "scipy", "alembic", "onnx", "pyarrow"} & set(sys.modules)))
"""
    run = [sys.executable, "-c", code, str(tmp_path / "ledger.db")]
    told = subprocess.run(run, capture_output=True, text=True, check=True)
    assert told.stdout == "\n"
