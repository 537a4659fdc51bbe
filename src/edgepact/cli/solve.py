"""`edgepact solve`: one market, contract or auction, exactly."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepact.cli.complaints import print_error
from edgepact.cli.output import Json, print_json
from edgepact.errors import EdgepactError, InputError


def solve(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A market in TOML.")],
    as_json: Json = False,
) -> None:
    """Solve one market exactly: the best price, what everybody gets, and an audit.

    FILE names the mechanism (a Stackelberg game, a contract or an auction), the server's terms
    and the devices; examples/ holds some.
    """
    from edgepact.files import mechanism_of

    solved_by = {
        "auction": _solve_auction,
        "contract": _solve_contract,
        "stackelberg": _solve_stackelberg,
    }
    broken = solved_by[mechanism_of(file)](file, as_json)
    if broken:
        told = f"{file}: the answer breaks what its mechanism promises: {', '.join(broken)}"
        print_error(EdgepactError(told))
        raise typer.Exit(1)


def _solve_stackelberg(file: Path, as_json: bool) -> tuple[str, ...]:
    import numpy as np

    from edgepact.files.market import read_market
    from edgepact.mechanisms.stackelberg.audit import audit_price
    from edgepact.mechanisms.stackelberg.optimum import equilibrium

    market = read_market(file)
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        result = equilibrium(market.game)
    results = (result.price, result.server_utility, result.device_utility, result.payments)
    if not all(np.isfinite(each).all() for each in results):
        expected = "numbers whose sizes lie closer together"
        raise InputError(file, "", expected, "a market without a finite solution in float64")
    audit = audit_price(market.game, result)
    if as_json:
        layers = result.layers.astype(int) if market.game.integer else result.layers
        print_json(
            {
                "price": float(result.price),
                "server_utility": float(result.server_utility),
                "layers": layers.tolist(),
                "device_utility": result.device_utility.tolist(),
                "payments": result.payments.tolist(),
                "audit": audit.as_json(),
            }
        )
        return audit.broken
    from rich.console import Console

    from edgepact.tables import audit_table, benchmarks_table, market_table

    console = Console()
    console.print(market_table(market, result))
    console.print(benchmarks_table(market.game, result))
    console.print(audit_table(audit))
    return audit.broken


def _solve_contract(file: Path, as_json: bool) -> tuple[str, ...]:
    import numpy as np

    from edgepact.files.contract import read_contract
    from edgepact.mechanisms.contract import optimum as contracts
    from edgepact.mechanisms.contract.audit import audit_menu
    from edgepact.mechanisms.contract.lottery import WideContract
    from edgepact.mechanisms.contract.sure import about_the_draw, drawn_as_json

    contract = read_contract(file)
    if isinstance(contract, WideContract):
        return _solve_wide_contract(contract, as_json)
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        menu = contracts.optimal_menu(contract)
        first_best = contracts.profit(contract, contracts.complete_information(contract))
        profit, rents = contracts.profit(contract, menu), contracts.rents(contract, menu)
        virtual_cost = contracts.virtual_cost(contract)
    results = (menu.quality, menu.reward, rents, virtual_cost, profit, first_best)
    if not all(np.isfinite(each).all() for each in results):
        expected = "numbers whose sizes lie closer together"
        raise InputError(file, "", expected, "a contract without a finite solution in float64")
    audit = audit_menu(contract, menu)
    if as_json:
        answer: dict[str, Any] = {
            "menu": menu.as_json(),
            "virtual_cost": virtual_cost.tolist(),
            "profit": profit,
            "rents": rents.tolist(),
            "first_best_profit": first_best,
            "audit": audit.as_json(),
        }
        print_json(answer | drawn_as_json(contract, menu))
        return audit.broken
    from rich.console import Console
    from rich.table import Table

    from edgepact.tables import figure

    beside = float(np.max(np.abs(menu.reward)))
    table = Table()
    for title in ("type", "cost", "probability", "quality", "reward", "rent"):
        table.add_column(title, justify="right")
    columns = [contract.psi, contract.probability, menu.quality, menu.reward, rents]
    if menu.chance is not None:
        table.add_column("chance", justify="right")
        columns.append(menu.engaged)
    for at, row in enumerate(zip(*columns, strict=True), start=1):
        table.add_row(str(at), *(figure(each, beside) for each in row))
    console = Console()
    console.print(table)
    console.print(f"profit {profit:.6g} credits; if costs were public {first_best:.6g}")
    if menu.chance is not None:
        console.print(about_the_draw(contract, menu))
    for question, found in audit.as_json().items():
        told = found if isinstance(found, bool) else figure(found, beside)
        console.print(f"{question.replace('_', ' ')}: {told}")
    return audit.broken


def _solve_auction(file: Path, as_json: bool) -> tuple[str, ...]:
    import numpy as np

    from edgepact.files.auction import read_auction
    from edgepact.mechanisms.auction.audit import audit_auction

    read = read_auction(file)
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        award = read.auction.award(read.bids)
    if not np.isfinite(award.payments).all():
        expected = "numbers whose sizes lie closer together"
        raise InputError(file, "", expected, "an auction without finite payments in float64")
    audit = audit_auction(read.auction, read.bids)
    if as_json:
        winners = [read.names[at] for at in np.flatnonzero(award.wins)]
        answer: dict[str, Any] = {
            "winners": winners,
            "payments": dict(zip(read.names, award.payments.tolist(), strict=True)),
        }
        if award.unit_price is not None:
            answer["unit_price"] = float(award.unit_price)
        print_json(answer | {"audit": audit.as_json()})
        return audit.broken
    from rich.console import Console

    from edgepact.tables import auction_audit_table, auction_table

    console = Console()
    console.print(auction_table(read, award))
    console.print(auction_audit_table(read.auction, audit))
    return audit.broken


def _solve_wide_contract(contract: Any, as_json: bool) -> tuple[str, ...]:
    from edgepact.mechanisms.contract.audit import audit_lotteries
    from edgepact.mechanisms.contract.lottery import first_best_profit, lottery_menu

    menu, first_best = lottery_menu(contract), first_best_profit(contract)
    broken = audit_lotteries(contract, menu).broken
    if as_json:
        print_json(menu.as_json() | {"first_best_profit": first_best})
        return broken
    from rich.console import Console
    from rich.table import Table

    from edgepact.tables import figure

    beside = max(abs(float(each)) for each in menu.reward)
    table = Table()
    for title in ("type", "costs", "probability", "quality", "reward", "rent"):
        table.add_column(title, justify="right")
    for at, items in enumerate(menu.items(), start=1):
        costs = ", ".join(f"{cost:.6g}" for cost in contract.psi[at - 1])
        sure = len(items) == 1
        quality = "\n".join(
            f"{'none' if q is None else f'{q:.6g}'}{'' if sure else f' at {chance:.1%}'}"
            for q, chance in items
        )
        row = (contract.probability[at - 1], menu.reward[at - 1], menu.rents[at - 1])
        shown = [figure(each, beside) for each in row]
        table.add_row(str(at), costs, shown[0], quality, *shown[1:])
    console = Console()
    console.print(table)
    console.print(f"profit {menu.profit:.6g} credits; if costs were public {first_best:.6g}")
    console.print(menu.about_lotteries())
    console.print(
        f"largest gain from lying: {figure(menu.largest_gain_from_lying, beside, 3)} credits"
    )
    loss = figure(menu.largest_loss_from_taking_part, beside, 3)
    console.print(f"largest loss from taking part: {loss} credits")
    return broken
