"""The report of a run: one self-contained HTML file, with PNG, CSV and JSON beside it."""

import base64
import csv
import io
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from edgepact.credits import in_credits
from edgepact.live import charts
from edgepact.live.deterrence import deterrences
from edgepact.live.metrics import as_json
from edgepact.market.serve_config import MARGIN
from edgepact.mechanisms.stackelberg.audit import gains_over_staying_away
from edgepact.pacts.partition_findings import ImageResult
from edgepact.pacts.partition_priced import Findings, MarketPlayed
from edgepact.palette import DEEP_GREEN, PURPLE
from edgepact.provenance import provenance, write_metrics
from edgepact.solvers.by_name import OPTIMUM
from edgepact.tables import NOBODY_LOSES

CHARTS: dict[str, tuple[Callable[[Findings], Figure], str, str]] = {
    "utility": (
        charts.utility_curve,
        "What a price is worth",
        "The server's utility for one image of each device, at every price it could post. Each "
        "time a device adds a layer the curve jumps up; between the jumps a higher price only "
        "costs more. Dots are the prices that were quoted. {knowledge}",
    ),
    "prices": (
        charts.price_trajectory,
        "How the price was found",
        "{origin} The dashed price is the best one for fleets of this "
        "kind, fixed before anything was seen. Zero is the mean utility of a random price, 100 % "
        "the best a server could do that knew every device's costs.",
    ),
    "layers": (
        charts.layers_by_device,
        "What the devices answered",
        "Layers each device chose to run. The last column is the exact equilibrium.",
    ),
    "computing": (
        charts.computing,
        "Who did the computing",
        "Counted in multiply-accumulate operations of the stages each side ran.",
    ),
    "latency": (
        charts.latency,
        "Where the time went",
        "All processes share the cores of one machine and its loopback, so the link is as fast "
        "as it can be and the processes wait for each other. The server's part holds its queue "
        "and the durable entry in the ledger, which comes before every answer.",
    ),
    "bytes": (
        charts.bytes_sent,
        "What the split does not save: bandwidth",
        "",
    ),
    "payments": (
        charts.payments,
        "Who was paid",
        "Each verified image is paid price times layers, in one transaction of the double-entry "
        "ledger. The server gains the difference to what the layers would have cost it.",
    ),
}

GALLERY = 24

SEES_ANSWERS = (
    "Whoever quotes sees neither this curve nor the ticks, only prices and answers of past rounds."
)


class Pricing(NamedTuple):
    """A solver in the words of the report: who quotes, what it knows, where it comes from."""

    who: str
    origin: str
    knowledge: str = SEES_ANSWERS


PRICING = {
    "gdm": Pricing(
        "A diffusion model",
        "The diffusion model was trained once, on simulated fleets of many kinds, and met this "
        "fleet for the first time in round 1.",
    ),
    OPTIMUM.name: Pricing(
        "A server that was told every private cost",
        "The price is the exact equilibrium, posted from the first round.",
        "Nothing was private here: the price was computed from the devices' own figures.",
    ),
}


def _pricing(solver: str) -> Pricing:
    name = solver.replace("-", " ")
    return PRICING.get(
        solver,
        Pricing(f"A server that prices by {name}", f"By {name}, which knew nothing beforehand."),
    )


def write_report(folder: Path, config: Any, played: MarketPlayed) -> Path:
    """Writes report.html, the pictures, images.csv, rounds.csv and metrics.json.

    Args:
        folder: to write into.
        config: settings of the run, kept beside its figures; with a `seed`.
        played: what came of it.

    Returns:
        The path of report.html.
    """
    findings = played.findings
    _write_tables(folder, findings)
    write_metrics(folder, config, as_json(findings))
    pricing = _pricing(played.solver)
    sections = []
    for name, (draw, title, text) in CHARTS.items():
        figure = draw(findings)
        figure.savefig(folder / f"{name}.png", dpi=130)
        told = text.format(**pricing._asdict()) if text else _bandwidth(findings)
        sections.append(_section(title, told, _svg(figure, f"{title}. {told}")))
    sections += _deterrence(folder, findings)
    path = folder / "report.html"
    page = _PAGE.format(
        green=DEEP_GREEN,
        red=PURPLE,
        title=f"{len(findings.devices)} devices, {len(findings.rounds)} rounds, "
        f"{len(findings.images)} images",
        who=pricing.who,
        cards=_cards(findings),
        sections="\n".join(sections),
        gallery=_gallery(played.images_folder, findings),
        tables=_audit(findings) + _ledger(findings) + _model(findings),
        origin=_origin(config),
    )
    path.write_text(page, encoding="utf-8")
    return path


