"""The steps where a model is split between devices and a server."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgepact.efficiency.profile import Profile
from edgepact.files.market import Market
from edgepact.files.scenario import Inference, Scenario
from edgepact.live.findings import Findings
from edgepact.live.run import RunConfig, run_market
from edgepact.live.steps.tables import WORDS, Record, Step, yes
from edgepact.mechanisms.stackelberg.audit import audit_price, gains_over_staying_away
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.tables import NOBODY_LOSES


def infer(
    scenario: Scenario,
    job: Inference,
    out: Path,
    smoke: bool,
    record: Record,
    on_live: Callable[[], None],
) -> None:
    """Plays the live market; tells the steps as they are known."""
    config = RunConfig(
        fleet=scenario.terms,
        devices=job.devices or 0,
        rounds=job.rounds,
        images=job.images,
        seed=job.seed,
        model=job.model,
        samples=job.images_from,
        out=out,
        solver=scenario.solver,
        smoke=smoke,
    )

    def on_market(measured: Profile, market: Market) -> None:
        record.add(_partition(measured))
        record.add(_stackelberg(market))

    def on_findings(findings: Findings) -> None:
        record.add(_quotes(findings, scenario.solver))
        record.add(_inference(findings))

    run_market(config, on_live=on_live, on_market=on_market, on_findings=on_findings)


def _partition(measured: Profile) -> Step:
    costs = measured.costs
    rows = (
        ("layers of the model, L_max", f"{costs.layers_max}"),
        ("A, GMAC of a layer", f"{costs.A:.4g}"),
        ("B, GMAC before the first", f"{costs.B:.4g}"),
        ("milliseconds of a layer", f"{1e3 * measured.fit.A_s:.4g}"),
        ("R2 of milliseconds as A L + B", f"{measured.fit.r_squared:.4f}"),
        ("milliseconds of an image, unsplit", f"{1e3 * sum(measured.seconds_per_stage):.4g}"),
    )
    return Step(1, WORDS["partition"], ("measured on this machine", "value"), rows)


def _stackelberg(market: Market) -> Step:
    game = market.game
    best = equilibrium(game)
    audit = audit_price(game, best)
    columns = (best.payments, best.device_utility, gains_over_staying_away(game, best))
    rows = tuple(
        (name, f"{layers:g}", *(f"{each:.4f}" for each in credits_of_device))
        for name, layers, *credits_of_device in zip(
            market.names, best.layers, *columns, strict=True
        )
    )
    return Step(
        2,
        "Stackelberg game: the server posts a price per layer, devices answer; its exact optimum",
        ("device", "layers", "payment", "utility", "over staying away"),
        rows,
        (
            f"Best price {float(best.price):.5g} credits per layer, server's utility "
            f"{float(best.server_utility):.5g} credits.",
            f"{NOBODY_LOSES.capitalize()}: {yes(audit.individually_rational)}. Payments within "
            f"the saving: {yes(audit.budget_balanced)}. A lie about private figures could bring "
            f"{audit.largest_gain_from_lying:.3g} credits, if figures were asked for.",
        ),
    )


def _quotes(findings: Findings, solver: str) -> Step:
    rows = [
        (
            f"{each.number}",
            f"{each.price:.5g}",
            f"{sum(each.layers.values())}",
            f"{each.utility:.5g}",
            f"{each.share:.2%}",
        )
        for each in findings.rounds
    ]
    best = findings.best
    rows.append(
        (
            "best",
            f"{float(best.price):.5g}",
            f"{int(np.sum(best.layers))}",
            f"{float(best.server_utility):.5g}",
            f"{1.0:.2%}",
        )
    )
    return Step(
        3,
        f"{solver}: prices posted in live rounds",
        ("round", "price", "layers of all", "server's utility", "share of the optimum"),
        tuple(rows),
        ("A share of 0 is the mean of random prices.",),
    )


def _inference(findings: Findings) -> Step:
    rows = [
        ("images classified", f"{len(findings.images)}"),
        ("same class as the unsplit model", f"{findings.agreement:.2%}"),
        ("the server's computing saved", f"{findings.server_saved:.2%}"),
        ("bytes sent over JPEG's", f"{findings.bytes_ratio:.2f}"),
        ("jobs computed again before payment", f"{findings.audited}"),
        ("paid price times layers for each image", yes(findings.paid_as_earned)),
        ("the books balance", yes(findings.statement.balanced)),
    ]
    if findings.accuracy is not None:
        rows.insert(1, ("classified right", f"{findings.accuracy:.2%}"))
    return Step(4, "split inference by real processes", ("figure", "value"), tuple(rows))
