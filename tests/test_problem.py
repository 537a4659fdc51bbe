"""The seam: mistakes in a problem are told in words, before anything is compiled."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from edgepact.errors import InputError
from edgepact.fleet import FleetPrior
from edgepact.mechanisms.auction.problem import AuctionDesign
from edgepact.mechanisms.contract.problem import MenuDesign
from edgepact.mechanisms.stackelberg.class_pricing import ClassPricing
from edgepact.mechanisms.stackelberg.layer_pricing import LayerPricing
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.problem import Payoff, Problem, check, check_seen


def _payoff(leader: Array, followers: Array, payments: Array, reward: Array) -> Payoff:
    """A payoff of any shapes, as a user makes it who has no type checker about."""
    made = object.__new__(Payoff)
    for name, value in zip(
        ("leader", "followers", "payments", "reward"),
        (leader, followers, payments, reward),
        strict=True,
    ):
        object.__setattr__(made, name, value)
    return made


class Toy(Problem):
    """Guess a number; one mistake by name."""

    mistake: str = eqx.field(static=True, default="")

    @property
    def action_size(self) -> int:
        return 0 if self.mistake == "no action" else 2

    def reset(self, key: PRNGKeyArray) -> Float[Array, " two"]:
        return jax.random.uniform(key, (2,))

    def observe(self, state: Array) -> object:
        if self.mistake == "sees nothing":
            return ()
        return jnp.zeros(1, int) if self.mistake == "sees integers" else state

    def step(self, key: PRNGKeyArray, state: Array, action: Array) -> tuple[Array, Payoff]:
        after = state[:1] if self.mistake == "loses state" else state
        return after, self._earned(jnp.sum(action), self.mistake)

    def optimum(self, state: Array) -> Payoff:
        return self._earned(jnp.ones(()), self.mistake.removeprefix("best: "))

    def best_action(self, state: Array) -> Array:
        return jnp.zeros(3 if self.mistake == "another action" else 2)

    def guess(self, state: Array) -> Array | None:
        return jnp.zeros(2) if self.mistake == "two guesses" else None

    def finished(self, state: Array) -> Bool[Array, ""]:
        return jnp.zeros(()) if self.mistake == "half finished" else jnp.asarray(True)

    def _earned(self, earned: Array, mistake: str) -> Payoff:
        one, each = earned, jnp.zeros(4)
        if mistake == "leader a vector":
            return _payoff(each, each, each, one)
        if mistake == "reward a vector":
            return _payoff(one, each, each, each)
        if mistake == "one payment":
            return _payoff(one, each, one, one)
        if mistake == "followers a matrix":
            return _payoff(one, each[None], each[None], one)
        return Payoff(one, each, each, one)


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("no action", "Toy: action_size: expected a whole number of at least 1, found 0"),
        ("sees nothing", r"Toy: observe\(\): expected at least one array"),
        ("sees integers", r"Toy: observe\(\): .* floating point numbers, found int32 \(1,\)"),
        ("leader a vector", r"Toy: step\(\).leader: .*found float32 \(4,\)"),
        ("reward a vector", r"Toy: step\(\).reward: .*found float32 \(4,\)"),
        ("one payment", r"Toy: step\(\).payments: expected numbers, \(4,\), found float32 \(\)"),
        ("followers a matrix", r"Toy: step\(\).followers: .*a vector, found float32 \(1, 4\)"),
        ("best: one payment", r"Toy: optimum\(\).payments"),
        ("another action", r"Toy: best_action\(\): expected numbers, \(2,\), found float32 \(3,\)"),
        ("two guesses", r"Toy: guess\(\): expected one floating point number"),
        ("half finished", r"Toy: finished\(\): expected one truth value.*found float32"),
        ("loses state", r"Toy: step\(\), state: expected float32 \(2,\) as reset\(\) made it"),
    ],
)
def test_each_piece_of_another_shape_is_named(mistake: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        check(Toy(mistake=mistake))


@pytest.mark.parametrize(
    "problem",
    [
        Toy(),
        RepeatedPricing(FleetPrior(), devices=3),
        ClassPricing(),
        LayerPricing(),
        MenuDesign(),
        AuctionDesign(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_our_own_problems_fit(problem: Problem) -> None:
    check(problem)


def test_what_is_seen_must_be_finite() -> None:
    check_seen(Toy(), jnp.ones(3))
    with pytest.raises(InputError, match=r"Toy: observe\(\): .*found nan at place 1"):
        check_seen(Toy(), jnp.array([0.0, jnp.nan]))


class Tabled(Toy):
    """The same with a table of its own."""

    table: Array = eqx.field(kw_only=True)
    how: object = eqx.field(static=True, default="summed")

    def optimum(self, state: Array) -> Payoff:
        best = float(self.table[0]) if self.how == "as a number" else jnp.max(self.table)
        return self._earned(jnp.asarray(best, jnp.float32), "")


def test_values_of_arrays_are_unknown_to_what_is_compiled() -> None:
    check(Tabled(table=jnp.ones(3)))
    with pytest.raises(InputError, match=r"Tabled: optimum\(\): expected operations of JAX"):
        check(Tabled(table=jnp.ones(3), how="as a number"))


class Stateless(Toy):
    """The same, which forgets the state that comes after."""

    def step(self, key: PRNGKeyArray, state: Array, action: Array) -> Payoff:  # type: ignore[override]
        return super().step(key, state, action)[1]


def test_a_step_without_the_next_state_is_named() -> None:
    with pytest.raises(InputError, match=r"Stateless: step\(\): .* as a pair, found a Payoff"):
        check(Stateless())