def print_summary(findings: Findings) -> None:
    """The run in one table on the terminal."""
    table = Table(title="What the run showed", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value, _ in _headline(findings):
        table.add_row(name, value)
        if "of the range" in name:
            table.add_row("  by the best price that never looks", f"{findings.blind_share:.1%}")
    for device in findings.devices:
        if device.lost is not None:
            table.add_row(f"{device.name} was lost", device.lost)
    Console().print(table)


def _headline(findings: Findings) -> list[tuple[str, str, str]]:
    """Name, value and remark of each figure that comes first."""
    first, last = findings.rounds[0], findings.rounds[-1]
    paid = sum(device.paid_credits for device in findings.devices)
    rows = []
    if findings.accuracy is not None and findings.whole_accuracy is not None:
        remark = f"the unsplit model has {findings.whole_accuracy:.1%} on the same images"
        rows.append(("images classified correctly", f"{findings.accuracy:.1%}", remark))
    rows += [
        (
            "split and whole model agree",
            f"{findings.agreement:.1%}",
            f"of {len(findings.images)} images",
        ),
        (
            "server's computing saved",
            f"{findings.server_saved:.0%}",
            f"{findings.server_gmac:.3g} of {findings.whole_gmac:.3g} GMAC were left to it",
        ),
        (
            "bytes sent, against JPEG",
            f"{findings.bytes_ratio:.1f} ×",
            "above 1 the split costs bandwidth",
        ),
        (
            "share of the range, mean of the quotes",
            f"{findings.mean_share:.1%}",
            f"{first.share:.1%} at the first, {last.share:.1%} at the last; the best price that "
            f"never looks at an answer: {findings.blind_share:.1%}",
        ),
        (
            "paid to devices, credits",
            f"{paid:.1f}",
            "exactly as earned" if findings.paid_as_earned else "NOT as earned",
        ),
    ]
    return rows


def _bandwidth(findings: Findings) -> str:
    ratio = findings.bytes_ratio
    costs = f"{ratio:.1f} times the bytes of" if ratio >= 1.0 else f"{ratio:.0%} of the bytes of"
    return (
        f"The devices sent {costs} the same images as JPEG of quality 90. An activation is as "
        "large after the first layer as after the last, and an image is small: cutting the model "
        "saves the server's computing, not the link. A device that runs no layer sends its image "
        "file, one that runs all of them only the image vector."
    )


def _deterrence(folder: Path, findings: Findings) -> list[str]:
    """The curve of what cheating earns, and its figures; nothing where nobody was paid."""
    found = deterrences(findings.statement.rounds, MARGIN)
    if not found:
        return []
    title = "Why cheating loses money"
    text = (
        f"All that a device earns in a round of {found[0].pieces} images stands or falls with the "
        "audits that are drawn at its end. For a device that keeps "
        f"{MARGIN:.0%} of the least item's pay when it is honest, a curve is the profit of the "
        "best of all cheats as a share of honest profit, for each number of layers that was taken; "
        "below the dotted line cheating loses. Dots are the derived rates, ticks beneath the rates "
        f"at which audits were drawn. Of {len(findings.images)} images {findings.audited} were "
        f"audited, and {findings.statement.jobs.get('forfeit', 0)} lost their pay."
    )
    figure = charts.cheating(findings)
    figure.savefig(folder / "cheating.png", dpi=130)
    rows = [
        [
            f"{each.layers}",
            f"{each.ratio:.3g}",
            f"{each.rate:.1%}",
            f"{np.mean(each.drawn):.1%}" if each.drawn else "",
            f"{each.best(0.0):.3g}",
            f"{each.best(0.05):.3g}",
            f"{each.best(each.rate):.2f}",
        ]
        for each in found
    ]
    head = ["layers", "pay over the least item's", "derived rate", "drawn at, mean"]
    head += [f"best cheat {where}" for where in ("unaudited", "at 5 %", "at the derived rate")]
    return [_section(title, text, _svg(figure, f"{title}. {text}") + _table(head, rows))]


def _cards(findings: Findings) -> str:
    return "\n".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span>'
        f"<small>{escape(remark)}</small></div>"
        for name, value, remark in _headline(findings)
    )


