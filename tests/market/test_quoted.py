"""Prices of live rounds by a way to quote, with devices that come and go."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from edgepact.engagement import Answer, Finished, posted
from edgepact.errors import MarketError
from edgepact.market.quoted_price import QuotedPrice
from edgepact.solvers.in_context.pricing import InContext
from edgepact.solvers.quoter import Known
from edgepact.solvers.search.golden_section import GoldenSection

KNOWN = Known(saving=1.0, layers_max=12, price_min=0.05, price_max=3.0, devices=2, integer=True)
HISTORY = [
    (300_000, {"a": 4, "b": 6, "gone": 11}),
    (400_000, {}),
    (500_000, {"c": 2, "b": 8, "lazy": 0}),
]


def next_price(quoter: Any, history: list[tuple[int, dict[str, int]]]) -> float:
    """What is posted after some rounds, credits."""
    mechanism = QuotedPrice(quoter, KNOWN, 0)
    for number, (price, layers) in enumerate(history, 1):
        menu = posted(price, KNOWN.layers_max)
        took = {name: KNOWN.layers_max - count for name, count in layers.items() if count}
        mechanism.observe(
            Finished(
                number=number,
                question=menu,
                answers={name: Answer(item=took.get(name)) for name in layers},
                assigned={name: menu.menu[item] for name, item in took.items()},
            )
        )
    question = mechanism.question(len(history) + 1)
    assert len(question.menu) == KNOWN.layers_max
    assert question.price_microcredits is not None
    return question.price_microcredits / 1e6


@dataclass(frozen=True)
class Recorder:
    """Keeps what it was shown; not told of absence."""

    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False
    shown: list[tuple[Any, ...]] = field(default_factory=list)

    def quote(
        self,
        seed: int,
        known: Known,
        prices: np.ndarray,
        layers: np.ndarray,
        present: np.ndarray | None = None,
    ) -> float:
        self.shown.append((known.devices, prices.tolist(), layers.tolist(), present))
        return 0.6


@dataclass(frozen=True)
class Another(Recorder):
    """Told of absence, and no `InContext`: what it declares counts, not its type."""

    knows_absence: ClassVar[bool] = True


def test_who_knows_absence_is_told_of_it_whatever_its_type() -> None:
    quoter = Another()
    assert next_price(quoter, HISTORY) == 0.6
    devices, prices, layers, present = quoter.shown[0]
    assert (devices, prices) == (3, [0.3, 0.5])
    assert layers == [[6.0, 0.0, 0.0], [8.0, 2.0, 0.0]]
    assert present.tolist() == [[True, False, False], [True, True, True]]


def test_others_see_the_mean_answer_in_place_of_one_that_was_away() -> None:
    quoter = Recorder()
    next_price(quoter, HISTORY)
    assert quoter.shown == [(3, [0.3, 0.5], [[6.0, 7.0, 7.0], [8.0, 2.0, 0.0]], None)]


def test_a_first_price_needs_no_history() -> None:
    for quoter in (GoldenSection(), InContext.shipped(), Recorder(), Another()):
        assert 0.05 <= next_price(quoter, []) <= 3.0


@pytest.mark.parametrize("bounds", [(1e-29, 2e-29), (1e-9, 1.0), (2.0, 1.0), (1.0, 1.0 + 1e-9)])
def test_bounds_between_which_no_price_lies_are_refused(bounds: tuple[float, float]) -> None:
    mechanism = QuotedPrice(GoldenSection(), KNOWN, 0)
    with pytest.raises(MarketError, match="expected bounds of whole micro-credits, from 1e-06 to"):
        mechanism.bound_prices(*bounds)
    assert mechanism.price_bounds == (KNOWN.price_min, KNOWN.price_max)


def test_a_price_that_rounds_to_nothing_does_not_end_the_market() -> None:
    """Nobody can quote from what 0 buys: what is posted is a micro-credit at least, and a round
    at 0 that an older ledger holds is left out."""
    low = replace(KNOWN, price_min=1e-9, price_max=2e-9)
    mechanism = QuotedPrice(GoldenSection(), low, 0)
    free = posted(0, KNOWN.layers_max)
    mechanism.observe(Finished(number=1, question=free, answers={"a": Answer()}, assigned={}))
    for number in (2, 3):
        question = mechanism.question(number)
        assert question.price_microcredits == 1
        mechanism.observe(
            Finished(number=number, question=question, answers={"a": Answer()}, assigned={})
        )
