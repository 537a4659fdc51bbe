"""Games in which the best price is hard to find, and learners that play many of them at once.

The profit of a fleet has a peak wherever a device enters. If entry prices lie far apart, a false
peak lies far from the best price, behind a valley in which everything earns less, and a learner
that climbs stays on it for good. Where prices may be posted that are far too high, most of what it
tries loses money, and the peaks are a small part of what it sees.

`learn` trains learners on fleets of one size side by side, as one compiled program, and tells
their shares of the gain over no trade and of the range (`mechanisms.stackelberg.score`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.compiled import keep_compiled
from edgepact.fleet import Fleet, Interval
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.score import Gain, Range, gain_of, range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.problem import State, flat_observation
from edgepact.solvers.learners.training import Learner, Solver, play

BETA, LAYERS_MAX = 12.0, 12
"""Of all games here: b, what a layer saves the server, is 12 credits, and prices go to it."""

LEAST_FALSE, MOST_FALSE = 0.3, 0.97
"""Second best peak, as a share of the gain of the best, of fleets drawn by `far_apart`."""

LANES = 4
"""Games kept for evaluation."""


class Learned(NamedTuple):
    """What learners reached, `learners epochs`: all seeds of the first fleet, then of the next."""

    gain: Float[np.ndarray, "learners epochs"]
    range: Float[np.ndarray, "learners epochs"]


def exact_game(problem: RepeatedPricing, fleet: Fleet) -> Game:
    """The game in NumPy arrays, so that its optimum and its range are exact."""
    return problem.game(jax.tree.map(lambda column: np.asarray(column, float), fleet))


def pricing(fleet: Fleet, high: float) -> RepeatedPricing:
    """The game of a fleet, priced from 0 to `high` credits per layer."""
    return RepeatedPricing(fleet, price=Interval(0.0, high), beta=BETA, revenue=300.0)


def two_peaks() -> Fleet:
    """The fleet of `examples/two-peaks.toml`.

    The best price is 0.96, and at 5.37 there is a false peak of 69 % of its gain.
    """
    columns = ([1.0, 60.0], [13.0, 13.0], [1.0, 1.0], [1.0, 1.0])
    return Fleet(*(np.asarray(column) for column in columns))


def far_apart(count: int, seed: int = 0) -> list[Fleet]:
    """Fleets of three whose entry prices lie so far apart that the profit has a false peak.

    Some have it above the best price and some below; it has 30 to 97 % of the best gain, and
    other prices earn less on the way there.

    Args:
        count: of fleets.
        seed: of alpha, log-uniform from 0.1 to 100, and W, uniform from 8 to 14.
    """
    rng = np.random.default_rng(seed)
    fleets: list[Fleet] = []
    prices = np.geomspace(0.002 * BETA, BETA, 4001)
    while len(fleets) < count:
        alpha, capacity = 10.0 ** rng.uniform(-1.0, 2.0, 3), rng.uniform(8.0, 14.0, 3)
        fleet = Fleet(alpha, capacity, np.ones(3), np.full(3, 0.5))
        game = Game(fleet, 0.0, BETA, 0.0, BETA, layers_max=LAYERS_MAX, integer=False)
        gain = np.asarray(outcome(game, prices).server_utility) - float(gain_of(game).alone)
        peaks = np.sort(gain[1:-1][(gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])])
        if len(peaks) > 1 and LEAST_FALSE <= peaks[-2] / peaks[-1] <= MOST_FALSE:
            fleets.append(fleet)
    return fleets


def learn(
    solver: Solver,
    fleets: Sequence[Fleet],
    high: float,
    *,
    seed: int,
    seeds: int,
    epochs: int,
    on_epochs: Callable[[int], None] = lambda epochs: None,
) -> Learned:
    """Trains `seeds` learners on each fleet, and judges them after every epoch.

    Args:
        solver: the way to learn.
        fleets: of one size.
        high: the highest price, credits per layer; the lowest is 0.
        seed: of all randomness.
        seeds: learners on each fleet.
        epochs: of `solver.rounds_per_epoch` rounds.
        on_epochs: called with the number of epochs done, after each.
    """

    def begin(fleet: Fleet, key: PRNGKeyArray) -> tuple[Learner, State]:
        problem = pricing(fleet, high)
        of_learner, of_lanes = jax.random.split(key)
        lanes = jax.vmap(problem.reset)(jax.random.split(of_lanes, LANES))
        return solver.init(problem, of_learner), lanes

    def epoch(
        fleet: Fleet, carry: tuple[Learner, State], key: PRNGKeyArray
    ) -> tuple[tuple[Learner, State], Array]:
        problem = pricing(fleet, high)
        learner, states = carry
        of_epoch, of_lanes = jax.random.split(key)
        learner = solver.epoch(problem, learner, of_epoch)

        def lane(key: PRNGKeyArray, state: State) -> tuple[State, Array]:
            of_action, of_step = jax.random.split(key)
            action = solver.act(learner, of_action, flat_observation(problem, state))
            after, payoff = play(problem, of_step, state, action)
            return after, payoff.leader

        states, utility = jax.vmap(lane)(jax.random.split(of_lanes, LANES), states)
        return (learner, states), jnp.mean(utility)

    keep_compiled()
    each = [jax.tree.map(lambda column: np.asarray(column, float), fleet) for fleet in fleets]
    together = jax.tree.map(lambda *columns: jnp.asarray(np.stack(columns), jnp.float32), *each)
    of_begin, of_epochs = jax.random.split(jax.random.key(seed))
    shape = (len(fleets), seeds)
    every_seed = (None, 0, 0)
    run = jax.jit(jax.vmap(jax.vmap(epoch, every_seed)), donate_argnums=1)
    carry = jax.jit(jax.vmap(jax.vmap(begin, every_seed[:2])))(
        together, jax.random.split(of_begin, shape)
    )
    utilities = []
    for number in range(epochs):
        keys = jax.random.split(jax.random.fold_in(of_epochs, number), shape)
        carry, utility = run(together, carry, keys)
        utilities.append(np.asarray(utility, float))
        on_epochs(number + 1)
    utility = np.stack(utilities, axis=-1)
    games = [exact_game(pricing(fleet, high), fleet) for fleet in each]
    scores: list[tuple[Gain | Range, ...]] = [(gain_of(game), range_of(game)) for game in games]
    shares = (
        np.concatenate([own[at].share(of) for own, of in zip(scores, utility, strict=True)])
        for at in (0, 1)
    )
    return Learned(*shares)
