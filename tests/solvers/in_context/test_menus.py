"""Menus in context: what the shipped policy earns, keeps and refuses."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.mechanisms.contract.audit import audit_menu, largest_gain_from_lying
from edgepact.mechanisms.contract.optimum import menu_at, optimal_menu
from edgepact.mechanisms.contract.quality import Log1p, fit_concave
from edgepact.mechanisms.contract.responses import profit, rents
from edgepact.mechanisms.contract.take_up import frequencies
from edgepact.mechanisms.contract.terms import Contract
from edgepact.solvers.in_context import menus, menus_training
from edgepact.solvers.in_context.menus import SHIPPED, TYPES, InContextMenus, load, save
from edgepact.solvers.in_context.menus_training import Course
from edgepact.studies.contract import Config, past_take_up, priors

SIZE_MAX = 500_000


def populations(number: int, prior: str = "as trained on") -> list[Contract]:
    rng = np.random.default_rng(77)
    return [priors(Config())[prior](rng) for _ in range(number)]


def test_told_frequencies_it_earns_nearly_the_optimum_and_breaks_no_promise() -> None:
    policy, shares = InContextMenus.shipped(), []
    for contract in populations(60):
        menu = menu_at(contract, policy.prices(0, contract.psi, contract.probability))
        shares.append(profit(contract, menu) / profit(contract, optimal_menu(contract)))
        audit = audit_menu(contract, menu)
        assert audit.incentive_compatible
        assert audit.largest_loss_from_taking_part <= 1e-9 * float(menu.reward.max() + 1.0)
    assert np.mean(shares) > 0.99
    assert np.percentile(shares, 5) > 0.97
    assert max(shares) <= 1.0 + 1e-9


def test_where_little_is_known_it_earns_more_than_the_plug_in_rule() -> None:
    policy, rng = InContextMenus.shipped(), np.random.default_rng(5)
    own, plugged = [], []
    for contract in populations(60):
        seen = past_take_up(rng, contract, 3, 10)
        guess = np.maximum(frequencies(seen, np.ones(len(contract.psi))), 1e-9)
        best = profit(contract, optimal_menu(contract))
        menu = menu_at(contract, policy.prices(0, contract.psi, seen))
        plug_in = optimal_menu(replace(contract, probability=guess / guess.sum()))
        own.append(profit(contract, menu) / best)
        plugged.append(profit(contract, plug_in) / best)
    assert np.mean(own) > np.mean(plugged) + 0.01


def test_order_and_units_do_not_matter() -> None:
    policy = InContextMenus.shipped()
    psi, p = np.array([2.0, 5.0, 1.0]), np.array([0.2, 0.5, 0.3])
    price = policy.prices(3, psi, p)
    turned = policy.prices(3, psi[::-1], p[::-1])[::-1]
    assert price == pytest.approx(turned, rel=1e-12)
    assert policy.prices(3, 100.0 * psi, p) == pytest.approx(100.0 * price, rel=1e-4)
    assert price[1] >= price[0] >= price[2]
    assert np.array_equal(price, policy.prices(3, psi, p))


def test_a_measured_value_function_is_served_too() -> None:
    value = fit_concave(np.array([0.0, 0.1, 0.4, 1.0]), np.array([0.1, 0.7, 0.8, 0.85]))
    contract = Contract(
        psi=np.array([1.0, 0.7, 0.3]), probability=np.array([0.3, 0.3, 0.4]), value=value
    )
    policy = InContextMenus.shipped()
    menu = menu_at(contract, policy.prices(0, contract.psi, contract.probability))
    assert profit(contract, menu) > 0.98 * profit(contract, optimal_menu(contract))


def test_whatever_prices_are_no_promise_is_broken() -> None:
    rng = np.random.default_rng(2)
    for contract in populations(20):
        menu = menu_at(contract, rng.uniform(0.1, 9.0, len(contract.psi)))
        slack = 1e-9 * float(menu.reward.max() + 1.0)
        assert largest_gain_from_lying(contract, menu) <= slack
        assert np.min(rents(contract, menu)) >= -slack
    with pytest.raises(InputError, match="prices above 0"):
        menu_at(contract, np.zeros(len(contract.psi)))


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    policy = InContextMenus.shipped()
    with pytest.raises(InputError, match="1 to 16 types"):
        policy.prices(0, np.ones(TYPES + 1), np.full(TYPES + 1, 1.0 / (TYPES + 1)))
    with pytest.raises(InputError, match="costs above 0"):
        policy.prices(0, np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    (tmp_path / "bad.npz").write_bytes(b"no weights")
    for name in ("bad.npz", "missing.npz"):
        with pytest.raises(InputError, match="a trained policy"):
            load(tmp_path / name)


def test_the_file_is_small_and_comes_back_as_it_was(tmp_path: Path) -> None:
    assert SHIPPED.stat().st_size < SIZE_MAX
    assert SHIPPED.with_suffix(".md").is_file()
    policy = load(SHIPPED)
    save(tmp_path / "again.npz", policy)
    again = load(tmp_path / "again.npz")
    for name, (weight, bias) in policy.weights.items():
        assert np.array_equal(again.weights[name][0], weight)
        assert np.array_equal(again.weights[name][1], bias)


def test_a_single_type_is_paid_its_cost() -> None:
    contract = Contract(
        psi=np.array([2.0]), probability=np.array([1.0]), value=Log1p(scale=10.0), quality_max=9.0
    )
    price = InContextMenus.shipped().prices(0, contract.psi, contract.probability)
    assert price == pytest.approx([2.0], rel=0.05)


@pytest.mark.slow
def test_training_learns_and_pools_hold_what_is_seen() -> None:
    course = Course(populations=2000, pools=1, updates=400)
    pool = menus_training.make_pool(9, course, 500)
    best = menus_training.best_prices(pool)
    shares = jax.jit(menus_training.share_earned)
    again = menus.prices_of(pool.scene, menus.action_of(pool.scene, best))
    assert float(jnp.min(shares(pool, again))) > 0.999
    policy = menus_training.train_policy(0, course)

    def earned(policy: menus.Policy) -> float:
        noise = jax.random.normal(jax.random.key(0), (500, menus.STEPS, 1, TYPES))
        drawn = menus.draw(policy, pool.scene, noise)[:, 0]
        return float(jnp.mean(shares(pool, menus.prices_of(pool.scene, drawn))))

    # Without weights it is the plug-in rule.
    nothing = {
        name: (np.zeros(size, np.float32), np.zeros(size[1], np.float32))
        for name, size in menus.sizes().items()
    }
    plug_in = earned(policy._replace(weights=nothing))
    assert 0.95 < plug_in < earned(policy) + 0.002
