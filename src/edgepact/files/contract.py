"""Files with `mechanism = "contract"`: TOML in, a checked contract out.

A type with one cost makes a `Contract`. Where types state several, `cost = [a, b]`, those of one
form add up, and only unlike forms make a `WideContract`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.fields import Table, check_column, file_exists, load, shown, terms_in
from edgepact.files.columns import read_columns
from edgepact.mechanisms.contract.lottery import TYPES_MAX as WIDE_TYPES_MAX
from edgepact.mechanisms.contract.lottery import WideContract
from edgepact.mechanisms.contract.quality import (
    COST_FORMS,
    POINTS_MAX,
    CostForm,
    Linear,
    Log1p,
    Measured,
    Saturating,
    Value,
    fit_concave,
    fit_saturating,
)
from edgepact.mechanisms.contract.terms import DEVICES_MAX, PROBABILITY_SLACK, Contract

TYPES_MAX = 20_000
"""Most types of a file; the audit weighs all pairs."""

PARTS_MAX = 8
"""Most costs of a type."""

MEASUREMENTS = ("rate", "accuracy")
"""Columns of a file of measurements."""

MEASUREMENTS_BYTES_MAX = 1_000_000
"""Largest file of measurements."""


def read_contract(path: Path) -> Contract | WideContract:
    """Reads a file with `mechanism = "contract"`.

    Raises:
        InputError: the file is missing, not TOML, or says something impossible.
    """
    return contract_of(path, load(path))


def contract_of(path: Path, document: Mapping[str, Any]) -> Contract | WideContract:
    """What a document with `mechanism = "contract"` states.

    Args:
        path: of its file, for errors and for the files that it names.
        document: all of it; the tables of a scenario are passed over.

    Raises:
        InputError: it says something impossible.
    """
    document = terms_in(document)
    table = Table(path, "", document)
    table.expect_known(
        *("mechanism", "quality_min", "quality_max", "value", "cost", "budget", "devices"),
        *("participation_cost", "type"),
    )
    table.choice("mechanism", ("contract",))
    quality_min, quality_max = table.interval(
        "quality_min", "quality_max", low_default=0.0, least=0.0, strict=True
    )
    value = _value(path, table.raw("value", "a table such as { form = 'log1p', scale = 10.0 }"))
    forms = _forms(path, table.raw("cost", "a table such as { form = 'linear' }"))
    budget = table.number("budget", least=0.0) if "budget" in table else None
    devices = table.whole("devices", least=1, most=DEVICES_MAX) if "devices" in table else 1
    fixed = 0.0
    if "participation_cost" in table:
        fixed = table.number("participation_cost", least=0.0)
    types = table.raw("type", "one or more [[type]] tables")
    psi, probability, scale = _types(path, types, len(forms))
    table.close()
    terms: dict[str, Any] = {
        "probability": probability,
        "value": value,
        "value_scale": scale,
        "quality_min": quality_min,
        "quality_max": quality_max,
        "devices": devices,
        "budget": budget,
        "participation_cost": fixed,
    }
    if len(set(forms)) == 1:
        total = psi.sum(axis=1)
        for at in np.flatnonzero(total <= 0.0)[:1]:
            raise InputError(path, f"type[{at + 1}].cost", "a cost above 0", "none")
        return Contract(psi=total, cost=forms[0], **terms)
    if len(psi) > WIDE_TYPES_MAX:
        expected = f"at most {WIDE_TYPES_MAX} types where costs have unlike forms"
        raise InputError(path, "type", expected, len(psi))
    for at in np.flatnonzero(~(psi > 0.0).any(axis=1))[:1]:
        raise InputError(path, f"type[{at + 1}].cost", "a cost above 0", "none")
    return WideContract(psi=psi, costs=forms, **terms)


def _forms(path: Path, values: Any) -> tuple[CostForm, ...]:
    """Forms of the costs of a type, one or a list; a list of one is one."""
    table = Table(path, "cost", values)
    stated = table.raw("form", f"one of {', '.join(COST_FORMS)}, or a list of them")
    table.close()
    words = stated if isinstance(stated, list) else [stated]
    if not 1 <= len(words) <= PARTS_MAX:
        raise InputError(path, "cost.form", f"1 to {PARTS_MAX} forms", f"{len(words)}")
    forms: list[CostForm] = []
    for word in words:
        found = [form for form in COST_FORMS if form == word]
        if not found:
            raise InputError(path, "cost.form", f"one of {', '.join(COST_FORMS)}", shown(word))
        forms += found
    return tuple(forms)


def _value(path: Path, values: Any) -> Value:
    table = Table(path, "value", values)
    table.expect_known("file", "form", "scale", "rate")
    if isinstance(values, dict) and "file" in values:
        return _measured_value(path, table)
    form = table.choice("form", ("linear", "log1p", "saturating"))
    scale = table.number("scale", above=0.0)
    value: Value = Linear(scale=scale) if form == "linear" else Log1p(scale=scale)
    if form == "saturating":
        rate = table.number("rate", above=0.0) if "rate" in table else 1.0
        value = Saturating(scale=scale, rate=rate)
    table.close()
    return value


def _measured_value(path: Path, table: Table) -> Value:
    """Fitted to measurements; `scale` credits for an accuracy of 1."""
    file = path.parent / table.text("file", "")
    form = table.choice("form", ("concave", "saturating"), "concave")
    scale = table.number("scale", above=0.0)
    table.close()
    if not file_exists(file):
        raise InputError(path, "value.file", "a file that exists", f"no file {shown(str(file))}")
    rate, accuracy = read_measurements(file)
    try:
        if form == "saturating":
            fit = fit_saturating(rate, accuracy)
            return Saturating(scale=scale * fit.scale, rate=fit.rate, base=scale * fit.base)
        line = fit_concave(rate, accuracy)
    except InputError as error:
        raise InputError(file, error.field, error.expected, error.found) from None
    return Measured(quality=line.quality, value=scale * line.value)


def read_measurements(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a table of measured accuracies with the columns `MEASUREMENTS`; others are ignored.

    Raises:
        InputError: the file is no such table, or a cell is not a finite number, or negative.
    """
    if path.stat().st_size > MEASUREMENTS_BYTES_MAX:
        raise InputError(path, "", f"at most {MEASUREMENTS_BYTES_MAX} bytes", path.stat().st_size)
    columns, _ = read_columns(path, MEASUREMENTS, row="row", rows_max=POINTS_MAX, tells=False)
    for name in MEASUREMENTS:
        check_column(path, "row", name, columns[name], strict=False)
    return columns["rate"], columns["accuracy"]


