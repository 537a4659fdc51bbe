"""Files with `mechanism = "contract"`: measured values, several costs, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.files.contract import read_contract
from edgepact.mechanisms.contract.lottery import WideContract
from edgepact.mechanisms.contract.quality import Measured, Saturating
from edgepact.mechanisms.contract.terms import Contract

POINTS = "rate,accuracy,note\n0.0,0.1,a\n0.1,0.6,b\n0.1,0.64,c\n0.5,0.8,d\n1.0,0.85,e\n"
TYPES = "[[type]]\ncost = 3.0\nprobability = 0.4\n[[type]]\ncost = 1.0\nprobability = 0.6\n"
WIDE = TYPES.replace("3.0", "[3.0, 0.5]").replace("1.0\n", "[1.0, 2.0]\n")


def read(
    folder: Path,
    *,
    value: str = "{ form = 'log1p', scale = 10.0 }",
    form: str = "'linear'",
    types: str = TYPES,
    points: str | None = POINTS,
) -> Contract | WideContract:
    if points is not None:
        (folder / "accuracy.csv").write_text(points)
    file = folder / "contract.toml"
    file.write_text(
        f"mechanism = 'contract'\nquality_max = 1.0\nvalue = {value}\n"
        f"cost = {{ form = {form} }}\n{types}"
    )
    return read_contract(file)


def test_values_are_fitted_to_measurements(tmp_path: Path) -> None:
    contract = read(tmp_path, value="{ file = 'accuracy.csv', scale = 100.0 }")
    assert isinstance(contract, Contract)
    assert isinstance(contract.value, Measured)
    assert contract.value.at(np.array([0.0, 0.1, 1.0])) == pytest.approx([10.0, 62.0, 85.0])
    file = "{ file = 'accuracy.csv', form = 'saturating', scale = 100.0 }"
    contract = read(tmp_path, value=file)
    assert isinstance(contract, Contract)
    assert isinstance(contract.value, Saturating)
    assert contract.value.at(np.array([0.0, 1.0])) == pytest.approx([10.0, 85.0], abs=3.0)


@pytest.mark.parametrize(
    ("points", "error"),
    [
        ("rate,loss\n0.1,2\n", 'accuracy: expected a column of this name, found "rate", "loss"'),
        ("", r"names of columns \(rate, accuracy\), found an empty file"),
        ("rate,accuracy\n", "rows: expected 1 to 10000 rows, found 0"),
        ("rate,accuracy\n0.1,good\n", r'row\[1\].accuracy: .* found "good"'),
        ("rate,accuracy\n0.1\n", "2 cells in each row, found a row of 1"),
        ("rate,accuracy\n0.1,nan\n", r"row\[1\].accuracy"),
        ("rate,accuracy\n-0.1,0.5\n", r"row\[1\].rate"),
        ("rate,accuracy\n0.1,0.5\n", "2 that differ, found 1"),
        ("rate,accuracy\n" + "0.1,0.5\n" * 10_001, "1 to 10000 rows, found 10001"),
        ("rate,accuracy\n" + "0" * 1_000_001, "at most 1000000 bytes"),
        (None, "a file that exists"),
    ],
)
def test_measurements_that_cannot_be_used_are_refused(
    tmp_path: Path, points: str | None, error: str
) -> None:
    with pytest.raises(InputError, match=error):
        read(tmp_path, value="{ file = 'accuracy.csv', scale = 1.0 }", points=points)


@pytest.mark.parametrize("form", ["'linear'", "['linear']"])
def test_a_list_of_one_cost_is_one_cost(tmp_path: Path, form: str) -> None:
    types = TYPES.replace("3.0", "[3.0]")
    contract = read(tmp_path, form=form, types=types)
    assert isinstance(contract, Contract)
    assert contract.psi.tolist() == [3.0, 1.0]
    with pytest.raises(InputError, match=r"type\[1\].cost.1: .* above 0, found 0"):
        read(tmp_path, form=form, types=TYPES.replace("3.0", "[0.0]"))
    with pytest.raises(InputError, match=r"type\[1\].cost: .* above 0, found \[1.0, 2.0\]"):
        read(tmp_path, form=form, types=TYPES.replace("3.0", "[1.0, 2.0]"))


def test_several_costs_are_wide_only_if_their_forms_differ(tmp_path: Path) -> None:
    contract = read(tmp_path, form="['linear', 'quadratic']", types=WIDE)
    assert isinstance(contract, WideContract)
    assert contract.psi.tolist() == [[3.0, 0.5], [1.0, 2.0]]
    assert contract.costs == ("linear", "quadratic")
    contract = read(tmp_path, form="['quadratic', 'quadratic']", types=WIDE)
    assert isinstance(contract, Contract)
    assert contract.psi.tolist() == [3.5, 3.0]
    assert contract.cost == "quadratic"


@pytest.mark.parametrize(
    ("form", "types", "error"),
    [
        ("[]", TYPES, "cost.form: expected 1 to 8 forms"),
        ("['linear'] ", WIDE, r"type\[1\].cost: expected a finite number"),
        ("['linear', 'cubic']", WIDE, 'one of linear, quadratic, found "cubic"'),
        ("['linear', 'quadratic']", TYPES, r"type\[1\].cost: expected a list of 2 numbers"),
        ("['linear', 'quadratic']", WIDE.replace("0.5]", "-1]"), r"type\[1\].cost.2"),
        ("['linear', 'quadratic']", WIDE.replace("[3.0, 0.5]", "[0, 0]"), "a cost above 0"),
        ("['linear', 'linear']", WIDE.replace("[3.0, 0.5]", "[0, 0]"), "a cost above 0"),
        (
            "['linear', 'quadratic']",
            "[[type]]\ncost = [1, 1]\nprobability = 0.04\n" * 25,
            "at most 24 types where costs have unlike forms, found 25",
        ),
    ],
)
def test_costs_that_cannot_be_used_are_refused(
    tmp_path: Path, form: str, types: str, error: str
) -> None:
    with pytest.raises(InputError, match=error):
        read(tmp_path, form=form, types=types)
