"""The charts of reports: prices, who did how much, images, and what a cheat would earn."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from edgepact.live.deterrence import Deterrence
from edgepact.live.report_charts import Bars, Chart, Line, Shades
from edgepact.mechanisms.stackelberg.optimum import breakpoints
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.pacts.partition_findings import DeviceFindings
from edgepact.pacts.partition_priced import Findings, PlayedRound

CURVE_POINTS = 401
"""Prices at which the curve of utility is drawn, besides those where it jumps."""


@runtime_checkable
class Played(Protocol):
    """A round in which devices answered with layers."""

    @property
    def number(self) -> int:
        """From 1."""
        ...

    @property
    def layers(self) -> dict[str, int]:
        """By device; devices that did not answer are missing."""
        ...


def utility(findings: Findings, *, near: bool = False) -> Chart:
    """The server's utility at every price, the prices posted, and the exact optimum.

    Args:
        findings: of the run.
        near: only around the prices that were posted.
    """
    game, best = findings.market.game, findings.best
    left, right = float(game.price_min), float(game.price_max)
    posted = [each.price for each in findings.rounds]
    if near:
        reach = 0.03 * (right - left)
        around = (*posted, float(best.price))
        left, right = max(left, min(around) - reach), min(right, max(around) + reach)
    points = np.asarray(breakpoints(game))
    points = points[(points >= left) & (points <= right)]
    # The curve jumps at each breakpoint, so it is evaluated on both sides.
    own = [np.linspace(left, right, CURVE_POINTS), points, points - 1e-9 * right]
    prices = np.unique(np.clip(np.concatenate([*own, posted, [float(best.price)]]), left, right))
    curve = np.asarray(outcome(game, prices).server_utility)
    played = {each.price: each.utility for each in findings.rounds}
    quoted = [played.get(price) for price in prices.tolist()]
    exact = [
        float(best.server_utility) if price == float(best.price) else None
        for price in prices.tolist()
    ]
    return Chart(
        title="Around the quotes" if near else "Every price",
        unit="server's utility, credits for an image of each device",
        across="price, credits per layer",
        x=prices.tolist(),
        lines=[
            Line(name="at this price", ink="quiet", values=curve.tolist()),
            Line(name="quoted", ink="device", values=quoted, dots=True, joined=False),
            Line(name="exact optimum", ink="server", values=exact, dots=True, joined=False),
        ],
        numbers=[
            at
            for at, (one, other) in enumerate(zip(quoted, exact, strict=True))
            if one is not None or other is not None
        ],
    )


def prices(rounds: Sequence[PlayedRound], best: float, blind: float | None, step: str) -> Chart:
    """Posted prices beside the exact optimum, and the best price that never looks, if known."""
    return _over_rounds(
        rounds,
        "Price",
        f"credits per {step}",
        Line(name="quoted", ink="device", values=[each.price for each in rounds], dots=True),
        _level("exact optimum", "server", best, rounds, (6, 4)),
        *(() if blind is None else (_level("never looks", "quiet", blind, rounds, (2, 3)),)),
    )


def shares(rounds: Sequence[PlayedRound], blind: float | None) -> Chart:
    """How much of what perfect knowledge brings over a random price each quote reached."""
    reached = [100.0 * each.share for each in rounds]
    return _over_rounds(
        rounds,
        "What the price brought",
        "% of what perfect knowledge brings over a random price",
        Line(name="reached", ink="device", values=reached, dots=True),
        _level("exact optimum", "server", 100.0, rounds, (6, 4)),
        *(() if blind is None else (_level("never looks", "quiet", 100 * blind, rounds, (2, 3)),)),
    )


def profits(numbers: Sequence[int], kept: Sequence[float], best: float, unit: str) -> Chart:
    """What a menu or an auction left the server in each round, beside the best."""
    return Chart(
        title="What the server kept",
        unit=f"credits for one {unit} of each device",
        across="round",
        x=[float(each) for each in numbers],
        lines=[
            Line(name="kept", ink="device", values=list(kept), dots=True),
            Line(name="exact optimum", ink="server", values=[best] * len(kept), dash=(6, 4)),
        ],
    )


def who(
    rounds: Sequence[Played], names: Sequence[str], best: Sequence[float] | None, step: str
) -> Shades:
    """How much each device did in each round, with the exact equilibrium beside it, if known."""
    columns = [f"{each.number}" for each in rounds]
    rows: list[tuple[str, list[float | None]]] = [
        (name, [_float(each.layers.get(name)) for each in rounds]) for name in names
    ]
    if best is not None:
        columns.append("exact")
        for (_, values), exact in zip(rows, best, strict=True):
            values.append(float(exact))
    most = max((value or 0.0 for _, values in rows for value in values), default=0.0)
    return Shades(
        title="Who ran what", unit=f"{step}s in a round", columns=columns, rows=rows, most=most
    )


def computing(devices: Sequence[DeviceFindings]) -> Bars:
    """Who did the computing, against a server that does all of it."""
    return Bars(
        title="Computing",
        unit="GMAC in the whole run",
        parts=(("by the device", "device"), ("left to the server", "server")),
        rows=[(each.name, (each.device_gmac, each.server_gmac)) for each in devices],
    )


def bytes_sent(devices: Sequence[DeviceFindings]) -> Bars:
    """Bytes on the link against the same image as a JPEG."""
    return Bars(
        title="Bytes",
        unit="bytes an image, mean",
        parts=(("sent", "server"), ("the image as JPEG", "link")),
        rows=[(each.name, (each.bytes_sent, each.jpeg_bytes)) for each in devices],
        stacked=False,
    )


def pay(paid: Sequence[tuple[str, float]], worth: Sequence[float] | None, step: str) -> Bars:
    """What each device was paid, against what the same layers would have cost the server."""
    parts = [("paid", "device")]
    rows = [(name, [credits]) for name, credits in paid]
    if worth is not None:
        parts.append((f"what the same {step}s cost the server", "link"))
        rows = [(name, [*own, saved]) for (name, own), saved in zip(rows, worth, strict=True)]
    return Bars(title="Pay", unit="credits in the whole run", parts=parts, rows=rows, stacked=False)


def cheating(found: Sequence[Deterrence]) -> Chart:
    """What the best cheat would have earned at every rate of audits, for each number of layers
    that was taken, four of them at most; a dot is the derived rate."""
    shown = found[:: max(1, -(-len(found) // 4))][:4]
    looks = (("device", ()), ("server", (6, 4)), ("link", (2, 3)), ("ledger", (8, 3, 2, 3)))
    rates = sorted({*np.geomspace(0.02, 1.0, 61).tolist(), *(each.rate for each in shown)})
    lines = [Line(name="honest work", ink="quiet", values=[1.0] * len(rates))]
    derived = {each.rate: min(each.best(each.rate), 4.0) for each in shown}
    for each, (ink, dash) in zip(shown, looks, strict=False):
        best = [min(each.best(rate), 4.0) for rate in rates]
        lines.append(Line(name=f"{each.layers} layers", ink=ink, values=best, dash=dash))
    dots = [derived.get(rate) for rate in rates]
    lines.append(Line(name="derived rates", ink="ink", values=dots, dots=True, joined=False))
    return Chart(
        title="Profit of the best cheat",
        unit="as a share of honest profit, drawn up to 4",
        across="share of a device's images that is audited",
        x=rates,
        lines=lines,
        log=True,
    )


# ---------------------------------------------------------------- private


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def _over_rounds(rounds: Sequence[PlayedRound], title: str, unit: str, *lines: Line) -> Chart:
    numbers = [float(each.number) for each in rounds]
    return Chart(title=title, unit=unit, across="round", x=numbers, lines=lines)


def _level(
    name: str, ink: str, value: float, rounds: Sequence[PlayedRound], dash: tuple[int, ...]
) -> Line:
    return Line(name=name, ink=ink, values=[value] * len(rounds), dash=dash)
