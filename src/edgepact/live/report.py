"""The report of a run: one self-contained HTML file, with CSV and JSON beside it.

Whatever the job and the mechanism, a report says first what its numbers mean for who ran the
market; then what was made and by whom, what was decided round by round, where time and money went,
and what the ledger has. What jobs show of their own is in `image_report`, `text_report`,
`picture_report`, `speech_report` and `staged_report`.
"""

import csv
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from edgepact.efficiency.profile import Profile
from edgepact.live import charts, report_page
from edgepact.live.deterrence import deterrences
from edgepact.live.job_told import JobTold
from edgepact.live.metrics import as_json
from edgepact.live.report_charts import table
from edgepact.live.verdict import verdict_of
from edgepact.market.serve_config import MARGIN
from edgepact.mechanisms.stackelberg.audit import gains_over_staying_away
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_jobs import Work
from edgepact.pacts.partition_priced import (
    Findings,
    MarketPlayed,
    WorkPriced,
    worth_of,
)
from edgepact.pacts.partition_results import TimeSplit
from edgepact.provenance import provenance, write_metrics
from edgepact.solvers.by_name import OPTIMUM
from edgepact.tables import NOBODY_LOSES

JOBS = {
    "classification": "edgepact.live.image_report",
    "photo": "edgepact.live.staged_report",
    "picture": "edgepact.live.picture_report",
    "sentences": "edgepact.live.staged_report",
    "speech": "edgepact.live.speech_report",
    "staged": "edgepact.live.staged_report",
    "text": "edgepact.live.text_report",
}
"""What tells of a job's work, by a function `told`; loaded when it is asked for, so that scenarios
of images load no tokenizer."""

Played = MarketPlayed | WorkPriced | LayersBought
"""What a report can be written of."""

SEES_ANSWERS = "Whoever quotes sees nothing of this curve, only prices and answers of past rounds."


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


SMOKE = "A smoke run: few rounds and little work, to see that all of it runs. "


def _pricing(solver: str) -> Pricing:
    name = solver.replace("-", " ")
    return PRICING.get(
        solver,
        Pricing(f"A server that prices by {name}", f"By {name}, which knew nothing beforehand."),
    )


def write_report(
    folder: Path,
    config: Any,
    played: Played,
    *,
    job: str,
    place: Path | None,
    smoke: bool = False,
) -> Path:
    """Writes report.html, a CSV of all pieces, rounds.csv and metrics.json.

    Args:
        folder: to write into.
        config: settings of the run, kept beside its figures.
        played: what came of it.
        job: whose work it was, one of `JOBS`.
        place: what devices worked on, a folder or a file; None for what comes with the job.
        smoke: whether it was played in small, which the report and `metrics.json` say.

    Returns:
        The path of report.html.
    """
    work = work_of(played)
    tell = cast(Callable[[Work, Path | None], JobTold], importlib.import_module(JOBS[job]).told)
    told = tell(work, place)
    _write_tables(folder, told, played)
    figures = as_json(played.findings) if isinstance(played, MarketPlayed) else played.to_dict()
    write_metrics(folder, config, figures, {"smoke": smoke})
    verdict = verdict_of(played, work)
    title, made, note = told.made
    page = report_page.page(
        kind=told.kind,
        title=told.title,
        verdict=verdict.sentences,
        good=verdict.good,
        intro=f"{SMOKE if smoke else ''}{told.intro} {_decider(played)}",
        tiles=report_page.tiles(_tiles(played)),
        sections=(
            report_page.section(title, made, before=note),
            *_decided(played, work),
            report_page.section(
                "Where the time went",
                report_page.times(_times(work), unit=told.timed),
                "All processes of a run share the cores of one machine and its loopback, so the "
                "link is as fast as it can be and the processes wait for each other. The server's "
                "queue and books hold the durable entry in the ledger that comes before every "
                "answer.",
            ),
            *(report_page.section(name, chart, before=why) for name, chart, why in told.charts),
            report_page.section(
                "What each device did",
                table(told.head, told.devices),
                *(f"{each.name} was lost: {each.lost}." for each in work.devices if each.lost),
            ),
            _paid(played, work),
            *_sheets(played),
            *_checked(played),
            report_page.payments(work.statement, [each.name for each in work.devices]),
            _model(work.profile),
        ),
        origin=_origin(config, work),
    )
    path = folder / "report.html"
    # Names of files on disk may be bytes that are no UTF-8; Python has half of a surrogate pair for
    # each of them, which no encoding takes.
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def work_of(played: Played) -> Work:
    """The work that was done."""
    return played.findings if isinstance(played, MarketPlayed) else played.work


