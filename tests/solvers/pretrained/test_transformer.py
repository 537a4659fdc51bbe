"""A transformer pretrained to decide: what it reads, and what it may not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.solvers.in_context.policy_file import Weights
from edgepact.solvers.pretrained import transformer
from edgepact.solvers.pretrained.transformer import (
    GRID,
    SHIPPED,
    History,
    Terms,
    Transformer,
    scores,
    sizes,
)
from edgepact.solvers.quoter import Known
from edgepact.solvers.quoting import play, reference_fleets

KNOWN = Known(saving=1.0, layers_max=12, price_min=0.05, price_max=3.0, devices=4, integer=True)


def random_weights(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(size) / np.sqrt(size[0]), np.zeros(size[1]))
        for name, size in sizes().items()
    }


WEIGHTS = random_weights()


def rounds(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.06, 0.99, number), rng.integers(0, 13, (number, 4)).astype(float)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), number=st.integers(0, 24), greedy=st.booleans())
def test_the_order_of_devices_changes_not_a_bit(seed: int, number: int, greedy: bool) -> None:
    quoter = Transformer(weights=WEIGHTS, greedy=greedy)
    prices, layers = rounds(seed, number)
    turned = layers[:, np.random.default_rng(seed).permutation(4)]
    price = quoter.quote(seed, KNOWN, prices, layers)
    assert quoter.quote(seed, KNOWN, prices, turned) == price
    assert KNOWN.price_min <= price <= KNOWN.price_top


def test_devices_that_were_away_are_as_if_there_were_none() -> None:
    quoter = Transformer(weights=WEIGHTS)
    prices, layers = rounds(0, 3)
    present = np.ones(layers.shape, dtype=bool)
    present[:, 1] = False
    other = np.where(present, layers, 12.0 - layers)
    assert quoter.quote(0, KNOWN, prices, layers, present) == quoter.quote(
        0, KNOWN, prices, other, present
    )


def test_before_a_round_only_earlier_ones_are_looked_at() -> None:
    rng = np.random.default_rng(1)
    terms = Terms(*(np.float64(x) for x in (-3.0, 0.0, 12.0, 1.0, 4.0)))
    history = History(*rng.uniform(size=(3, 6)))
    all_of_them = scores(WEIGHTS, terms, history)
    assert all_of_them.shape == (7, GRID)
    for number in range(7):
        fewer = scores(WEIGHTS, terms, History(*(part[:number] for part in history)))
        assert fewer == pytest.approx(all_of_them[: number + 1], abs=1e-9)


def test_draws_are_as_likely_as_it_says() -> None:
    weights = {**WEIGHTS, "out": (0.0 * WEIGHTS["out"][0], np.full(GRID, -50.0))}
    weights["out"][1][[100, 400]] = np.log([0.25, 0.75])
    quoter = Transformer(weights=weights, greedy=False)
    prices, layers = rounds(0, 2)
    drawn = np.array([quoter.quote(seed, KNOWN, prices, layers) for seed in range(400)])
    low, high = (KNOWN.price_at(at / (GRID - 1)) for at in (100, 400))
    assert set(drawn) == {low, high}
    assert np.mean(drawn == high) == pytest.approx(0.75, abs=0.09)  # four deviations
    assert Transformer(weights=weights).quote(0, KNOWN, prices, layers) == high


def test_weights_are_kept_in_half_precision(tmp_path: Path) -> None:
    transformer.save(tmp_path / "t.npz", WEIGHTS)
    kept = transformer.load(tmp_path / "t.npz")
    for name, layer in WEIGHTS.items():
        for one, other in zip(layer, kept[name], strict=True):
            assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
    (tmp_path / "t.npz").write_bytes(b"no weights")
    with pytest.raises(InputError, match="a transformer pretrained to decide"):
        transformer.load(tmp_path / "t.npz")


class TestShipped:
    def test_it_is_small(self) -> None:
        assert SHIPPED.stat().st_size < 300_000

    @pytest.mark.parametrize("integer", [False, True])
    def test_it_learnt_where_the_best_price_lies(self, integer: bool) -> None:
        games = reference_fleets(4242, 25, integer=integer)
        shares = play(Transformer.shipped(), games, rounds=4, seed=0).mean(axis=0)
        assert shares[3] > 0.95
