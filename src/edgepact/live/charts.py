"""The pictures of the report, one function each."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from edgepact.live.deterrence import deterrences
from edgepact.market.serve_config import MARGIN
from edgepact.mechanisms.stackelberg.optimum import breakpoints
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.pacts.partition_priced import Findings
from edgepact.palette import AMBER, DEEP_GREEN, GREY, INK, PURPLE

DEVICE, SERVER, LINK, QUIET = DEEP_GREEN, PURPLE, AMBER, GREY
DEPTH = LinearSegmentedColormap.from_list("depth", ["#f2f7f5", DEEP_GREEN])


def utility_curve(findings: Findings) -> Figure:
    """The server's utility at every price, its breakpoints, and the prices posted."""
    figure = Figure(figsize=(8.6, 4.0), layout="constrained")
    whole, close = figure.subplots(1, 2, width_ratios=(3, 2))
    game = findings.market.game
    low, high = float(game.price_min), float(game.price_max)
    posted = [each.price for each in findings.rounds]
    best = float(findings.best.price)
    reach = 0.03 * (high - low)
    near = (max(low, min(*posted, best) - reach), min(high, max(*posted, best) + reach))
    for axes, (left, right) in ((whole, (low, high)), (close, near)):
        _draw_utility(axes, findings, left, right)
        _clean(axes)
    whole.set_ylabel("server's utility, credits")
    whole.set_title("every price")
    close.set_title("around the quotes")
    if len(findings.rounds) > 1:
        figure.colorbar(close.collections[0], ax=close, label="round", pad=0.02)
    figure.supxlabel("price, credits per layer  (ticks: where a device adds a layer)", fontsize=10)
    return figure


def _draw_utility(axes: Axes, findings: Findings, left: float, right: float) -> None:
    game, best = findings.market.game, findings.best
    points = breakpoints(game)
    points = points[(points >= left) & (points <= right)]
    # The curve jumps at each breakpoint, so it is evaluated on both sides.
    prices = np.concatenate([np.linspace(left, right, 1001), points, points - 1e-9 * right])
    prices = np.unique(np.clip(prices, left, right))
    utility = outcome(game, prices).server_utility
    axes.plot(prices, utility, color=INK, linewidth=1.1, zorder=2)
    floor = float(utility.min()) - 0.06 * float(np.ptp(utility))
    axes.plot(points, np.full_like(points, floor), "|", color=QUIET, markersize=9, zorder=1)
    axes.scatter(
        [each.price for each in findings.rounds],
        [each.utility for each in findings.rounds],
        c=[each.number for each in findings.rounds],
        cmap="viridis",
        s=46,
        edgecolor="white",
        linewidth=0.8,
        zorder=4,
    )
    peak = (float(best.price), float(best.server_utility))
    axes.plot(*peak, "*", color=SERVER, markersize=15, zorder=3)
    axes.annotate(
        "exact optimum", peak, xytext=(0, 10), textcoords="offset points", ha="center", color=SERVER
    )
    axes.set_ylim(floor, peak[1] + 0.12 * (peak[1] - floor))