def print_summary(findings: Findings) -> None:
    """The run in one table on the terminal."""
    summary = Table(title="What the run showed", title_justify="left", show_header=False)
    summary.add_column()
    summary.add_column(justify="right")
    for name, value, _ in _headline(findings):
        summary.add_row(name, value)
        if "of the range" in name:
            summary.add_row("  by the best price that never looks", f"{findings.blind_share:.1%}")
    for device in findings.devices:
        if device.lost is not None:
            summary.add_row(f"{device.name} was lost", device.lost)
    Console().print(summary)


# ---------------------------------------------------------------- private


def _tiles(played: Played) -> Sequence[Sequence[str]]:
    if isinstance(played, MarketPlayed):
        return _headline(played.findings)
    return played.figures.rows


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


def _decider(played: Played) -> str:
    """Who decided on prices."""
    if isinstance(played, LayersBought):
        return ""
    return f"{_pricing(played.solver).who} quotes a price per {work_of(played).step}."


def _decided(played: Played, work: Work) -> Iterator[str]:
    """What was decided round by round, and what the devices made of it."""
    names, step = [each.name for each in work.devices], work.step
    if isinstance(played, LayersBought):
        chart = charts.profits(
            [each.number for each in played.rounds],
            [each.profit for each in played.rounds],
            played.best_profit,
            work.unit,
        )
        yield report_page.section(
            "What the rounds brought",
            chart.figure(),
            before="What the server keeps of what it saves; the exact optimum is "
            f"{played.optimum}.",
        )
        yield _answers(charts.who(played.rounds, names, None, step).figure(), None)
        return
    found = played.findings if isinstance(played, MarketPlayed) else None
    pricing = _pricing(played.solver)
    if found is not None:
        yield report_page.section(
            "What a price is worth",
            charts.utility(found).figure() + charts.utility(found, near=True).figure(),
            before="The server's utility for one image of each device, at every price it could "
            "post. Each time a device adds a layer the curve jumps up; between the jumps a higher "
            f"price only costs more. {pricing.knowledge}",
        )
    priced = played.findings if isinstance(played, MarketPlayed) else played
    rounds, best = priced.rounds, priced.best
    blind = None if found is None else float(found.blind.price)
    blind_share = None if found is None else found.blind_share
    looks = (
        ""
        if found is None
        else " The price that never looks is the best one for fleets of this kind, fixed before "
        "anything was seen."
    )
    yield report_page.section(
        "How the price was found",
        charts.prices(rounds, float(best.price), blind, step).figure()
        + charts.shares(rounds, blind_share).figure(),
        before=f"{pricing.origin}{looks} Zero is the mean utility of a random price, 100% the "
        "best a server could do that knew every device's costs.",
    )
    exact = np.asarray(best.layers).tolist()
    yield _answers(charts.who(rounds, names, exact, step).figure(), step)


def _answers(shades: str, exact: str | None) -> str:
    last = "" if exact is None else f" The last column is the exact equilibrium, in {exact}s."
    return report_page.section(
        "What the devices answered",
        shades,
        before=f"The more a device did, the stronger the colour.{last}",
    )


def _paid(played: Played, work: Work) -> str:
    """Who was paid, and what the same work would have cost the server."""
    worth = None
    if isinstance(played, WorkPriced):
        worth = [played.worth[each.name] for each in work.devices]
    elif isinstance(played, MarketPlayed):
        saved = worth_of(work, played.findings.market)
        worth = [saved[each.name] for each in work.devices]
    paid = [(each.name, each.paid_credits) for each in work.devices]
    gain = (
        ""
        if worth is None
        else (f" The server gains the difference to what the {work.step}s would have cost it.")
    )
    return report_page.section(
        "Who was paid",
        charts.pay(paid, worth, work.step).figure(),
        before="Each verified piece of work is paid in one transaction of the double-entry ledger."
        f"{gain}",
    )


