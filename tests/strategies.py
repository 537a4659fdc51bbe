"""Hypothesis strategies: random games, fleets and bids, ordinary and nasty ones."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgepact.fields import SIZE_MIN
from edgepact.fleet import Fleet
from edgepact.mechanisms.contract.quality import Linear, Log1p, Measured, Saturating, Value
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    # Round values make coincidences likely: equal thresholds, prices exactly at one.
    # Smaller ones than SIZE_MIN are refused wherever games are read.
    fine = st.floats(low, high).filter(lambda x: x == 0.0 or abs(x) >= SIZE_MIN)
    coarse = st.integers(int(np.ceil(low * 4)), int(np.floor(high * 4))).map(lambda k: k / 4)
    return st.one_of(fine, coarse.filter(lambda x: low <= x <= high))


@st.composite
def fleets(draw: st.DrawFn, devices_max: int = 6, common: bool | None = None) -> Fleet:
    size = draw(st.integers(1, devices_max))
    if common is None:
        common = draw(st.booleans())

    def column(low: float, high: float, shared: bool = False) -> np.ndarray:
        if shared:
            return np.full(size, draw(numbers(low, high)))
        return np.array(draw(st.lists(numbers(low, high), min_size=size, max_size=size)))

    return Fleet(
        alpha=column(0.25, 60.0),
        capacity=column(0.0, draw(st.sampled_from([14.0, 14.0, 2000.0]))),
        A=column(0.25, 1.5, shared=common),
        B=column(0.0, 1.5, shared=common),
    )


@st.composite
def games(
    draw: st.DrawFn,
    *,
    integer: bool | None = None,
    outside_option: bool | None = None,
    family: str | None = None,
    common: bool | None = None,
    devices_max: int = 6,
) -> Game:
    price_min = draw(st.sampled_from([0.0, 0.0, 0.25, 1.0]))
    return Game(
        fleet=draw(fleets(devices_max=devices_max, common=common)),
        revenue=draw(numbers(0.0, 200.0)),
        beta=draw(st.one_of(st.just(0.0), numbers(0.25, 12.0))),
        price_min=price_min,
        price_max=price_min + draw(numbers(0.25, 15.0)),
        layers_max=draw(st.integers(1, 14)),
        integer=draw(st.booleans()) if integer is None else integer,
        satisfaction=FAMILIES[family or draw(st.sampled_from(sorted(FAMILIES)))],
        outside_option=draw(st.booleans()) if outside_option is None else outside_option,
    )


@st.composite
def linked_games(draw: st.DrawFn, *, devices_max: int = 6) -> Game:
    """Whole layers, and links whose cost rises, falls and jumps from cut to cut."""
    game = draw(games(integer=True, devices_max=devices_max))
    shape = (len(game.fleet), game.layers_max)
    cells = shape[0] * shape[1]
    cost = draw(st.lists(numbers(-10.0, 10.0), min_size=cells, max_size=cells))
    return replace(game, link=np.reshape(cost, shape) * draw(st.sampled_from([1.0, 0.05, 20.0])))


@st.composite
def ordered_games(draw: st.DrawFn, *, devices_max: int = 6, layers_max: int = 14) -> Game:
    """Whole layers, and devices in one common order: later ones bear more for every layer.

    They weigh their satisfaction more, or have less room, or need more for a layer; each of
    the three may be the same for all.
    """
    size = draw(st.integers(1, devices_max))

    def rising(low: float, high: float) -> np.ndarray:
        if draw(st.booleans()):
            return np.full(size, draw(numbers(low, high)))
        return np.sort(draw(st.lists(numbers(low, high), min_size=size, max_size=size)))

    capacity = rising(0.0, draw(st.sampled_from([14.0, 14.0, 200.0])))[::-1]
    fleet = Fleet(rising(0.25, 60.0), capacity, rising(0.25, 1.5), rising(0.0, 1.5))
    return Game(
        fleet=fleet,
        revenue=draw(numbers(0.0, 200.0)),
        beta=draw(st.one_of(st.just(0.0), numbers(0.25, 12.0))),
        price_min=0.0,
        price_max=20.0,
        layers_max=draw(st.integers(1, layers_max)),
        satisfaction=FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))],
    )


@st.composite
def bids_and_values(
    draw: st.DrawFn, bidders_max: int = 7, common: bool | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Bids, often equal ones, and values, often the same for all."""
    size = draw(st.integers(1, bidders_max))
    bids = draw(st.lists(numbers(0.0, 4.0), min_size=size, max_size=size))
    if draw(st.booleans()) if common is None else common:
        return np.array(bids), np.full(size, draw(numbers(0.25, 4.0)))
    values = draw(st.lists(numbers(0.25, 4.0), min_size=size, max_size=size))
    return np.array(bids), np.array(values)


