"""Settings beside results: numbers stay numbers, however they were held."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.provenance import VALUES_MOST, provenance, write_metrics


@dataclass(frozen=True)
class Held:
    value: Any


LONG = np.arange(2.0 * VALUES_MOST).reshape(2, -1)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.array([0.1, 2.0]), [0.1, 2.0]),
        (jnp.arange(3), [0, 1, 2]),
        (np.float64(0.5), 0.5),
        (LONG, {"shape": [2, VALUES_MOST], "least": 0.0, "most": 2.0 * VALUES_MOST - 1.0}),
        (np.array([np.inf, 1.0]), ["Infinity", 1.0]),
        (Path("out"), "out"),
        ((1, Held(2)), [1, {"value": 2}]),
    ],
)
def test_settings_are_told_as_values(value: Any, told: Any, tmp_path: Path) -> None:
    assert provenance(Held(value))["config"] == {"value": told}
    write_metrics(tmp_path, Held(value), {})
    facts = json.loads((tmp_path / "metrics.json").read_text())
    assert facts["provenance"]["config"] == {"value": told}