def _sheets(played: Played) -> Iterator[str]:
    sheets = played.decided
    if not isinstance(played, MarketPlayed):
        sheets += played.besides
    elif played.earnings is not None:
        sheets += played.earnings.sheets
    for sheet in sheets:
        yield report_page.sheet_section(sheet)


def _checked(played: Played) -> Iterator[str]:
    """Why cheating loses money and what the mechanism promises, where it was a price for images."""
    if isinstance(played, MarketPlayed):
        yield from _deterrence(played.findings)
        yield _audit(played.findings)


def _deterrence(findings: Findings) -> Iterator[str]:
    """The curve of what cheating earns, and its figures; nothing where nobody was paid."""
    found = deterrences(findings.statement.rounds, MARGIN)
    if not found:
        return
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
    head += [f"best cheat {where}" for where in ("unaudited", "at 5%", "at the derived rate")]
    yield report_page.section(
        "Why cheating loses money",
        charts.cheating(found).figure() + table(head, rows),
        before=f"All that a device earns in a round of {found[0].pieces} images stands or falls "
        "with the audits that are drawn at its end. For a device that keeps "
        f"{MARGIN:.0%} of the least item's pay when it is honest, a curve is the profit of the "
        "best of all cheats as a share of honest profit, for each number of layers that was "
        "taken; below the line of honest work cheating loses. Dots are the derived rates. Of "
        f"{len(findings.images)} images {findings.audited} were audited, and "
        f"{findings.statement.jobs.get('forfeit', 0)} lost their pay.",
    )


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
            "Largest gain from lying about own cost or computing power, alpha or capacity "
            f"({audit.lies_tried} lies tried)",
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
    return report_page.section(
        "The mechanism, audited",
        table(["question", "answer"], rows),
        before="The exact price, audited on the devices' true characteristics. One price for all "
        "is not truthful: if it were computed from what devices report, a liar could gain. Here "
        "it is computed from what they do.",
    )


def _times(work: Work) -> list[tuple[str, TimeSplit]]:
    return [(each.name, each.times) for each in work.devices if each.units]


def _model(profile: Profile) -> str:
    costs, fit = profile.costs, profile.fit
    step = profile.step
    rows = [
        [f"{step}s", f"{costs.layers_max}"],
        [f"A, of a {step}", f"{costs.A * 1e3:.4g} MMAC, {fit.A_s * 1e3:.4g} ms"],
        ["B, before the first", f"{costs.B * 1e3:.4g} MMAC, {fit.B_s * 1e3:.4g} ms"],
        ["R squared of A L + B", f"{fit.r_squared:.6f}"],
        ["the whole", f"{costs.total * 1e3:.4g} MMAC"],
    ]
    at_least = (
        " Its best line would begin below 0, where no time can be: B is 0, and A follows."
        if fit.B_s == 0.0
        else ""
    )
    return report_page.section(
        "The model",
        table(["figure", "value"], rows),
        f"{profile.model}, for one {profile.unit}, measured on this machine with "
        f"{profile.threads} thread. Milliseconds are a least-squares line A L + B over the times "
        f"of L {step}s, with B at least 0.{at_least}",
    )


def _origin(config: Any, work: Work) -> str:
    made = provenance(config)
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return (
        f"edgepact {made['edgepact']}"
        + (f" at {made['commit']}" if made["commit"] else "")
        + f" · {work.live_seconds:.0f} s · Python {made['python']}, {versions} · {made['machine']}"
    )


def _write_tables(folder: Path, told: JobTold, played: Played) -> None:
    with (folder / told.file).open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        pieces = csv.DictWriter(file, ["device", *told.columns], extrasaction="ignore")
        pieces.writeheader()
        pieces.writerows(told.rows)
    if isinstance(played, LayersBought):
        return
    rounds = played.findings.rounds if isinstance(played, MarketPlayed) else played.rounds
    names = [each.name for each in work_of(played).devices]
    with (folder / "rounds.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["round", "price", "server_utility", "share", *names])
        for each in rounds:
            layers = (each.layers.get(name, "") for name in names)
            lines.writerow([each.number, each.price, each.utility, each.share, *layers])
