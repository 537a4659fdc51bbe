"""Menus: any of them is truthful, feasible and leaves nobody worse off."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction.affine_maximiser import (
    AffineMaximiser,
    Demand,
    Sale,
    check,
    deterministic,
    leading_bids,
    most_by_any_bid,
    sell,
    softly,
)
from edgepact.mechanisms.auction.misreport import search
from edgepact.solvers.learned_auctions.menus import soft_lies


def random_menu(seed: int, bidders: int, items: int, demand: Demand) -> AffineMaximiser:
    rng = np.random.default_rng(seed)
    allocations = rng.dirichlet(np.full(bidders + 1, 0.5), (8, items)).transpose(0, 2, 1)[:, :-1]
    # Without lotteries there are ties, of allocations and of boosts.
    allocations = np.concatenate([allocations, deterministic(bidders, items)[:9]])
    if demand == "unit":
        allocations = allocations / np.maximum(allocations.sum(2, keepdims=True), 1.0)
    boosts = np.round(rng.normal(0.0, 0.3, len(allocations)), 1)
    return AffineMaximiser(allocations, boosts, rng.uniform(0.5, 2.0, bidders))


def by_hand(menu: AffineMaximiser, bids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One auction, as the formula has it, with loops."""
    size, bidders, items = menu.allocations.shape

    def welfare(k: int, without: int | None) -> float:
        return menu.boosts[k] + sum(
            menu.weights[i] * bids[i, j] * menu.allocations[k, i, j]
            for i in range(bidders)
            for j in range(items)
            if i != without
        )

    chosen = max(range(size), key=lambda k: welfare(k, None))
    paid = [
        (max(welfare(k, i) for k in range(size)) - welfare(chosen, i)) / menu.weights[i]
        for i in range(bidders)
    ]
    return menu.allocations[chosen], np.array(paid)


# Arguments of `random_menu`, which is called in the test: the type checker looks at items of
# sequences at random, and Hypothesis lets nothing draw that it does not know of.
menus = st.tuples(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["additive", "unit"]),
)

Drawn = tuple[int, int, int, Demand]


@given(menus, st.integers(0, 1000))
def test_a_sale_is_what_the_formula_says_and_nobody_loses(drawn: Drawn, seed: int) -> None:
    menu = random_menu(*drawn)
    check(menu)
    values = np.random.default_rng(seed).random((6, menu.bidders, menu.items))
    sale = sell(menu, values)
    for row in range(len(values)):
        allocation, paid = by_hand(menu, values[row])
        assert np.array_equal(sale.allocation[row], allocation)
        assert sale.payments[row] == pytest.approx(paid, abs=1e-12)
    assert np.all(sale.allocation.sum(1) <= 1.0 + 1e-12)
    assert np.all(sale.payments >= -1e-12)
    assert np.all(sale.utility(values) >= -1e-12)


@given(menus, st.integers(0, 1000))
def test_no_bid_at_all_earns_more_than_the_truth(drawn: Drawn, seed: int) -> None:
    menu = random_menu(*drawn)
    values = np.random.default_rng(seed).random((20, menu.bidders, menu.items))
    assert np.all(most_by_any_bid(menu, values) <= sell(menu, values).utility(values) + 1e-12)


@pytest.mark.parametrize(("seed", "demand"), [(0, "additive"), (1, "unit")])
def test_a_strong_search_finds_no_lie_that_pays(seed: int, demand: Demand) -> None:
    menu = random_menu(seed, 2, 2, demand)
    rng = np.random.default_rng(seed)
    values = rng.random((40, 2, 2))
    known = [soft_lies(menu, values, low=0.0, high=1.0, temperature=t) for t in (0.03,)]
    found = search(
        lambda bids: sell(menu, bids), values, low=0.0, high=1.0, rng=rng, known=known, restarts=20
    )
    assert found.worst <= 1e-9
    for row in range(3):
        for bidder in range(2):
            lies = leading_bids(menu, values[row], bidder)
            reported = np.repeat(values[row][None], len(lies), axis=0)
            reported[:, bidder] = lies
            truth = np.repeat(values[row][None], len(lies), axis=0)
            gain = sell(menu, reported).utility(truth) - sell(menu, truth).utility(truth)
            assert np.max(gain[:, bidder], initial=0.0) <= 1e-9


def test_the_search_finds_what_lies_bring_where_they_pay() -> None:
    def pay_your_bid(bids: np.ndarray) -> Sale:
        won = (bids[:, :, 0] == bids[:, :, 0].max(1, keepdims=True)).astype(float)
        return Sale(won[:, :, None], won * bids[:, :, 0])

    values = np.array([[[0.9], [0.3]], [[0.2], [0.6]]])
    found = search(pay_your_bid, values, low=0.0, high=1.0, rng=np.random.default_rng(0))
    assert found.gain == pytest.approx(np.array([[0.6, 0.0], [0.0, 0.4]]), abs=1e-4)
    assert found.bids[0, 0, 0] == pytest.approx(0.3, abs=1e-4)


def test_with_one_bidder_it_is_a_menu_of_prices() -> None:
    # The optimum of Manelli and Vincent for two items, uniform on [0, 1].
    boosts = -np.array([0.0, 2 / 3, 2 / 3, (4 - np.sqrt(2)) / 3])
    menu = AffineMaximiser(deterministic(1, 2)[[0, 1, 2, 3]], boosts, np.ones(1))
    middle = (np.arange(1500) + 0.5) / 1500
    values = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 1, 2)
    best = 4 / 9 + 2 * np.sqrt(2) / 27
    assert sell(menu, values).payments.mean() == pytest.approx(best, abs=2e-4)


def test_traced_in_float32_it_is_the_same_and_softly_tends_to_it() -> None:
    menu = random_menu(5, 3, 2, "additive")
    values = np.random.default_rng(1).random((50, 3, 2))
    exact = sell(menu, values)
    traced = AffineMaximiser(*(jnp.asarray(part) for part in vars(menu).values()))
    for sale in (
        sell(traced, jnp.asarray(values)),
        softly(traced, jnp.asarray(values), 1e-5),
        softly(menu, values, 1e-6),
    ):
        assert np.allclose(sale.payments, exact.payments, atol=1e-4)
        assert np.allclose(sale.allocation, exact.allocation, atol=1e-3)


def test_unit_demand_leaves_lotteries_over_matchings() -> None:
    assert len(deterministic(2, 2)) == 9
    assert len(deterministic(2, 2, "unit")) == 7
    with pytest.raises(InputError, match="at most 65536"):
        deterministic(3, 10)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a, b, w: (a + 0.8, b, w), "probabilities"),
        (lambda a, b, w: (np.full_like(a, 0.6), b, w), "each item at most once"),
        (lambda a, b, w: (a, b * np.inf, w), "finite"),
        (lambda a, b, w: (a, b, w * 0.0), "numbers above 0"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(spoil, message: str) -> None:
    allocations = deterministic(2, 2)
    parts = spoil(allocations, np.ones(len(allocations)), np.ones(2))
    with pytest.raises(InputError, match=message):
        check(AffineMaximiser(*parts))


def test_two_items_for_a_bidder_of_unit_demand_are_refused() -> None:
    menu = AffineMaximiser(deterministic(1, 2), np.zeros(4), np.ones(1))
    check(menu)
    with pytest.raises(InputError, match="one item a bidder"):
        check(menu, "unit")