@st.composite
def contract_terms(draw: st.DrawFn, *, sizes: tuple[int, ...] = (1, 2, 3, 6)) -> dict[str, Any]:
    """What makes a `Contract` with bounds and nothing else, ordinary and nasty ones."""
    size = draw(st.sampled_from(sizes))
    psi = draw(st.lists(numbers(0.25, 6.0), min_size=size, max_size=size))
    p = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=size, max_size=size)))
    scale = draw(numbers(0.25, 20.0))
    saturating = Saturating(scale=scale, rate=draw(st.sampled_from([0.25, 1.0, 3.0])))
    return {
        "psi": np.array(psi),
        "probability": p / p.sum(),
        "value": draw(st.sampled_from([Log1p(scale=scale), saturating])),
        "cost": draw(st.sampled_from(["linear", "quadratic"])),
        "quality_max": draw(numbers(0.25, 20.0)),
    }


@st.composite
def values(draw: st.DrawFn) -> Value:
    """What quality is worth: with kinks or without, from 0 up, from above or from below."""
    scale = draw(numbers(0.5, 12.0))
    form = draw(st.sampled_from(["linear", "measured", "log1p", "saturating"]))
    if form == "linear":
        return Linear(scale=scale)
    if form == "log1p":
        return Log1p(scale=scale)
    if form == "saturating":
        rate, base = draw(numbers(0.25, 3.0)), draw(st.sampled_from([0.0, -1.0, 0.5]))
        return Saturating(scale=scale, rate=rate, base=base)
    size = draw(st.integers(1, 5))
    steps = draw(st.lists(numbers(0.25, 1.0), min_size=size, max_size=size))
    slopes = sorted(draw(st.lists(numbers(0.0, 8.0), min_size=size, max_size=size)))[::-1]
    quality = np.cumsum([0.0, *steps])
    start = draw(st.sampled_from([0.0, 1.0]))
    return Measured(quality=quality, value=start + np.cumsum([0.0, *np.multiply(slopes, steps)]))


@st.composite
def all_contract_terms(
    draw: st.DrawFn, *, types_max: int = 6, own_values: bool = False
) -> dict[str, Any]:
    """All that makes a `Contract`: budgets, fixed costs, least qualities, unlike types.

    With `own_values` every type has a value function of its own.
    """
    size = draw(st.integers(1, types_max))

    def column(low: float, high: float) -> np.ndarray:
        return np.array(draw(st.lists(numbers(low, high), min_size=size, max_size=size)))

    p = np.array(draw(st.lists(st.floats(0.05, 1.0), min_size=size, max_size=size)))
    quality_max = draw(numbers(0.5, 8.0))
    devices = draw(st.sampled_from([1, 1, 7]))
    budget = draw(st.one_of(st.none(), st.just(0.0), numbers(0.05, 5.0), numbers(0.05, 1.0)))
    return dict(
        psi=column(0.25, 6.0),
        probability=p / p.sum(),
        value=[draw(values()) for _ in range(size)] if own_values else draw(values()),
        value_scale=column(0.25, 3.0) if draw(st.booleans()) else None,
        cost=draw(st.sampled_from(["linear", "quadratic"])),
        quality_min=quality_max * draw(st.sampled_from([0.0, 0.0, 0.1, 0.4])),
        quality_max=quality_max,
        devices=devices,
        budget=None if budget is None else devices * budget,
        participation_cost=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0, 3.0])),
    )