def _types(path: Path, entries: Any, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Costs `(types, parts)`, probabilities and scales of values."""
    if not isinstance(entries, list) or not 1 <= len(entries) <= TYPES_MAX:
        expected = f"1 to {TYPES_MAX} [[type]] tables"
        raise InputError(path, "type", expected, shown(entries))
    costs, rows = [], []
    for at, entry in enumerate(entries, start=1):
        row = Table(path, f"type[{at}]", entry)
        costs.append(_costs(path, row, f"type[{at}].cost", parts))
        probability = row.number("probability", above=0.0)
        scale = row.number("value_scale", above=0.0) if "value_scale" in row else 1.0
        row.close()
        rows.append((probability, scale))
    probability_k, scale_k = np.array(rows).T
    total = float(probability_k.sum())
    if abs(total - 1.0) > PROBABILITY_SLACK:
        raise InputError(path, "type.probability", "probabilities that add up to 1", total)
    return np.array(costs), probability_k, scale_k


def _costs(path: Path, row: Table, field: str, parts: int) -> list[float]:
    """A type's costs, as many as there are forms; a single one above 0, else none below."""
    if parts == 1 and not row.is_list_of_one("cost"):
        return [row.number("cost", above=0.0)]
    stated = row.raw("cost", f"a list of {parts} numbers")
    if not isinstance(stated, list) or len(stated) != parts:
        expected = f"a list of {parts} numbers, one for each form of cost"
        raise InputError(path, field, expected, shown(stated))
    cells = Table(path, field, {str(at): each for at, each in enumerate(stated, start=1)})
    above, least = (0.0, None) if parts == 1 else (None, 0.0)
    return [cells.number(str(at), above=above, least=least) for at in range(1, parts + 1)]
