"""Forms of halves and price together: against brute force, and against the known game."""

from collections.abc import Callable
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from edgepact.errors import InputError
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.halves import (
    Forms,
    HalvesGame,
    believed_best,
    best_halves,
    best_price,
    brought,
    quoted,
    settled,
)
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import kept_value, layer_prices, layers_cap
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pacts.compression_stackelberg_model import audited
from tests.strategies import games


@st.composite
def halves(
    draw: st.DrawFn, *, flat: bool = False, outside_option: bool = False
) -> Callable[[], HalvesGame]:
    """Two or three forms, with accuracies that rise and fall from cut to cut unless flat.

    What is drawn is made in the test: the type checker of tests draws at random itself.
    """
    game = draw(games(integer=True, outside_option=outside_option, devices_max=3))
    count, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    shares = rng.integers(1, 7, (3, count)) / 4
    cuts = 1 if flat else game.layers_max + 1
    accuracy = rng.integers(0, 9, (count, count, cuts)) / 8

    def made() -> HalvesGame:
        forms = Forms(
            names=tuple("abc"[:count]),
            layer_share=shares[0],
            before_share=shares[1],
            server_share=shares[2],
            accuracy=np.repeat(accuracy, game.layers_max + 1 if flat else 1, axis=2),
        )
        return HalvesGame(game=game, forms=forms)

    return made


def utilities(game: Game) -> np.ndarray:
    """What each device keeps at each number of layers; minus infinity beyond its cap."""
    steps = range(game.layers_max + 1)
    count = len(game.fleet)
    kept = np.stack([np.asarray(kept_value(game, np.full(count, float(k)))) for k in steps], 1)
    return np.where(np.arange(game.layers_max + 1) <= layers_cap(game)[:, None], kept, -np.inf)


def distinct(problem: HalvesGame) -> bool:
    """Whether layers cost a device something: with room for very many of them, or where S is flat,
    all cost nearly nothing, and rounding decides between them."""
    cheapest = float(np.min(layer_prices(problem.game)))
    return cheapest > 1e-6 and float(problem.game.fleet.capacity.max()) <= 14


def brute_force(problem: HalvesGame, device: int, server: int) -> float:
    """The server's best utility over a grid of prices and all prices of indifference."""
    game = problem.fixed(device, server)
    kept, steps = utilities(game), np.arange(game.layers_max + 1)
    low, high = float(game.price_min), float(game.price_max)
    ties = [
        (kept[n, i] - kept[n, j]) / (j - i)
        for n in range(len(kept))
        for i in steps
        for j in steps[i + 1 :]
        if np.isfinite(kept[n, j])
    ]
    prices = np.concatenate([np.linspace(low, high, 60), ties])
    each = problem.game.revenue / len(game.fleet)
    worth = each * problem.forms.accuracy[device, server] - np.asarray(game.saving)[:, None] * (
        game.layers_max - steps
    )
    best = -np.inf
    for price in prices[(prices >= low) & (prices <= high)]:
        own = kept + price * steps
        # Ties go as the server likes: rounding must not break them.
        slack = 1e-11 * (1 + np.abs(np.where(np.isfinite(own), own, 0)).max())
        allowed = own >= own.max(axis=1, keepdims=True) - slack
        best = max(best, np.where(allowed, worth - price * steps, -np.inf).max(axis=1).sum())
    return float(best)


@settings(max_examples=25)
@given(halves())
def test_the_best_price_of_each_pair_is_that_of_brute_force(made: Callable[[], HalvesGame]) -> None:
    problem = made()
    assume(distinct(problem))
    for pair in problem.pairs[::4]:
        found = best_price(problem, *pair)
        scale = 1 + abs(found.server_utility)
        assert found.server_utility == pytest.approx(brute_force(problem, *pair), abs=1e-6 * scale)
        game = problem.fixed(*pair)
        own = utilities(game) + found.price * np.arange(game.layers_max + 1)
        reached = own[np.arange(len(own)), found.layers.astype(int)]
        assert (reached >= own.max(axis=1) - 1e-8 * (1 + np.abs(reached))).all()


@settings(max_examples=25)
@given(halves(outside_option=True))
def test_declining_is_brute_forced_too(made: Callable[[], HalvesGame]) -> None:
    problem = made()
    assume(distinct(problem))
    pair = problem.pairs[-1]
    found = best_price(problem, *pair)
    scale = 1 + abs(found.server_utility)
    assert found.server_utility >= brute_force(problem, *pair) - 1e-6 * scale


@settings(max_examples=25)
@given(halves())
def test_all_pairs_are_tried_and_the_best_comes_first(made: Callable[[], HalvesGame]) -> None:
    problem = made()
    found = best_halves(problem)
    assert sorted((each.device, each.server) for each in found) == sorted(problem.pairs)
    assert found[0].server_utility == max(
        best_price(problem, *p).server_utility for p in problem.pairs
    )


