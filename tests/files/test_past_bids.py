"""Files with past bids: what they may say, and errors that name what they may not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepact
from edgepact.errors import InputError
from edgepact.fields import load
from edgepact.files.past_bids import past_bids_of
from tests.test_cli import edgepact as command

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "past-bids.toml"


def document(**changed: Any) -> dict[str, Any]:
    bidders = [
        {"name": "a", "past": [1.0, 2.0, 1.5]},
        {"name": "b", "past": [0.5, 2.5]},
        {"name": "c", "past": []},
    ]
    return {"mechanism": "auction", "value_max": 4.0, "bidder": bidders} | changed


def test_the_example_is_read_and_quoted() -> None:
    stated = past_bids_of(EXAMPLE, load(EXAMPLE))
    assert stated.public.names == ("studio", "school", "shop", "club")
    assert [len(each) for each in stated.seen.past] == [60] * 4
    assert (stated.public.units, stated.public.returning) == (2, True)
    printed = command("quote", EXAMPLE, "--json", "--seed", "3")
    assert printed.status == 0
    told = json.loads(printed.out)
    assert told == json.loads(json.dumps(edgepact.quote(EXAMPLE, seed=3).to_dict()))
    assert len(told["reserves"]) == len(told["payments"]) == 4
    assert told["revenue"] == pytest.approx(sum(told["payments"]))
    assert "reserve" in command("quote", EXAMPLE).out


def test_bidders_may_stand_in_the_file_and_one_may_never_have_bid() -> None:
    stated = past_bids_of(Path("sale.toml"), document(returning=False))
    assert [len(each) for each in stated.seen.past] == [3, 2, 0]
    assert not stated.public.returning
    assert stated.public.value_max == 4.0
    endless = {key: value for key, value in document().items() if key != "value_max"}
    assert np.isinf(past_bids_of(Path("sale.toml"), endless).public.value_max)


@pytest.mark.parametrize(
    ("bidder", "field", "expected", "found"),
    [
        ([{"past": [1.0, -0.5, 1, 1]}, {"past": [1.0]}], "bidder[1].past.2", "at least 0", "-0.5"),
        ([{"past": [1.0, 4.5, 1, 1]}, {"past": [1.0]}], "bidder[1].past.2", "at most 4", "4.5"),
        ([{"past": [float("nan")] * 4}, {"past": []}], "bidder[1].past.1", "finite", "nan"),
        ([{"past": []}, {"past": []}], "bidder", "at least 4 past bids", "0"),
        ([{"past": 3.0}], "bidder[1].past", "a list", "3"),
        ([], "bidder", "[[bidder]] tables", "0"),
        ([{"past": [1.0] * 9}], "bidders", "2 to 64", "1"),
        (
            [{"name": "a", "past": [1.0] * 4}, {"name": "a", "past": []}],
            "bidder.name",
            "",
            '"a" more',
        ),
    ],
)
def test_impossible_evidence_is_named(bidder: Any, field: str, expected: str, found: str) -> None:
    with pytest.raises(InputError) as told:
        past_bids_of(Path("sale.toml"), document(bidder=bidder))
    assert told.value.field == field
    assert expected in str(told.value.expected)
    assert found in str(told.value.found)


@pytest.mark.parametrize(
    ("rows", "field", "expected", "found"),
    [
        ("name,bid\na,1.0\nb,-1.0\n", "bid[2].bid", "at least 0", "-1"),
        ("name,bid\na,1.0\nb,nan\n", "bid[2].bid", "finite", "nan"),
        ("name,bid\na,1.0\nb,5.0\n", "bid[2].bid", "from 0 to 4", "5"),
        ("bid\n1.0\n2.0\n", "name", "whose bid", "none"),
        ("name,bid\n", "rows", "1 to", "0"),
    ],
)
def test_impossible_rows_are_named(
    tmp_path: Path, rows: str, field: str, expected: str, found: str
) -> None:
    (tmp_path / "past.csv").write_text(rows)
    stated = {"mechanism": "auction", "value_max": 4.0, "past": "past.csv"}
    with pytest.raises(InputError) as told:
        past_bids_of(tmp_path / "sale.toml", stated)
    assert told.value.field == field
    assert expected in str(told.value.expected)
    assert found in str(told.value.found)


def test_two_sources_and_none_are_refused() -> None:
    with pytest.raises(InputError, match="either past = FILE or"):
        past_bids_of(Path("sale.toml"), document(past="past.csv"))
    with pytest.raises(InputError, match="past"):
        past_bids_of(Path("sale.toml"), {"mechanism": "auction"})
    with pytest.raises(InputError, match="prior"):
        past_bids_of(Path("sale.toml"), document(prior={"form": "uniform"}))
    with pytest.raises(InputError, match="rounds"):
        edgepact.quote(EXAMPLE, rounds=3)
