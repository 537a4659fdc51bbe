"""How far honest work may lie from a server's own, cut by cut: what a calibration has found.

`tolerances.json` lies in a model's folder. It names the digest of the model that it was measured
on, and is passed over for any other. Quick to read; what measures is
`edgepact.inference.calibration`.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TOLERANCES_JSON = "tolerances.json"

FORMAT = 1
"""Of the file and of the evidence it was measured with; another one is passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """An audit's tolerance at one cut, and what lies below and above it.

    All deviations are those of `compact_evidence.deviation`.

    Attributes:
        amount: layers of the device.
        codec: that packs the activation.
        tolerance: largest deviation that passes.
        honest: largest deviation of honest work as other processors would do it.
        cheat: least deviation of the cheats that were tried.
        cheat_name: the cheat it is.
        audits: of honest work that were tried.
        false_alarms: how many of them failed.
        power: share of the audits of the least noticeable cheat that failed it.
    """

    amount: int
    codec: str
    tolerance: float
    honest: float
    cheat: float
    cheat_name: str
    audits: int
    false_alarms: int
    power: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """Of one model.

    Attributes:
        model_digest: of the model that they were measured on.
        images: how many images they were measured on.
        seed: of keys, perturbations and drawn images.
        margins: for each cut and codec.
        repeat_distance: sketches nearer than this are of one picture; 0 where the model does not
            tell pictures apart well enough to say.
        pairs: of different images whose sketches were compared.
        pairs_near: how many of them are nearer than `repeat_distance`.
    """

    model_digest: str
    images: int
    seed: int
    margins: tuple[Margin, ...]
    repeat_distance: float
    pairs: int
    pairs_near: int

    def of(self, amount: int, codec: str) -> Margin | None:
        """The margin of a cut; None if it was not measured."""
        for margin in self.margins:
            if (margin.amount, margin.codec) == (amount, codec):
                return margin
        return None

    @property
    def power(self) -> float:
        """Least power of an audit at any cut."""
        return min((margin.power for margin in self.margins), default=0.0)

    def write(self, model_dir: Path) -> None:
        """Put them into a model's folder, at once and whole.

        Raises:
            OSError: the folder cannot be written to.
        """
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)
        place, name = tempfile.mkstemp(dir=model_dir, prefix=".", suffix=".json")
        try:
            with os.fdopen(place, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            Path(name).chmod(0o644)
            Path(name).replace(model_dir / TOLERANCES_JSON)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def read_tolerances(model_dir: Path, model_digest: str) -> Tolerances | None:
    """What lies in a model's folder; None if nothing does that is usable for this very model."""
    try:
        table = json.loads((model_dir / TOLERANCES_JSON).read_text(encoding="utf-8"))
        if table.pop("format") != FORMAT or table["model_digest"] != model_digest:
            return None
        margins = tuple(_margin(row) for row in table.pop("margins"))
        found = Tolerances(margins=margins, **table)
        distance = float(found.repeat_distance)
    except (
        OSError,
        ValueError,
        OverflowError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ):
        return None
    return found if math.isfinite(distance) and distance >= 0 else None


def _margin(row: Mapping[str, Any]) -> Margin:
    margin = Margin(**row)
    if not (math.isfinite(margin.tolerance) and margin.tolerance > 0):
        raise ValueError
    if not 0 <= margin.power <= 1:  # the rate of audits follows from it
        raise ValueError
    return margin