@settings(max_examples=25)
@given(halves(flat=True))
def test_with_one_accuracy_at_all_cuts_it_is_the_known_game(made: Callable[[], HalvesGame]) -> None:
    problem = made()
    for device, server in problem.pairs:
        accuracy = float(problem.forms.accuracy[device, server, 0])
        game = problem.fixed(device, server)
        known = equilibrium(replace(game, revenue=game.revenue * accuracy))
        found = best_price(problem, device, server)
        scale = 1 + abs(found.server_utility)
        assert found.server_utility == pytest.approx(float(known.server_utility), abs=1e-9 * scale)
        nearest = quoted(problem, device, server)
        assert float(nearest.beta) == pytest.approx(float(game.beta), abs=1e-9 * scale)
        assert float(nearest.revenue) == pytest.approx(game.revenue * accuracy, abs=1e-9 * scale)


@settings(max_examples=25)
@given(halves())
def test_what_is_settled_adds_up(made: Callable[[], HalvesGame]) -> None:
    problem = made()
    device, server = problem.pairs[0]
    found = best_price(problem, device, server)
    again = settled(problem, device, server, found.price, found.layers)
    assert again.server_utility == found.server_utility
    assert found.payments.sum() == pytest.approx(found.price * found.layers.sum())
    assert 0 <= found.accuracy <= 1


GAME = Game(
    fleet=Fleet(*(np.array([each]) for each in (3.0, 20.0, 1.0, 0.5))),
    revenue=100.0,
    beta=1.0,
    price_min=0.05,
    price_max=2.0,
    layers_max=4,
)


def forms(accuracy: np.ndarray, layer_share: tuple[float, float] = (1.0, 0.5)) -> Forms:
    return Forms(
        names=("original", "small"),
        layer_share=np.array(layer_share),
        before_share=np.ones(2),
        server_share=np.array([1.0, 1.0]),
        accuracy=accuracy,
    )


def test_a_cheaper_form_is_chosen_where_it_costs_no_accuracy() -> None:
    best = best_halves(HalvesGame(game=GAME, forms=forms(np.full((2, 2, 5), 0.9))))[0]
    assert best.device == 1
    dear = np.full((2, 2, 5), 0.9)
    dear[1, :, 1:] = 0.5  # each layer of it loses far more than it saves
    best = best_halves(HalvesGame(game=GAME, forms=forms(dear)))[0]
    assert (best.device, best.accuracy) == (0, 0.9)


def test_a_layer_that_spoils_the_answer_is_not_bought() -> None:
    falling = np.full((2, 2, 5), 0.9)
    falling[:, :, 3:] = 0.1
    problem = HalvesGame(game=GAME, forms=forms(falling))
    assert best_price(problem, 0, 0).layers.max() <= 2
    # Not a game at all where every layer loses: nothing is saved.
    assert float(quoted(problem, 0, 0).beta) == 0.0


def test_accuracy_that_layers_bring_is_worth_more_than_the_computing_they_save() -> None:
    rising = np.broadcast_to(np.linspace(0.1, 0.9, 5), (2, 2, 5))
    fleet = Fleet(*(np.array([each]) for each in (60.0, 20.0, 1.0, 0.5)))
    dear = replace(GAME, fleet=fleet, revenue=1000.0, price_max=20.0)
    problem = HalvesGame(game=dear, forms=forms(rising))
    best = best_halves(problem)[0]
    game = problem.fixed(best.device, best.server)
    paid, saved = float(best.payments.sum()), float(np.sum(game.saving * best.layers))
    assert paid > saved
    assert brought(problem, best) > paid
    found = audited(problem, best)
    assert (found.individually_rational, found.budget_balanced) == (True, True)


def test_pairs_below_the_floor_are_left_out() -> None:
    accuracy = np.full((2, 2, 5), 0.9)
    accuracy[1, 1, 3] = 0.4
    problem = HalvesGame(game=GAME, forms=forms(accuracy), accuracy_least=0.5)
    assert problem.pairs == ((0, 0), (0, 1), (1, 0))
    with pytest.raises(InputError, match=r"accuracy_least: expected at most 0\.9"):
        HalvesGame(game=GAME, forms=forms(accuracy), accuracy_least=0.95)


def test_forms_can_be_chosen_from_what_is_believed() -> None:
    problem = HalvesGame(game=GAME, forms=forms(np.full((2, 2, 5), 0.9)))
    twice = Fleet(*(np.array([each, each]) for each in (3.0, 20.0, 1.0, 0.5)))
    found, alone = believed_best(problem, twice), best_halves(problem)[0]
    assert (found.device, found.server, found.price) == (alone.device, alone.server, alone.price)
    assert found.server_utility == pytest.approx(2 * alone.server_utility)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "a")}, "forms.*names"),
        ({"layer_share": np.array([1.0, 0.0])}, "layer_share"),
        ({"server_share": np.array([1.0, np.nan])}, "server_share"),
        ({"accuracy": np.full((2, 2, 5), 1.1)}, "accuracy"),
    ],
)
def test_impossible_forms_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(forms(np.full((2, 2, 5), 0.9)), **change)


def test_other_cuts_and_parts_of_layers_are_refused() -> None:
    flat = forms(np.full((2, 2, 4), 0.9))
    with pytest.raises(InputError, match="expected 5 cuts"):
        HalvesGame(game=GAME, forms=flat)
    with pytest.raises(InputError, match="integer"):
        HalvesGame(game=replace(GAME, integer=False), forms=forms(np.full((2, 2, 5), 0.9)))