def price_trajectory(findings: Findings) -> Figure:
    """Posted prices against the exact optimum, and the share of its utility reached."""
    figure = Figure(figsize=(8.6, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    numbers = [each.number for each in findings.rounds]
    posted = [each.price for each in findings.rounds]
    above.plot(numbers, posted, "o-", color=DEVICE, label="quoted")
    best = float(findings.best.price)
    above.axhline(best, color=SERVER, linestyle=":", label="exact optimum, all costs known")
    blind = float(findings.blind.price)
    above.axhline(blind, color=QUIET, linestyle="--", label="best price that never looks")
    _legend_above(above)
    # At least a quarter of the optimum to each side, or small changes look like large ones.
    furthest = max(0.25 * best, *(1.3 * abs(p - best) for p in (*posted, blind)))
    above.set_ylim(best - furthest, best + furthest)
    above.set_ylabel("price, credits per layer")
    shares = [100.0 * each.share for each in findings.rounds]
    below.plot(numbers, shares, "o-", color=INK, markersize=4)
    below.axhline(100.0, color=SERVER, linestyle=":")
    below.axhline(100.0 * findings.blind_share, color=QUIET, linestyle="--")
    below.set_ylim(min(70.0, 100.0 * findings.blind_share, *shares) - 3.0, 104.0)
    below.set_ylabel("share of\nthe range, %")
    below.set_xlabel("round")
    below.xaxis.get_major_locator().set_params(integer=True)
    _clean(above)
    _clean(below)
    return figure


def layers_by_device(findings: Findings) -> Figure:
    """Layers of each device in each round, with the exact equilibrium beside them."""
    names, rounds = findings.market.names, findings.rounds
    layers_max = findings.market.game.layers_max
    table = np.full((len(names), len(rounds) + 1), np.nan)
    for column, each in enumerate(rounds):
        for row, name in enumerate(names):
            table[row, column] = each.layers.get(name, np.nan)
    table[:, -1] = findings.best.layers
    height = 1.3 + 0.42 * len(names)
    figure, axes = _figure(8.6, height)
    axes.imshow(table, cmap=DEPTH, vmin=0, vmax=layers_max, aspect="auto")
    for row, column in np.ndindex(table.shape):
        value = table[row, column]
        shown = "–" if np.isnan(value) else f"{value:.0f}"
        dark = not np.isnan(value) and value > layers_max * 0.55
        axes.text(column, row, shown, ha="center", va="center", color="white" if dark else INK)
    axes.axvline(len(rounds) - 0.5, color="white", linewidth=5)
    axes.set_yticks(range(len(names)), names)
    labels = [str(each.number) for each in rounds]
    axes.set_xticks(range(len(rounds) + 1), [*labels, "exact"])
    axes.set_xlabel("round")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def latency(findings: Findings) -> Figure:
    """Median time of an image: on the device, on the link, in the server."""
    figure, axes = _figure(8.6, 1.5 + 0.42 * len(findings.devices))
    names = [device.name for device in findings.devices]
    start = np.zeros(len(names))
    for label, colour, seconds in (
        ("device: layers and codec", DEVICE, [d.device_s for d in findings.devices]),
        ("link: loopback and HTTP", LINK, [d.link_s for d in findings.devices]),
        ("server: layers", SERVER, [d.compute_s for d in findings.devices]),
        ("server: queue and ledger", QUIET, [d.wait_s for d in findings.devices]),
    ):
        milliseconds = 1e3 * np.array(seconds)
        axes.barh(names, milliseconds, left=start, color=colour, label=label, height=0.62)
        start += milliseconds
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds for one image (median)")
    _legend_above(axes, columns=2)  # four of these labels are wider than the figure
    return figure


def bytes_sent(findings: Findings) -> Figure:
    """Bytes on the link against the same image as a JPEG."""
    figure, axes = _figure(8.6, 1.4 + 0.5 * len(findings.devices))
    places = np.arange(len(findings.devices))
    sent = [device.bytes_sent for device in findings.devices]
    jpeg = [device.jpeg_bytes for device in findings.devices]
    drawn = axes.barh(places - 0.19, sent, 0.36, color=SERVER, label="sent")
    axes.bar_label(drawn, fmt="%.0f", padding=3)
    drawn = axes.barh(places + 0.19, jpeg, 0.36, color=QUIET, label="the image as JPEG")
    axes.bar_label(drawn, fmt="%.0f", padding=3)
    axes.set_yticks(places, [device.name for device in findings.devices])
    axes.invert_yaxis()
    axes.set_xlabel("bytes an image (mean)")
    _legend_above(axes)
    return figure


def computing(findings: Findings) -> Figure:
    """Who did the computing, against a server that does all of it."""
    figure, axes = _figure(8.6, 1.3 + 0.42 * len(findings.devices))
    names = [device.name for device in findings.devices]
    own = np.array([device.device_gmac for device in findings.devices])
    left = np.array([device.server_gmac for device in findings.devices])
    axes.barh(names, own, color=DEVICE, label="by the device", height=0.62)
    axes.barh(names, left, left=own, color=SERVER, label="left to the server", height=0.62)
    axes.invert_yaxis()
    axes.set_xlabel("GMAC in the whole run")
    _legend_above(axes)
    return figure


def payments(findings: Findings) -> Figure:
    """What each device was paid, against what its layers would have cost the server."""
    figure, axes = _figure(8.6, 1.4 + 0.5 * len(findings.devices))
    places = np.arange(len(findings.devices))
    saving = dict(zip(findings.market.names, findings.market.game.saving, strict=True))
    worth = [
        sum(float(saving[name]) * r.layers for owner, r in findings.images if owner == name)
        for name in findings.market.names
    ]
    paid = [device.paid_credits for device in findings.devices]
    drawn = axes.barh(places - 0.19, paid, 0.36, color=DEVICE, label="paid (from the ledger)")
    axes.bar_label(drawn, fmt="%.1f", padding=3)
    label = "what the same layers cost the server"
    drawn = axes.barh(places + 0.19, worth, 0.36, color=QUIET, label=label)
    axes.bar_label(drawn, fmt="%.1f", padding=3)
    axes.set_yticks(places, [device.name for device in findings.devices])
    axes.invert_yaxis()
    axes.set_xlabel("credits in the whole run")
    _legend_above(axes)
    return figure


def cheating(findings: Findings) -> Figure:
    """What the best cheat would have earned at every rate of audits, for each number of layers
    that was taken; a dot is the derived rate, a tick a rate at which audits were drawn."""
    figure, axes = _figure(8.6, 4.0)
    found = deterrences(findings.statement.rounds, MARGIN)
    rates = np.geomspace(0.02, 1.0, 121)
    shades = DEPTH(np.linspace(1.0, 0.35, len(found)))
    for each, shade in zip(found, shades, strict=True):
        axes.plot(rates, [each.best(rate) for rate in rates], color=shade, label=f"{each.layers}")
        axes.plot([each.rate], [each.best(each.rate)], "o", color=shade, markersize=8)
        axes.plot(each.drawn, [-0.18] * len(each.drawn), "|", color=shade, markersize=9)
    axes.axhline(1.0, color=SERVER, linestyle=":")
    axes.annotate("honest work", (0.021, 1.04), color=SERVER)
    axes.set_xscale("log")
    axes.set_ylim(-0.3, 4.0)
    axes.set_xlabel("share of a device's images that is audited")
    axes.set_ylabel("best cheat's profit\nover honest profit")
    axes.legend(title="layers", frameon=False, loc="upper right")
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _clean(axes)
    return figure, axes


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _legend_above(axes: Axes, *, columns: int = 4) -> None:
    axes.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2
    )
