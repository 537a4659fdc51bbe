"""Figure 5: final and mean utility of the server, for GDM, PPO and random pricing.

The same training as figure 4, taken from its folder where that is at hand. The mean is taken over
epochs 200 to 500, as in the article; bars show means over seeds, whiskers 95 % confidence
intervals.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from edgepact.pages import percent, table
from edgepact.palette import INK
from edgepact.provenance import write_metrics
from edgepact.studies.asked import Asked, sized
from edgepact.studies.drawing import write_findings, write_picture
from edgepact.studies.fig4 import (
    LOOKS,
    SMOKED,
    Curves,
    OneFleet,
    beside_the_article,
    learn,
    measures,
    seconds_of_fleet,
    write_curves,
)
from edgepact.studies.learned_before import USUAL, Before, settle

seconds = seconds_of_fleet

HATCHES = dict(zip(LOOKS, ("", "//", "..", "xx"), strict=True))
"""Told apart without colours, too."""

Config = OneFleet
"""Settings of the study: those of figure 4's fleet."""


def config_for(smoke: bool) -> OneFleet:
    """The full study, or one that only shows that everything runs."""
    return OneFleet(seeds=2, epochs=20, solvers=SMOKED) if smoke else OneFleet()


def draw(curves: Curves, config: OneFleet, found: dict[str, Any]) -> Figure:
    """Bars of final and mean utility under the exact optimum."""
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(curves.learning)
    places = np.arange(2)
    width = 0.8 / len(names)
    for at, name in enumerate(names):
        bars = [found["solvers"][name][key] for key in ("final_utility", "mean_utility_settled")]
        means = np.array([bar["mean"] for bar in bars])
        whiskers = [means - [b["low"] for b in bars], [b["high"] for b in bars] - means]
        x = places + (at - (len(names) - 1) / 2) * width
        drawn = axes.bar(
            x,
            means,
            width * 0.92,
            yerr=whiskers,
            color=LOOKS[name].colour,
            hatch=HATCHES[name],
            edgecolor="white",
            label=name,
            capsize=3,
        )
        axes.bar_label(drawn, fmt="%.2f", padding=3, fontsize="small")
    axes.axhline(curves.optimum, color=INK, linestyle=":", label="exact optimum")
    low = min(float(run.utility[:, -1].min()) for run in curves.learning.values())
    axes.set_ylim(min(low, curves.random_mean) - 3.0, curves.optimum + 3.0)
    axes.set_xticks(
        places,
        [
            f"final (epoch {config.epochs})",
            f"mean of epochs {config.settled_from} to {config.epochs}",
        ],
    )
    axes.set_ylabel("utility of the server, credits (axis cut)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    return figure


def page(curves: Curves, config: OneFleet, found: dict[str, Any], source: Before) -> list[str]:
    """The findings in words and tables."""
    rows = []
    for name, each in found["solvers"].items():
        cells = [each[key] for key in ("final_utility", "mean_utility_settled")]
        told = [f"{x['mean']:.3f} ({x['low']:.3f} to {x['high']:.3f})" for x in cells]
        shares = each["final_share"]
        rows.append([name, *told, percent(sum(shares) / len(shares))])
    mean = f"mean of epochs {config.settled_from} to {config.epochs}"
    head = ["learner", f"utility after epoch {config.epochs}", mean, "share of the range, %"]
    parts = [
        f"Utility of the server, credits: means over {config.seeds} seeds, with their 95 % "
        f"confidence intervals. The exact optimum is {curves.optimum:.3f}, no trade "
        f"{float(curves.gain.alone):.3f}, a random price {curves.random_mean:.3f} on average.",
        "![Final and mean utility of the server](fig5.png)",
        table(head, rows),
    ]
    if source.folder is not None:
        commit = source.source.get("commit") or "of a release"
        parts.append(f"The curves are those of figure 4, learned at commit {commit}.")
    return [*parts, *beside_the_article(curves, config)]


def run(folder: Path, asked: Asked) -> None:
    """Writes curves.csv, fig5.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sized(config_for(asked.smoke), asked)
    asked, config, before = settle(asked, wanted, usual=USUAL)
    curves = learn(config, before)
    found = measures(curves, config)
    write_curves(folder, curves)
    write_picture(folder, "fig5", lambda: draw(curves, config, found), config, asked)
    write_metrics(folder, config, found, asked.record("fig5") | before.record())
    title = "Final and mean utility: figure 5"
    write_findings(folder, "fig5", title, page(curves, config, found, before), asked)
