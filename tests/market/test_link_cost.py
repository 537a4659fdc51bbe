"""What a device's link costs it, and how fast it takes the link to be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.engagement import chosen, posted, truthful_bids
from edgepact.inference.codecs import INT8
from edgepact.inference.models import embedded, samples
from edgepact.jobs.classification import CLASSIFICATION
from edgepact.market.link_cost import LinkSpeed, sent_bytes, with_link
from edgepact.market.own_cost import computing_cost
from edgepact.mechanisms.stackelberg.link import LINK_COLUMNS, Links, Traffic, link_costs
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.terms import Game
from tests.strategies import games, numbers


@st.composite
def linked(draw: st.DrawFn) -> tuple[Game, Links, list[float]]:
    game = draw(games(integer=True, outside_option=False, devices_max=3))
    many, layers = len(game.fleet), game.layers_max

    def column(low: float, high: float) -> np.ndarray:
        return np.array(draw(st.lists(numbers(low, high), min_size=many, max_size=many)))

    links = Links(
        link_mbit=column(0.01, 100.0),
        round_trip_ms=column(0.0, 500.0),
        time_cost=column(0.0, 20.0),
        energy_cost=column(0.0, 500.0),
    )
    sizes = st.lists(st.integers(10, 30_000).map(float), min_size=layers + 1, max_size=layers + 1)
    return game, links, draw(sizes)


@given(linked(), st.floats(0.0, 16.0))
def test_a_live_device_answers_as_the_game_says(
    stated: tuple[Game, Links, list[float]], price: float
) -> None:
    game, links, sizes = stated
    traffic = Traffic(sent_bytes=sizes)
    micro = round(price * 1e6)
    there = outcome(replace(game, link=link_costs(links, traffic, np)), micro / 1e6)
    fleet = game.fleet
    question = posted(micro, game.layers_max)
    for at in range(len(fleet)):
        if not fleet.capacity[at] - fleet.B[at] > 0:
            continue
        cost = with_link(
            computing_cost(
                alpha=float(fleet.alpha[at]),
                capacity=float(fleet.capacity[at]),
                A=float(fleet.A[at]),
                B=float(fleet.B[at]),
                satisfaction=game.satisfaction.name,
            ),
            Links(**{name: float(getattr(links, name)[at]) for name in LINK_COLUMNS}),
            dict(enumerate(traffic.sent_bytes)),
        )
        item = chosen(question, cost)
        layers = 0.0 if item is None else question.menu[item].amount
        gain = micro * layers - cost(layers)
        best = micro * there.layers[at] - cost(float(there.layers[at]))
        # Up to the ties of whole micro-credits, the best responses are the same.
        assert gain >= best - question.tie_microcredits - 1e-6 * (1.0 + abs(best))


def test_a_link_that_is_worth_nothing_leaves_the_cost_alone() -> None:
    cost = computing_cost(alpha=2.0, capacity=4.0, A=1.0, B=0.0, satisfaction="sqrt")
    assert with_link(cost, Links(link_mbit=0.1, round_trip_ms=9.0), {0: 1.0}) is cost


def test_what_sending_less_is_worth_is_never_asked_to_be_paid_for() -> None:
    cost = computing_cost(alpha=1e-6, capacity=4.0, A=1.0, B=0.0, satisfaction="sqrt")
    links = Links(link_mbit=0.001, round_trip_ms=0.0, time_cost=1.0)
    cheaper = with_link(cost, links, {0: 500.0, 1: 100.0, 2: 100.0})
    assert cheaper(1.0) < 0
    assert truthful_bids([1.0], cheaper) == (0,)


def test_the_cuts_of_a_model_send_what_their_codec_makes_of_them() -> None:
    part = CLASSIFICATION.device_part(embedded(), samples(), {})
    found = sent_bytes(part, INT8)
    first = part.source(part.pieces()[0])
    spec = part.expects(1, 0)[0]
    _, tokens, width = spec.shape
    assert found[1] == tokens * (width + 4)  # a byte a number and a scale a token
    assert found[part.model.amount_max] < found[1]
    assert len(first) / 3 < found[0] < 3 * len(first)
    assert list(found) == list(range(part.model.amount_max + 1))


def test_round_trip_and_rate_are_told_apart() -> None:
    speed = LinkSpeed()
    assert (speed.round_trip_ms, speed.link_mbit) == (None, None)
    for seconds in (0.25, 0.2, 0.3):
        speed.note(300, seconds)
    speed.note(50_000, 0.2 + 0.4)
    speed.note(50_000, 0.0)  # no clock runs backwards into a rate
    assert speed.round_trip_ms == pytest.approx(200.0)
    assert speed.link_mbit == pytest.approx(1.0)