def _section(title: str, text: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{body}</section>"


def _svg(figure: Figure, shows: str) -> str:
    """A chart in the page; `shows` says what it shows to who cannot see it."""
    # Paths instead of text look the same on every machine, whatever fonts it has.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "edgepact"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing[drawing.index("<svg") :], flags=re.S)
    named = f'<svg role="img" aria-label="{escape(shows)}" '
    return f"<figure>{drawing.replace('<svg ', named, 1)}</figure>"


def _gallery(folder: Path, findings: Findings) -> str:
    step = max(1, len(findings.images) // GALLERY)
    tiles = []
    for device, result in findings.images[::step][:GALLERY]:
        data = base64.b64encode((folder / result.file).read_bytes()).decode()
        kind = "png" if result.file.endswith(".png") else "jpeg"
        right = result.label_true in (None, result.label_predicted)
        note = "" if right else f"<br><s>{escape(result.label_true or '')}</s>"
        tiles.append(
            f'<div class="tile {"hit" if right else "miss"}">'
            f'<img alt="{escape(_seen(device, result))}" src="data:image/{kind};base64,{data}">'
            f"<b>{escape(result.label_predicted or '')}</b>{note}"
            f"<small>{escape(device)}<br>{result.layers} layers<br>"
            f"{in_credits(result.paid_microcredits):.3f} credits</small></div>"
        )
    text = (
        "Some of the images, with what split inference said of them. Where it is wrong, the true "
        "class is struck out below."
    )
    return _section("What was seen", text, f'<div class="tiles">{"".join(tiles)}</div>')


def _seen(device: str, result: ImageResult) -> str:
    """What a picture shows, for who cannot see it."""
    true = result.label_true
    told = f"Image of {device}" if true is None else f"Image of {device} that shows: {true}"
    return f"{told}; classified as {result.label_predicted or 'nothing'}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _audit(findings: Findings) -> str:
    audit = findings.audit
    best, game = findings.best, findings.market.game
    alone = float(game.revenue - sum(game.saving) * game.layers_max)
    least = float(np.min(gains_over_staying_away(game, best)))
    rows = [
        [NOBODY_LOSES.capitalize(), "yes" if audit.individually_rational else "NO"],
        ["Least gain of a device over staying away", f"{least:.3f} credits an image"],
        ["Payments stay within what they save", "yes" if audit.budget_balanced else "NO"],
        [
            f"Largest gain from lying about alpha or W ({audit.lies_tried} lies tried)",
            f"at least {audit.largest_gain_from_lying:.3f} credits an image",
        ],
    ]
    for rule, utility in (
        ("Server's utility alone", alone),
        ("… at the best price that never looks", findings.blind.server_utility),
        ("… at the exact best price for all", best.server_utility),
        ("… with a price for each device", findings.personal.server_utility),
        ("… first best, all surplus to it", findings.first.server_utility),
    ):
        rows.append([rule, f"{float(utility):.2f} credits"])
    text = (
        "The exact price, audited on the devices' true characteristics. One price for all is not "
        "truthful: if it were computed from what devices report, a liar could gain. Here it is "
        "computed from what they do."
    )
    return _section("The mechanism, audited", text, _table(["question", "answer"], rows))


def _ledger(findings: Findings) -> str:
    paid = findings.statement.paid_by_round()
    names = findings.market.names
    rows = [
        [str(number)]
        + [f"{in_credits(devices.get(name, 0)):.6f}" for name in names]
        + [f"{in_credits(sum(devices.values())):.6f}"]
        for number, devices in sorted(paid.items())
    ]
    totals = [sum(devices.get(name, 0) for devices in paid.values()) for name in names]
    rows.append(["all", *(f"{in_credits(total):.6f}" for total in (*totals, sum(totals)))])
    statement = findings.statement
    state = "equal" if statement.balanced else "DO NOT EQUAL"
    jobs = ", ".join(f"{count} {kind}" for kind, count in sorted(statement.jobs.items()))
    text = (
        f"Credits by round and device. Debits {state} credits; jobs: {jobs}; "
        f"{findings.audited} were audited before the pay of their round."
    )
    return _section("The ledger", text, _table(["round", *names, "all"], rows))


def _model(findings: Findings) -> str:
    profile = findings.profile
    costs = profile.costs
    rows = [
        ["layers", str(costs.layers_max)],
        ["A, a layer", f"{costs.A * 1e3:.4g} MMAC, {profile.fit.A_s * 1e3:.4g} ms"],
        ["B, before the first", f"{costs.B * 1e3:.4g} MMAC, {profile.fit.B_s * 1e3:.4g} ms"],
        ["R squared of A*L + B", f"{profile.fit.r_squared:.6f}"],
        ["whole model", f"{costs.total * 1e3:.4g} MMAC an image"],
    ]
    text = f"{profile.model}, measured on this machine with {profile.threads} thread."
    return _section("The model", text, _table(["", ""], rows))


def _origin(config: Any) -> str:
    made = provenance(config)
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return escape(
        f"edgepact {made['edgepact']}"
        + (f" at {made['commit']}" if made["commit"] else "")
        + f" · seed {config.seed} · Python {made['python']}, {versions} · {made['machine']}"
    )


def _write_tables(folder: Path, findings: Findings) -> None:
    with (folder / "images.csv").open("w", newline="") as file:
        columns = ["device", *(field.name for field in fields(ImageResult))]
        images = csv.DictWriter(file, columns)
        images.writeheader()
        for device, result in findings.images:
            images.writerow({"device": device, **asdict(result)})
    with (folder / "rounds.csv").open("w", newline="") as file:
        rounds = csv.writer(file)
        names = findings.market.names
        rounds.writerow(["round", "price", "server_utility", "share", *names])
        for each in findings.rounds:
            layers = (each.layers.get(name, "") for name in names)
            rounds.writerow([each.number, each.price, each.utility, each.share, *layers])


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgepact run</title>
<style>
:root {{ --ink:#1f2933; --quiet:#616e7c; --line:#e4e7eb; --green:{green}; --red:{red}; }}
* {{ box-sizing:border-box; }}
body {{ margin:0; background:#f5f7f9; color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif; }}
main {{ max-width:960px; margin:0 auto; padding:32px 20px 64px; }}
h1 {{ font-size:30px; margin:0 0 4px; letter-spacing:-.01em; }}
h2 {{ font-size:20px; margin:0 0 6px; }}
p {{ margin:0 0 14px; color:var(--quiet); max-width:76ch; }}
section {{ background:white; border:1px solid var(--line); border-radius:10px;
  padding:22px 24px; margin-top:18px; }}
.cards {{ display:grid; grid-template-columns:repeat(auto-fit,minmax(260px,1fr)); gap:12px;
  margin-top:22px; }}
.card {{ background:white; border:1px solid var(--line); border-radius:10px; padding:16px 18px; }}
.card b {{ display:block; font-size:28px; line-height:1.2; color:var(--green); }}
.card span {{ display:block; font-weight:600; }}
.card small, .tile small {{ color:var(--quiet); font-size:12.5px; line-height:1.35;
  display:block; }}
figure {{ margin:0; overflow-x:auto; }}
figure svg {{ width:100%; height:auto; }}
.tiles {{ display:grid; grid-template-columns:repeat(auto-fill,minmax(104px,1fr)); gap:10px; }}
.tile {{ border:1px solid var(--line); border-top:3px solid var(--green); border-radius:8px;
  padding:8px; text-align:center; font-size:13px; line-height:1.3; }}
.tile.miss {{ border-top-color:var(--red); }}
.tile.miss b {{ color:var(--red); }}
.tile img {{ width:72px; height:72px; object-fit:contain; image-rendering:pixelated;
  display:block; margin:0 auto 6px; background:black; border-radius:4px; }}
table {{ border-collapse:collapse; width:100%; font-size:14px; display:block; overflow-x:auto; }}
th, td {{ text-align:right; padding:6px 10px; border-bottom:1px solid var(--line);
  font-variant-numeric:tabular-nums; white-space:nowrap; }}
th:first-child, td:first-child {{ text-align:left; }}
footer {{ margin-top:24px; color:var(--quiet); font-size:13px; }}
</style></head><body><main>
<h1>{title}</h1>
<p>An image encoder split between self-interested devices and one edge server. {who}
quotes a price per layer; every device answers with the layers that pay it best, runs them on real
images, and is paid for every verified one.</p>
<div class="cards">{cards}</div>
{sections}
{gallery}
{tables}
<footer>{origin}</footer>
</main></body></html>
"""
