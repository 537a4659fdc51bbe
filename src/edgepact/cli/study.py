"""`edgepact study`: a figure or benchmark, reproduced."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.options import whole


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which of the studies named above.")],
    smoke: Annotated[bool, typer.Option(help="Do the study in small: does it run?")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results [default: study-NAME]")
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            help="Train the models of quoting, robustness, ablation, contract or auctions first."
        ),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=whole("study", "--seeds"),
            help="Play so many seeds, instead of the study's own number.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=whole("study", "--epochs"),
            help="Let learners learn for so many epochs.",
        ),
    ] = None,
    fleets: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=whole("study", "--fleets"),
            help="Meet so many fleets of each kind.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=whole("study", "--workers"),
            help="Share the work among so many processes, in quoting, robustness, dynamics, "
            "ablation, contract, selection or auctions; results do not depend on it.",
        ),
    ] = 1,
    format: Annotated[
        str, typer.Option(metavar="png|svg|pdf", help="Write pictures in this format.")
    ] = "png",
    style: Annotated[
        str,
        typer.Option(
            metavar="page|article",
            help="Draw for a screen, or for a column of print: narrow, serif, panels named only.",
        ),
    ] = "page",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Draw fig4 or fig5 from this folder of fig4, and learn only what is missing in "
            "it; fig5 finds study-fig4 by itself."
        ),
    ] = None,
) -> None:
    """Reproduce a figure or benchmark: tables, a picture and metrics.json in one folder.

    fig4: the server's utility against training epochs, for the GDM, PPO and random pricing,
    with the exact optimum as ceiling. fig5: their final and mean utility. quoting: how soon quotes
    to unseen fleets are good, for every method. robustness: the same where the prior is wrong.
    dynamics: the same where the fleet changes from round to round. ablation: what each
    part of quoting in context is worth. speed: the time of a quote. contract: menus, by profit
    and in federated training. selection: who should train, by money and time. auctions: revenue,
    bounds and lies of auctions that are learnt. cheating: what cheats earn at the rate of audits.
    capacity: what a market process costs and carries. pictures: what sharing and splitting the
    steps of generated pictures cost. best-of: what another draw of a picture gains and costs.
    """
    from edgepact import api

    written = api.study(
        name,
        smoke=smoke,
        out=out,
        train=train,
        seeds=seeds,
        epochs=epochs,
        fleets=fleets,
        workers=workers,
        format=format,
        style=style,
        data=data,
    )
    print(f"Results: {written.out}")
