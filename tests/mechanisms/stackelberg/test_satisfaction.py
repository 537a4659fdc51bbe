"""Each satisfaction family against its definition: slopes, supply, the stationary price."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction

families = pytest.mark.parametrize("S", FAMILIES.values(), ids=FAMILIES)
LEFT = np.geomspace(1e-2, 12.0, 400)
"""Remaining computing, GMAC."""


@families
class TestShape:
    def test_marginal_is_the_slope(self, S: Satisfaction) -> None:
        step = 1e-5 * LEFT
        slope = (S.value(LEFT + step) - S.value(LEFT - step)) / (2.0 * step)
        np.testing.assert_allclose(S.marginal(LEFT), slope, rtol=1e-5)

    def test_strictly_increasing_and_strictly_concave(self, S: Satisfaction) -> None:
        assert np.all(np.diff(S.value(LEFT)) > 0)
        assert np.all(np.diff(S.marginal(LEFT)) < 0)

    def test_at_zero(self, S: Satisfaction) -> None:
        at_zero = S.value(np.zeros(1))[0]
        assert S.open_at_zero == np.isneginf(at_zero)
        assert S.open_at_zero or at_zero == 0.0

    def test_price_term_increases(self, S: Satisfaction) -> None:
        assert np.all(np.diff(S.price_term(np.geomspace(1e-3, 20.0, 200))) > 0)

    def test_numpy_and_jax_agree(self, S: Satisfaction) -> None:
        k, c, bc = np.array([[3.0, 20.0, 0.5], [1.0, 8.0, 5.0], [2.0, 4.0, 30.0]])
        alpha, room, A = np.array([[3.0, 20.0], [2.0, 9.0], [0.5, 1.5]])
        for method, arguments in {
            "value": (LEFT,),
            "marginal": (LEFT,),
            "price_term": (LEFT,),
            "supply_law": (alpha, room, A),
            "stationary_price": (k, c, bc),
        }.items():
            exact = np.array(getattr(S, method)(*arguments))
            single = getattr(S, method)(*(jnp.asarray(each, jnp.float32) for each in arguments))
            single = jnp.stack(single) if isinstance(single, tuple) else single
            assert isinstance(single, jnp.ndarray)
            np.testing.assert_allclose(single, exact, rtol=2e-5)


@families
@given(
    alpha=st.floats(0.5, 40.0),
    room=st.floats(1.0, 14.0),
    A=st.floats(0.2, 1.5),
    price=st.floats(0.05, 15.0),
)
def test_supply_law_is_the_brute_force_answer(
    S: Satisfaction, alpha: float, room: float, A: float, price: float
) -> None:
    """Utility over a fine grid of layers peaks where the law says, or at an end."""
    most = room / A
    layers = np.linspace(0.0, most, 4001)[:-1]
    utility = price * layers + alpha * S.value(room - A * layers)
    found = layers[np.argmax(utility)]
    k, c = S.supply_law(*(np.array(each) for each in (alpha, room, A)))
    law = np.clip(k + c * S.price_term(np.array(price)), 0.0, most)
    assert found == pytest.approx(law, abs=1.01 * most / 4000)


@families
@given(
    k=st.floats(0.5, 200.0),
    c=st.floats(0.05, 200.0),
    b=st.floats(0.1, 12.0),
)
def test_profit_is_largest_at_the_stationary_price(
    S: Satisfaction, k: float, c: float, b: float
) -> None:
    """On one piece the profit has slope zero there and is lower on both sides."""

    def profit(price: np.ndarray) -> np.ndarray:
        term = S.price_term(price)
        return b * c * term - price * (k + c * term)

    peak = S.stationary_price(*(np.array(each) for each in (k, c, b * c)))
    assert peak > 0.0
    around = peak * np.array([0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 2.0])
    values = profit(around)
    assert np.argmax(values) == 3
    step = 1e-5 * peak
    slope = (profit(peak + step) - profit(peak - step)) / (2.0 * step)
    scale = np.abs(values).max() / peak
    assert abs(slope) < 1e-5 * scale


def test_families_are_listed_by_name() -> None:
    assert all(family.name == name for name, family in FAMILIES.items())
    assert set(FAMILIES) == {"log1p", "log", "sqrt", "exp"}
