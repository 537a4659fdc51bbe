"""The steps where clients train a model together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.efficiency.compression import at_rate, measure
from edgepact.files.scenario import Scenario, Training
from edgepact.live.steps.tables import WORDS, Record, Step, yes
from edgepact.mechanisms.auction.audit import audit_auction
from edgepact.mechanisms.auction.rules import ProportionalShare
from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.optimum import (
    Contract,
    complete_information,
    profit,
    virtual_cost,
)
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.progress import progress_bar
from edgepact.solvers.quoters import OPTIMUM
from edgepact.training.federated.bidding import BySecondScore
from edgepact.training.federated.composition import (
    by_price,
    contract_of,
    engagement_of,
    fleet_of,
    offer_of,
)
from edgepact.training.federated.config import TrainConfig
from edgepact.training.federated.contract import items
from edgepact.training.federated.engagement import MICRO, chosen
from edgepact.training.federated.posted import ByPrice
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.run import Trained, expect_ready, train
from edgepact.training.federated.simulated import Simulated, name_of
from edgepact.training.federated.task import TaskConfig, task_of


def train_together(
    scenario: Scenario, job: Training, out: Path, smoke: bool, record: Record
) -> None:
    """Trains; tells the steps as they are known."""
    config = train_config(scenario, job, out)
    config = config.smoke() if smoke else config
    expect_ready(config)
    contract = contract_of(config)
    fleet = fleet_of(config, contract)
    if scenario.method == "compression":
        assert contract is not None
        record.add(_compression(contract, fleet))
    else:
        record.add(_selection(fleet, config))
    posted = by_price(config, contract) if scenario.mechanism == "stackelberg" else None
    if posted is not None:
        record.add(_posted(posted, fleet))
    elif scenario.mechanism == "contract":
        assert contract is not None
        record.add(_contract(contract))
        record.add(_menu(contract, config))
    else:
        record.add(_auction(config, contract, fleet))
    with progress_bar("train together") as advance:
        trained = train(config, advance)
    if posted is not None:
        record.add(_prices(posted, fleet, trained.history, scenario.solver))
    elif scenario.mechanism == "auction":
        record.add(_awards(trained.history, fleet))
    record.add(_training(trained))


def train_config(scenario: Scenario, job: Training, out: Path) -> TrainConfig:
    """What `edgepact train` would be asked for."""
    task = TaskConfig(seed=job.seed, layers=job.layers)
    if job.data is not None:
        task = replace(task, data=job.data)
    return TrainConfig(
        clients=job.clients,
        rounds=job.rounds,
        dirichlet=job.dirichlet,
        mechanism=scenario.mechanism,
        contract=scenario.terms,
        solver=None if scenario.mechanism == "auction" else scenario.solver,
        worth=scenario.worth,
        rate=job.rate,
        per_round=job.per_round,
        aggregate=job.aggregate,
        budget=scenario.budget,
        selector=job.selector,
        costs=(job.cost_min, job.cost_max),
        deadline_s=job.deadline_s,
        task=task,
        out=out,
    )


def _compression(contract: Contract, fleet: Simulated) -> Step:
    """What rates save and lose, on the first update of a client."""
    client = fleet.client(0)
    start = task_of(fleet.task).start()
    trained, _ = client.task.train(start, client.images, seed=[fleet.seed, 0])
    offered = {item.rate for item in items(contract, sure_menu(contract))}
    rng = np.random.default_rng(fleet.seed)
    rows = []
    for rate in sorted({*offered, contract.quality_max, 1.0}):
        found = measure(at_rate(rate), trained - start, rng)
        less = 4 * start.size / found.bytes
        rows.append(
            (f"{rate:.4f}", f"{found.bytes:,}", f"{less:.1f}", f"{found.relative_error:.4f}")
        )
    head = ("rate", "bytes of an update", "times fewer", "relative error")
    note = "Measured on one client's first update; what is cut off is added to its next one."
    return Step(1, WORDS["compression"], head, tuple(rows), (note,))


def _selection(fleet: Simulated, config: TrainConfig) -> Step:
    clients = [fleet.client(number) for number in range(fleet.clients)]
    columns = {
        "images held": np.array([len(each.images) for each in clients], float),
        "kinds of garments": np.array([len(np.unique(each.images.labels)) for each in clients]),
        "seconds of training": np.array([each.speed.compute_s for each in clients if each.speed]),
        "seconds of sending": np.array(
            [config.rate * each.speed.upload_s for each in clients if each.speed]
        ),
    }
    rows = tuple(
        (name, *(f"{np.quantile(column, share):.4g}" for share in (0.0, 0.5, 1.0)))
        for name, column in columns.items()
    )
    spread = f"labels spread by a Dirichlet distribution of {fleet.dirichlet:g}"
    note = f"{fleet.clients} clients, {spread}."
    return Step(1, WORDS["selection"], ("of a client", "least", "median", "most"), rows, (note,))


def _contract(contract: Contract) -> Step:
    menu, charge = sure_menu(contract), virtual_cost(contract)
    audit = audit_menu(contract, menu).as_json()
    rows = tuple(
        (f"{at}", *(f"{each:.5g}" for each in row))
        for at, row in enumerate(
            zip(
                contract.psi,
                contract.probability,
                charge,
                menu.quality,
                menu.reward,
                strict=True,
            ),
            start=1,
        )
    )
    first = profit(contract, complete_information(contract))
    told = "; ".join(
        f"{question.replace('_', ' ')}: {_told(each)}" for question, each in audit.items()
    )
    return Step(
        2,
        "contract: a menu of rates and rewards, each client takes an item; its exact optimum",
        ("type", "cost", "probability", "virtual cost", "rate", "reward"),
        rows,
        (
            f"Expected profit {profit(contract, menu):.5g} credits a client; if costs were public "
            f"{first:.5g}.",
            f"Audit: {told}.",
        ),
    )


def _menu(contract: Contract, config: TrainConfig) -> Step:
    best, menu = profit(contract, sure_menu(contract)), offer_of(config, contract)
    earned = profit(contract, menu)
    rows = tuple(
        (f"{at}", f"{quality:.5g}", f"{reward:.5g}")
        for at, (quality, reward) in enumerate(zip(menu.quality, menu.reward, strict=True), start=1)
    )
    audit = audit_menu(contract, menu)
    return Step(
        3,
        f"{config.solver or OPTIMUM}: the menu that is offered",
        ("type", "rate", "reward"),
        rows,
        (
            f"It earns {earned:.5g} credits a client, {_share(earned, best)} of the optimum; "
            f"the largest gain from a lie is {audit.largest_gain_from_lying:.2g} credits.",
        ),
    )


def _auction(config: TrainConfig, contract: Contract | None, fleet: Simulated) -> Step:
    if contract is not None:
        rule = engagement_of(config, contract)
        assert isinstance(rule, BySecondScore)
        costs = [fleet.cost(number) for number in range(fleet.clients)]
        by_rate = tuple(
            (
                f"{rate:.4f}",
                f"{worth:.4f}",
                f"{np.mean([each.microcredits(rate) for each in costs]) / MICRO:.4f}",
            )
            for rate, worth in zip(rule.rates, rule.worth_credits, strict=True)
        )
        return Step(
            2,
            "second-score auction: clients bid on every rate, the highest scores win",
            ("rate", "worth of a typical update", "mean private cost"),
            by_rate,
            ("A winner is paid what its rate is worth less the best losing score: truthful.",),
        )
    assert config.budget is not None
    costs_microcredits = np.array(
        [fleet.cost(number).microcredits(config.rate) for number in range(fleet.clients)]
    )
    held = np.array([len(fleet.client(number).images) for number in range(fleet.clients)], float)
    rule_held = ProportionalShare(values=held, budget=config.budget)
    award = rule_held.award(costs_microcredits / MICRO)
    audit = audit_auction(rule_held, costs_microcredits / MICRO)
    rows = (
        ("budget of a round, credits", f"{config.budget:g}"),
        ("winners, if all bid the truth", f"{int(award.wins.sum())} of {fleet.clients}"),
        ("they are paid, credits", f"{float(award.payments.sum()):.4f}"),
        ("their costs, credits", f"{float(costs_microcredits[award.wins].sum()) / MICRO:.4f}"),
        ("nobody loses by taking part", yes(audit.individually_rational)),
        ("payments stay within the budget", yes(audit.budget_balanced)),
        (
            f"largest gain from {audit.lies_tried:,} lies, credits",
            f"{audit.largest_gain_from_lying:.2g}",
        ),
    )
    return Step(
        2,
        "proportional-share auction: clients bid, winners are paid their threshold",
        ("in the first round, worth by images held", "value"),
        rows,
        ("The auction itself decides nothing here; with another selector its pay is posted.",)
        if config.selector not in (None, "auction")
        else (),
    )


def _awards(history: tuple[Round, ...], fleet: Simulated) -> Step:
    cost = {name_of(number): fleet.cost(number) for number in range(fleet.clients)}
    rows = []
    for played in history[1:]:
        promised = sum(each.reward_microcredits for each in played.deliveries) / MICRO
        own = sum(cost[each.client].microcredits(each.rate) for each in played.deliveries) / MICRO
        rows.append(
            (f"{played.number}", f"{len(played.deliveries)}", f"{promised:.4f}", f"{own:.4f}")
        )
    return Step(
        3,
        "the rule itself: thresholds are exact for any bids, nothing is left to search",
        ("round", "winners", "promised, credits", "their private costs"),
        tuple(rows),
    )


def _steps_taken(posted: ByPrice, fleet: Simulated, price_microcredits: int) -> int:
    """Steps that all clients together take at a price."""
    menu = posted.menu(price_microcredits)
    taken = [chosen(menu, fleet.cost(number)) for number in range(fleet.clients)]
    return sum(posted.steps - place for place in taken if place is not None)


def _taken(posted: ByPrice) -> str:
    return "clients that train" if posted.steps == 1 else "steps of all clients"


def _earned(posted: ByPrice, fleet: Simulated, price_microcredits: int) -> float:
    """What a price leaves the server, credits."""
    margin = posted.saving_credits - price_microcredits / MICRO
    return margin * _steps_taken(posted, fleet, price_microcredits)


def best_price(posted: ByPrice, fleet: Simulated) -> int:
    """The price that earns most of all, in micro-credits, if every private cost were known.

    Costs are convex in the rate, so a client takes a step more exactly where the price reaches
    what that step costs it: some of those prices is best, and no other.
    """
    steps = np.arange(posted.steps + 1) / posted.steps * posted.rate_max
    prices = set()
    for number in range(fleet.clients):
        cost = fleet.cost(number)
        total = np.array([cost.microcredits(rate) for rate in steps])
        total -= cost.participation_credits * MICRO * (steps == 0.0)
        # With a cost for taking part at all, the first steps are taken together.
        first = np.min((total[1:] - total[0]) / np.arange(1, posted.steps + 1))
        prices |= {int(np.ceil(each)) for each in (*np.diff(total), first)}
    allowed = [each for each in prices if 0 < each <= posted.saving_credits * MICRO] or [1]
    return max(sorted(allowed), key=lambda price: _earned(posted, fleet, price))


def _posted(posted: ByPrice, fleet: Simulated) -> Step:
    price = best_price(posted, fleet)
    unit = "an update" if posted.steps == 1 else f"one of {posted.steps} steps of the rate"
    rows = (
        (f"worth of {unit}, credits", f"{posted.saving_credits:.5g}"),
        ("best price, credits", f"{price / MICRO:.5g}"),
        (f"{_taken(posted)} for it", f"{_steps_taken(posted, fleet, price)}"),
        ("left to the server, credits a round", f"{_earned(posted, fleet, price):.5g}"),
    )
    return Step(
        2,
        f"Stackelberg game: the server posts a price for {unit}; its exact optimum",
        ("if every private cost were known", "value"),
        rows,
        ("Clients answer with what pays them best, none being a choice: nobody loses.",),
    )


def _prices(posted: ByPrice, fleet: Simulated, history: tuple[Round, ...], solver: str) -> Step:
    best = _earned(posted, fleet, best_price(posted, fleet))
    rows = []
    for played in history[1:]:
        price = posted.price_microcredits(played.number)
        left = _earned(posted, fleet, price)
        steps = _steps_taken(posted, fleet, price)
        share = _share(left, best)
        rows.append((f"{played.number}", f"{price / MICRO:.5g}", f"{steps}", f"{left:.5g}", share))
        posted.observe(played)
    return Step(
        3,
        f"{solver}: prices posted in the rounds of training",
        ("round", "price", _taken(posted), "left to the server", "share of the optimum"),
        tuple(rows),
        ("A share of 0 is nothing left.",),
    )


def _training(trained: Trained) -> Step:
    rows = tuple((name, value) for name, value in trained.figures())
    return Step(4, "federated training over Flower", ("figure", "value"), rows)


def _share(earned: float, best: float) -> str:
    """In percent; a dash where nothing can be earned."""
    return f"{earned / best:.2%}" if best > 0.0 else "-"


def _told(answer: Any) -> str:
    return yes(answer) if isinstance(answer, bool) else f"{answer:.2g}"
