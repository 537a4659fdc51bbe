"""`edgepact train`: federated training."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show

SPELT = {"costs": "--cost-min, --cost-max", "deadline_s": "--deadline"}
"""Options that are not spelt as the setting is."""


def train(
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Clients in the fleet.")] = 20,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="Rounds in all, those of an earlier run included.")
    ] = 20,
    dirichlet: Annotated[
        float,
        typer.Option(help="How evenly labels are spread: 0.1 hardly, 1 unevenly, inf evenly."),
    ] = 1.0,
    mechanism: Annotated[
        str,
        typer.Option(
            help="Who trains for what: none, contract (a menu), auction (bids) or stackelberg "
            "(a price for taking part, or for each step of the rate)."
        ),
    ] = "none",
    contract: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cost types and value, in TOML.")
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="Who decides: a contract's menu by optimum or gdm; a posted price by gdm, "
            "golden-section, grid, cma-es, gaussian-process or random [default: the first]"
        ),
    ] = None,
    worth: Annotated[
        float | None,
        typer.Option(
            help="With stackelberg, instead of a contract: credits an update is worth; clients "
            "take part for the price or stay away."
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(help="Without a contract: share of the bytes of float32 an update takes."),
    ] = 1.0,
    per_round: Annotated[
        int | None, typer.Option(min=1, help="Most clients that train in a round [default: all]")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Most credits to promise in a round [default: no limit]")
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option(
            help="Who is chosen of the willing: random, fedcs, oort, power-of-choice, or auction: "
            "the winners [default: the mechanism's own choice]"
        ),
    ] = None,
    pay: Annotated[
        float, typer.Option(min=0, help="Without a mechanism: credits for each accepted update.")
    ] = 0.0,
    cost_min: Annotated[
        float, typer.Option(min=0, help="Least private cost of an update, without a contract.")
    ] = 0.5,
    cost_max: Annotated[
        float, typer.Option(min=0, help="Largest private cost of an update, likewise.")
    ] = 1.5,
    deadline: Annotated[
        float | None,
        typer.Option(help="Seconds that a round may take, by the clients' simulated clocks."),
    ] = None,
    aggregate: Annotated[
        str, typer.Option(help="How updates are put together: fedavg or fedadam.")
    ] = "fedavg",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of Fashion-MNIST, or samples: the 300 images of the package "
            "[default: where Debian puts it]",
        ),
    ] = None,
    layers: Annotated[
        int,
        typer.Option(min=1, max=48, help="Blocks of the image tower; the embedded one has 12."),
    ] = 4,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Processes that play clients [default: one a core]"),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**31 - 1, help="Seed of weights, of the split, of costs and of draws."
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; the same again resumes [default: edgepact-train]"),
    ] = None,
    smoke: Annotated[
        bool, typer.Option(help="Train in small: sample images, four clients, two rounds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model together with devices that keep their images, and pay them.

    The embedded CLIP's image tower learns Fashion-MNIST, split over clients that Flower simulates
    on this machine. In each round the server asks (a contract offers a menu of compression rates
    and rewards, an auction calls for bids), clients answer for their own good, train on their own
    images and send a compressed update; accepted updates are averaged and paid. The folder holds
    checkpoint, ledger, rounds.csv, metrics.json and accuracy.png; the same command resumes it
    after a crash.

    First try: edgepact train --smoke. Needs: pip install 'edgepact[federated]'.
    """
    from dataclasses import replace

    from edgepact import api
    from edgepact.progress import progress_bar
    from edgepact.training.federated.config import PricedContract, TrainConfig, stated_in
    from edgepact.training.federated.run import expect_ready
    from edgepact.training.federated.task import TaskConfig

    terms = None if contract is None else PricedContract.read(contract)
    with stated_in("train", SPELT, "--{}"):
        task = TaskConfig(seed=seed, layers=layers)
        if data is not None:
            task = replace(task, data=data)
        config = TrainConfig(
            clients=clients,
            rounds=rounds,
            dirichlet=dirichlet,
            mechanism=mechanism,
            contract=terms,
            solver=solver,
            worth=worth,
            rate=rate,
            per_round=per_round,
            budget=budget,
            selector=selector,
            pay=pay,
            costs=(cost_min, cost_max),
            deadline_s=deadline,
            aggregate=aggregate,
            task=task,
            out=out or Path("edgepact-train"),
            workers=workers,
        )
        config = config.smoke() if smoke else config
        expect_ready(config)
        with progress_bar("train together", enabled=not as_json) as advance:
            trained = api.train(config, on_progress=advance)
    show(trained, as_json)
