"""What scenario files state where layers are bought: all of it arrives, and errors name fields."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.efficiency.partition import LayerCosts
from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.files.written import written_toml
from edgepact.framework import Pact
from edgepact.inference.models import embedded
from edgepact.market.opening import Served
from edgepact.pacts import partition_auction, partition_contract, partition_stackelberg
from edgepact.pacts.partition_server import Believed
from tests.pacts.bought import DEVICES, EXAMPLES, PRIOR, SERVER, read, stated

AUCTION, CONTRACT = partition_auction.PACT, partition_contract.PACT
BOTH: tuple[Pact, ...] = (AUCTION, CONTRACT)
TYPES = (
    "[[type]]\nalpha = 1.0\ncapacity = 4.0\nweight = 3.0\n[[type]]\nalpha = 2.0\ncapacity = 5.0\n"
)


@pytest.mark.parametrize("pact", BOTH, ids=lambda pact: pact.name)
def test_what_is_said_arrives(tmp_path: Path, pact: Pact) -> None:
    job = (
        "rounds = 3\nimages = 4\nseed = 7\ncodec = 'fp16'\naway_timeout_s = 5.0\n"
        "round_timeout_s = 9.0\naudit_probability = 0.5"
    )
    terms = read(tmp_path, pact, stated(pact.mechanism, job=job))
    assert isinstance(pact, Pact)
    assert (terms.rounds, terms.units, terms.seed, terms.codec) == (3, 4, 7, "fp16")
    assert (terms.away_timeout_s, terms.round_timeout_s, terms.audit_probability) == (5.0, 9.0, 0.5)
    assert (terms.devices, terms.solver) == (0, pact.solvers[0])
    assert terms.private.names == ["one", "two"]
    assert terms.private.fleet.alpha.tolist() == [1.5, 3.0]
    assert terms.server.saving == 1.0
    assert len(terms.believed_types().weight) == 40
    assert read(tmp_path, pact, stated(pact.mechanism), smoke=True).rounds_played == 2


@pytest.mark.parametrize("pact", BOTH, ids=lambda pact: pact.name)
def test_devices_may_stand_in_a_file(tmp_path: Path, pact: Pact) -> None:
    listed = read(tmp_path, pact, stated(pact.mechanism)).private
    (tmp_path / "fleet.csv").write_text("name,alpha,capacity\none,1.5,6\ntwo,3,8\n")
    named = stated(pact.mechanism, rest=PRIOR).replace("\n", "\ndevices = 'fleet.csv'\n", 1)
    terms = read(tmp_path, pact, named)
    assert terms.private.names == listed.names
    assert terms.devices == 0
    for column in ("alpha", "capacity", "A", "B"):
        assert np.array_equal(getattr(terms.private.fleet, column), getattr(listed.fleet, column))
    assert "fleet.csv" not in written_toml(terms.public)
    with pytest.raises(InputError, match=r"device: expected either devices = FILE or"):
        read(tmp_path, pact, named + DEVICES)
    (tmp_path / "fleet.csv").write_text("name,alpha,capacity\none,0,6\n")
    with pytest.raises(InputError, match=r"fleet.csv: device\[1\].alpha: expected .* above 0"):
        read(tmp_path, pact, named)
    with pytest.raises(InputError, match=r"devices: expected a file that exists"):
        read(tmp_path, pact, named.replace("fleet.csv", "none.csv"))


@pytest.mark.parametrize("pact", BOTH, ids=lambda pact: pact.name)
def test_the_models_own_figures_need_not_be_said(tmp_path: Path, pact: Pact) -> None:
    text = stated(pact.mechanism, server="revenue = 1.0\nbeta = 1.0\n")
    server, costs = read(tmp_path, pact, text).server, LayerCosts.of_model(embedded())
    assert (server.layers_max, server.A, server.B) == (costs.layers_max, costs.A, costs.B)


@pytest.mark.parametrize("pact", BOTH, ids=lambda pact: pact.name)
def test_the_public_part_says_nothing_of_devices(tmp_path: Path, pact: Pact) -> None:
    told = read(tmp_path, pact, stated(pact.mechanism, job="seed = 5")).public
    text = written_toml(told)
    for private in ("device", "one", "two", "1.5", "seed = 5"):
        assert private not in text
    (tmp_path / "public.toml").write_text(text)
    scenario = read_scenario(tmp_path / "public.toml")
    assert scenario.pact.name == pact.name
    assert scenario.terms.public == told
    assert isinstance(pact.decide(scenario.terms, None), Served)
    with pytest.raises(InputError, match=r"device: .* or devices = FILE, or a \[prior\]"):
        _ = read(tmp_path, pact, stated(pact.mechanism, rest="")).private


def test_devices_are_drawn_from_what_is_believed_and_are_none_of_its_samples() -> None:
    believed = Believed.sampled((1.0, 4.0), (3.0, 9.0), 50, seed=3)
    alpha, capacity = believed.drawn(20, seed=3)
    assert not set(alpha) & set(believed.alpha)
    assert ((alpha >= 1.0) & (alpha <= 4.0) & (capacity >= 3.0) & (capacity <= 9.0)).all()
    again, _ = believed.drawn(20, seed=3)
    assert np.array_equal(alpha, again)


def test_listed_types_are_drawn_by_their_weight(tmp_path: Path) -> None:
    terms = read(tmp_path, CONTRACT, stated("contract", job="devices = 64", rest=TYPES))
    assert terms.believed.weight.tolist() == [0.75, 0.25]
    fleet = terms.private.fleet
    assert set(zip(fleet.alpha, fleet.capacity, strict=True)) == {(1.0, 4.0), (2.0, 5.0)}
    assert np.mean(fleet.alpha == 1.0) > 0.5
    assert terms.private.names[8] == "camera-2"


@pytest.mark.parametrize("pact", BOTH, ids=lambda pact: pact.name)
@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"server": SERVER.replace("beta = 1.0", "beta = 0")}, "server.beta: expected .* above 0"),
        ({"server": SERVER.replace("A = 1.0", "A = -1.0")}, "server.A: expected .* above 0"),
        ({"server": SERVER + "price_max = 1.0"}, "server.price_max: expected one of "),
        ({"server": SERVER.replace("= 4", "= 0")}, "server.layers_max: expected a whole number"),
        ({"job": "devices = 3"}, "job.devices: expected nothing beside listed devices"),
        ({"job": "layers_max = 3"}, "job.layers_max: expected one of name"),
        ({"job": "codec = 'jpeg'"}, "job.codec: expected one of fp16, fp32, int8"),
        ({"job": "away_timeout_s = 0"}, "job.away_timeout_s: expected .* above 0"),
        ({"job": "audit_probability = 2"}, "job.audit_probability: expected a number from 0 to 1"),
        ({"solver": "name = 'annealing'"}, "solver.name: expected one of"),
        ({"rest": PRIOR.replace("1.0", "5.0", 1) + DEVICES}, "prior.alpha_max: expected .*alpha_m"),
        ({"rest": PRIOR.replace("1.0", "0.0", 1) + DEVICES}, "prior.alpha_min: expected .* above"),
        ({"rest": PRIOR + TYPES + DEVICES}, r"type: expected either \[prior\] or \[\[type\]\]"),
        ({"rest": PRIOR.replace("40", "0")}, "prior.samples: expected a whole number from 1"),
        ({"rest": PRIOR + DEVICES.replace("two", "one")}, "device.name: expected names that diff"),
        ({"rest": PRIOR + DEVICES + "A = 1.0"}, r"device\[2\].A: expected one of name, alpha, cap"),
        ({"rest": PRIOR + "[[device]]\nalpha = 0\ncapacity = 1"}, r"device\[1\].alpha: expected"),
    ],
)
def test_errors_name_the_file_and_its_fields(
    tmp_path: Path, pact: Pact, parts: dict[str, str], told: str
) -> None:
    with pytest.raises(InputError, match=rf"own\.toml: {told}"):
        read(tmp_path, pact, stated(pact.mechanism, **parts))


PLAIN = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=8),
)
TABLES = st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), PLAIN, max_size=3)


@given(
    plain=TABLES,
    tables=st.dictionaries(st.from_regex(r"[A-Z]{1,4}", fullmatch=True), TABLES, max_size=3),
    listed=st.lists(TABLES, min_size=1, max_size=3),
)
def test_a_document_is_read_as_it_was_written(
    plain: dict[str, object], tables: dict[str, object], listed: list[object]
) -> None:
    document = {**plain, **tables, "list-of-tables": listed}
    assert tomllib.loads(written_toml(document)) == document


def test_a_market_that_lists_its_devices_can_be_served_too() -> None:
    scenario = read_scenario(EXAMPLES / "scenario-partition.toml")
    decision = partition_stackelberg.PACT.decide(scenario.terms, None)
    assert isinstance(decision, Served)
