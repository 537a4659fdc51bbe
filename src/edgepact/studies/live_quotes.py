"""Quotes as a live market makes them, without its processes.

What decides is what decides in `edgepact run`: the pact's own engagement is asked for a price in
each round, hears what the devices have taken, and quotes the next. The devices are those that the
run would start; they answer with the layers that pay them best. Left out are sockets, images and
money, none of which has a say in the price.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from edgepact.credits import in_credits
from edgepact.engagement import Answer, Finished, Learning
from edgepact.files.stackelberg import GameFile
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import best_response, outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.score import gain_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pacts.partition_stackelberg import PartitionTerms, Quoting, drawn_market
from edgepact.pacts.partition_terms import costs_of, drawn_names
from edgepact.solvers.by_name import DEFAULT
from edgepact.work import Model


def run_market(seed: int) -> GameFile:
    """The devices that `edgepact run` draws from a seed, and the server's terms."""
    terms = PartitionTerms(source=Path("run"), seed=seed, solver=DEFAULT)
    return drawn_market(terms, costs_of(terms))


def live_example() -> GameFile:
    """The market of `examples/live.toml`."""
    fleet = Fleet(
        alpha=np.array([1.5, 3.0, 5.0]),
        capacity=np.array([0.012, 0.015, 0.02]),
        A=np.full(3, 0.000819),
        B=np.full(3, 0.00005),
    )
    game = Game(
        fleet=fleet,
        revenue=60.0,
        beta=1221.0,
        price_min=0.05,
        price_max=1.2,
        layers_max=12,
        integer=True,
        satisfaction=FAMILIES["log"],
    )
    return GameFile(source=Path("live"), game=game, names=drawn_names(len(fleet)))


def play_live(market: GameFile, *, rounds: int, seed: int) -> Float[np.ndarray, " rounds"]:
    """Plays rounds of a live market whose devices stay and do not change.

    Args:
        market: devices and server.
        rounds: to play.
        seed: of the noise that prices are drawn from.

    Returns:
        What each round's price earns, as a share of the gain over no trade.
    """
    game = market.game
    model = Model(name="model", amount_max=game.layers_max)
    engagement = Quoting(solver=DEFAULT, market=market, seed=seed).engagement(model, seed)
    assert isinstance(engagement, Learning)  # what quotes does
    shares = np.empty(rounds)
    for at in range(rounds):
        question = engagement.question(at + 1)
        assert question.price_microcredits is not None  # prices are posted here
        price = in_credits(question.price_microcredits)
        layers: list[int] = best_response(game, price).astype(int).tolist()
        # The menu has the most layers first.
        items = [game.layers_max - each if each else None for each in layers]
        answers = {name: Answer(item=item) for name, item in zip(market.names, items, strict=True)}
        engagement.observe(
            Finished(
                number=at + 1,
                question=question,
                answers=answers,
                assigned=engagement.engage(at + 1, question, answers),
            )
        )
        shares[at] = gain_of(game).share(outcome(game, price).server_utility)
    return shares
