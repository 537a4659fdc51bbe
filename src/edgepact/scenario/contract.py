"""Files with `mechanism = "contract"`: TOML in, a checked contract out."""

from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.mechanisms.contract import PROBABILITY_SLACK, Contract
from edgepact.mechanisms.quality import Linear, Log1p, Saturating, Value
from edgepact.scenario.toml import Table, load, shown

TYPES_MAX = 20_000
"""Most types of a file; the audit weighs all pairs."""

DEVICES_MAX = 10**9
"""Most devices that a file counts."""


def read_contract(path: Path) -> Contract:
    """Reads a file with `mechanism = "contract"`.

    Raises:
        InputError: the file is missing, not TOML, or says something impossible.
    """
    document = load(path)
    table = Table(path, "", document)
    table.choice("mechanism", ("contract",))
    quality_min = table.number("quality_min", least=0.0) if "quality_min" in document else 0.0
    quality_max = table.number("quality_max", above=quality_min)
    value = _value(path, table.raw("value", "a table such as { form = 'log1p', scale = 10.0 }"))
    cost = Table(path, "cost", table.raw("cost", "a table such as { form = 'linear' }"))
    form = cost.choice("form", ("linear", "quadratic"))
    cost.close()
    budget = table.number("budget", least=0.0) if "budget" in document else None
    devices = table.whole("devices", least=1, most=DEVICES_MAX) if "devices" in document else 1
    fixed = 0.0
    if "participation_cost" in document:
        fixed = table.number("participation_cost", least=0.0)
    psi, probability, scale = _types(path, table.raw("type", "one or more [[type]] tables"))
    table.close()
    return Contract(
        psi=psi,
        probability=probability,
        value=value,
        value_scale=scale,
        cost="linear" if form == "linear" else "quadratic",
        quality_min=quality_min,
        quality_max=quality_max,
        devices=devices,
        budget=budget,
        participation_cost=fixed,
    )


def _value(path: Path, values: Any) -> Value:
    table = Table(path, "value", values)
    form = table.choice("form", ("linear", "log1p", "saturating"))
    scale = table.number("scale", above=0.0)
    value: Value = Linear(scale=scale) if form == "linear" else Log1p(scale=scale)
    if form == "saturating":
        rate = table.number("rate", above=0.0) if "rate" in values else 1.0
        value = Saturating(scale=scale, rate=rate)
    table.close()
    return value


def _types(path: Path, entries: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= TYPES_MAX:
        expected = f"1 to {TYPES_MAX} [[type]] tables"
        raise InputError(path, "type", expected, shown(entries))
    rows = []
    for at, entry in enumerate(entries, start=1):
        row = Table(path, f"type[{at}]", entry)
        psi = row.number("cost", above=0.0)
        probability = row.number("probability", above=0.0)
        scale = row.number("value_scale", above=0.0) if "value_scale" in entry else 1.0
        row.close()
        rows.append((psi, probability, scale))
    psi_k, probability_k, scale_k = np.array(rows).T
    total = float(probability_k.sum())
    if abs(total - 1.0) > PROBABILITY_SLACK:
        raise InputError(path, "type.probability", "probabilities that add up to 1", total)
    return psi_k, probability_k, scale_k
