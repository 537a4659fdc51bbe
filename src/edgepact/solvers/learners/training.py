"""How a solver learns a problem: epochs of play, each followed by an evaluation.

All learners share this loop, so that a figure compares like with like. An
*epoch* is a fixed number of rounds of the game, the same for every learner:
rounds are what an operator pays for. An epoch is one compiled program, the same for all fleets of
a size; seeds run side by side under `vmap`. How good a learner is is told by its share of the
optimum in the very games it was judged by.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy import stats

from edgepact.compiled import keep_compiled
from edgepact.errors import InputError, check_count, shown
from edgepact.fields import check_callable, check_kind
from edgepact.problem import Payoff, Problem, State, check, flat_observation

Learner = Any
"""A solver's own state: networks, optimisers, memory."""


COUNT_MAX = 10**9
"""Most of anything that learners count."""


class Solver(eqx.Module):
    """A way to find a leader's decision. Fields are its configuration."""

    @abstractmethod
    def init(self, problem: Problem, key: PRNGKeyArray) -> Learner:
        """A learner that has seen nothing."""

    @abstractmethod
    def epoch(self, problem: Problem, learner: Learner, key: PRNGKeyArray) -> Learner:
        """Plays `rounds_per_epoch` rounds and learns from them."""

    @abstractmethod
    def act(
        self, learner: Learner, key: PRNGKeyArray, observation: Float[Array, " features"]
    ) -> Float[Array, " action"]:
        """The decision without exploration."""

    @property
    @abstractmethod
    def rounds_per_epoch(self) -> int:
        """Rounds of the game played in one epoch."""


CONFIDENCE = 0.95
"""Of every interval of a share."""


class Share(NamedTuple):
    """A share of the optimum and its 95 % confidence interval, over games.

    It is `(U - guess) / (U* - guess)`, the sums taken over the same games, so that what is
    luck of the games drawn falls out; where a problem names no guess, `U / U*`. The interval
    (Student's t, of a ratio of means) says how sure the share of these very learners is over
    all games the problem may draw, and nothing of how learners differ: look at seeds for
    that. With a single game it is infinitely wide.

    Attributes:
        mean: the share; 1 is the best anybody could earn that knew everything. NaN where
            the optimum is no gain and nobody says what guessing earns.
        low, high: ends of the interval.
    """

    mean: Float[np.ndarray, "*shape"]
    low: Float[np.ndarray, "*shape"]
    high: Float[np.ndarray, "*shape"]


class Evaluation(NamedTuple):
    """The games that learners were judged by: one round of each after every epoch, credits.

    Attributes:
        utility: what the leader earned.
        optimum: what the oracle would have earned in the same round.
        guess: what guessing earns in it on average; None where the problem does not say.
        no_trade: what a leader has that trades with nobody; None likewise.
    """

    utility: Float[np.ndarray, "*shape games"]
    optimum: Float[np.ndarray, "*shape games"]
    guess: Float[np.ndarray, "*shape games"] | None
    no_trade: Float[np.ndarray, "*shape games"] | None = None

    @property
    def share(self) -> Share:
        """Shares of the optimum, over the games of the last axis."""
        return self._share_above(self.guess)

    @property
    def gain_share(self) -> Share | None:
        """Shares of the gain over no trade; None where a problem knows no such thing."""
        return None if self.no_trade is None else self._share_above(self.no_trade)

    def _share_above(self, stated: Float[np.ndarray, "*shape games"] | None) -> Share:
        zero = 0.0 if stated is None else stated
        gained, best = self.utility - zero, self.optimum - zero
        reach, games = best.mean(axis=-1), best.shape[-1]
        some = reach > 0
        reach = np.where(some, reach, 1.0)
        # Where guessing, or no trade, is as good as the best there is nothing to miss.
        mean = np.where(some, gained.mean(axis=-1) / reach, np.nan if stated is None else 1.0)
        if games == 1:
            return Share(mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf))
        off = np.where(some[..., None], gained - mean[..., None] * best, 0.0)
        error = np.sqrt(np.sum(off**2, axis=-1) / (games - 1) / games) / reach
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, games - 1)) * error
        return Share(mean, mean - half, mean + half)


class Training(NamedTuple):
    """Result of `train`.

    Attributes:
        learner: the learner after the last epoch; leading axis seeds.
        utility: the leader's mean utility after each epoch, credits.
        optimum: what the oracle would have earned in the same games, credits.
        action: the mean action after each epoch.
        share: of the optimum that `utility` is, of every seed after each epoch, shape
            `seeds epochs`, each with its interval.
        gain_share: the same of the gain over no trade; None where a problem knows no such
            thing. It is the stricter one where guessing loses money.
        evaluation: the single games behind them, shape `seeds epochs games`.
    """

    learner: Learner
    utility: Float[Array, "seeds epochs"]
    optimum: Float[Array, "seeds epochs"]
    action: Float[Array, "seeds epochs"]
    share: Share
    gain_share: Share | None
    evaluation: Evaluation

    def __repr__(self) -> str:
        """What it came to, for all its arrays fill a screen many times."""
        seeds, epochs = self.utility.shape
        last = min(10, epochs)
        mean, low, high = self.share_of_last(last)
        return (
            f"Training(seeds={seeds}, epochs={epochs}, share of the optimum over the last {last} "
            f"epochs {mean:.3f}, 95 % interval {low:.3f} to {high:.3f})"
        )

    def share_of_last(self, epochs: int) -> Share:
        """The share of all learners together over the last epochs, with its interval.

        Args:
            epochs: how many; at most as many as were played.

        Raises:
            InputError: there are not so many.
        """
        played = self.utility.shape[1]
        if not 1 <= epochs <= played:
            raise InputError("share_of_last", "epochs", f"1 to {played}", epochs)
        # Games of one place are the units: they are independent, epochs are not.
        over = jax.tree.map(lambda x: x[:, -epochs:].mean(axis=(0, 1)), self.evaluation)
        return over.share


class _Judged(NamedTuple):
    """What one round in each game after an epoch showed."""

    utility: Array
    optimum: Array
    guess: Array | None
    no_trade: Array | None
    action: Array
    reward: Array
    seen: Array


def train(
    solver: Solver,
    problem: Problem,
    key: PRNGKeyArray,
    *,
    seeds: int,
    epochs: int,
    lanes: int = 16,
    chunk: int = 25,
    on_epochs: Callable[[int], None] = lambda epochs: None,
) -> Training:
    """Trains `seeds` independent learners side by side.

    After every epoch the learner plays one round, without exploring and without
    learning from it, in each of `lanes` games kept for evaluation. The oracle plays the
    same rounds, so that shares of the optimum are paired.

    Args:
        solver: the way to learn.
        problem: what to learn.
        key: of all randomness.
        seeds: number of learners.
        epochs: epochs to play.
        lanes: games kept for evaluation.
        chunk: epochs after which results are fetched and looked at.
        on_epochs: called with the number of epochs done, after each chunk.

    Raises:
        InputError: an argument is of another kind, a number is below 1, a piece of the problem
            has another shape than the seam wants (told before anything is compiled), or after
            some epoch what a learner saw, earned or decided is not finite.
    """
    check_kind("learn", "solver", solver, Solver, "a solver, such as Diffusion()")
    check_kind("learn", "problem", problem, Problem, "a Problem")
    check_key("learn", "key", key)
    for name, count in (("seeds", seeds), ("epochs", epochs), ("lanes", lanes), ("chunk", chunk)):
        check_count("learn", name, count, most=COUNT_MAX)
    check_callable("learn", "on_epochs", on_epochs)
    check(problem)
    keep_compiled()

    of_begin, of_run = jax.random.split(key)
    game = _Game(solver, problem, lanes)
    carry = _begin(game, jax.random.split(of_begin, seeds))
    keys = jax.random.split(of_run, (seeds, epochs))
    curves: list[_Judged] = []
    for start in range(0, epochs, chunk):
        # One epoch a call rather than a loop of many: the program is the same for every number
        # of epochs.
        for epoch in range(start, min(start + chunk, epochs)):
            carry, judged = _one_epoch(game, carry, keys[:, epoch])
            curves.append(judged)
        curves[start:] = jax.device_get(curves[start:])
        for epoch, judged in enumerate(curves[start:], start + 1):
            _expect_finite(problem, judged, epoch)
        on_epochs(len(curves))
    return _training(carry[0], curves)


class _Game(NamedTuple):
    """Who plays what.

    Arrays in it, such as a fleet's, are arguments of the compiled programs; all else is hashed. So
    another fleet of the same size is learnt by the program that learnt the first.
    """

    solver: Solver
    problem: Problem
    lanes: int


_Carry = tuple[Learner, State]
"""A learner, and where the games stand that it is judged by."""


@eqx.filter_jit
def _begin(game: _Game, keys: Array) -> _Carry:
    """Learners that have seen nothing, one a key."""
    solver, problem, lanes = game

    def begin(key: PRNGKeyArray) -> _Carry:
        of_learner, of_lanes = jax.random.split(key)
        lane_keys = jax.random.split(of_lanes, lanes)
        return solver.init(problem, of_learner), jax.vmap(problem.reset)(lane_keys)

    return jax.vmap(begin)(keys)


@eqx.filter_jit(donate="all-except-first")
def _one_epoch(game: _Game, carry: _Carry, keys: Array) -> tuple[_Carry, _Judged]:
    """Every learner plays an epoch, and then one round in each game it is judged by."""
    solver, problem, lanes = game

    def one(carry: _Carry, key: PRNGKeyArray) -> tuple[_Carry, _Judged]:
        learner, states = carry
        of_epoch, of_play = jax.random.split(key)
        learner = solver.epoch(problem, learner, of_epoch)
        lane_keys = jax.random.split(of_play, lanes)
        judge = partial(_judge, solver, problem, learner)
        states, judged = jax.vmap(judge)(lane_keys, states)
        return (learner, states), judged

    return jax.vmap(one)(carry, keys)


def _judge(
    solver: Solver, problem: Problem, learner: Learner, key: PRNGKeyArray, state: State
) -> tuple[State, _Judged]:
    """One round without exploring, and what the oracle makes of the same round."""
    of_action, of_step = jax.random.split(key)
    seen = flat_observation(problem, state)
    action = solver.act(learner, of_action, seen)
    after, payoff = play(problem, of_step, state, action)
    judged = _Judged(
        utility=payoff.leader,
        optimum=problem.optimum(state).leader,
        guess=problem.guess(state),
        no_trade=problem.no_trade(state),
        action=jnp.mean(action),
        reward=payoff.reward,
        seen=jnp.all(jnp.isfinite(seen)),
    )
    return after, judged


def _training(learner: Learner, curves: list[_Judged]) -> Training:
    """What all epochs together showed."""
    every = jax.tree.map(lambda *parts: np.stack(parts, axis=1), *curves)
    judged = (every.utility, every.optimum, every.guess, every.no_trade)
    evaluation = Evaluation(*(_exact(part) for part in judged))
    return Training(
        learner=learner,
        utility=jnp.mean(jnp.asarray(every.utility), axis=-1),
        optimum=jnp.mean(jnp.asarray(every.optimum), axis=-1),
        action=jnp.mean(jnp.asarray(every.action), axis=-1),
        share=evaluation.share,
        gain_share=evaluation.gain_share,
        evaluation=evaluation,
    )


def check_key(source: str, field: str, key: Any) -> None:
    """Refuses what is no key of randomness, of either kind that JAX knows.

    Raises:
        InputError: as said.
    """
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
            return
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return
    raise InputError(source, field, "one key, such as jax.random.key(0)", shown(key))


def _exact(part: np.ndarray | None) -> Any:
    return None if part is None else np.asarray(part, np.float64)


def _expect_finite(problem: Problem, judged: _Judged, epoch: int) -> None:
    """Stops where a number is lost, and says whose it was.

    What is lost first counts: a reward that is no number makes the next decision none, and
    that everything else.
    """
    name = type(problem).__name__
    seen, action = np.asarray(judged.seen), np.asarray(judged.action)
    if not seen.all():
        _lost(name, "observe()", "an observation that is not finite", epoch, ~seen)
    places = (
        ("step().reward", judged.reward, "the logarithms, roots and divisions of step()"),
        ("step().leader", judged.utility, "the logarithms, roots and divisions of step()"),
        ("optimum().leader", judged.optimum, "the oracle"),
        ("guess()", judged.guess, "what guessing earns"),
        ("no_trade()", judged.no_trade, "what the leader has alone"),
    )
    if not np.isfinite(action).all():
        where = "look at rewards in training, and at learning rates that are too high"
        _lost(name, "decision of the learner", f"no number; {where}", epoch, ~np.isfinite(action))
    for what, values, where in places:
        if values is not None and not np.isfinite(values).all():
            bad = ~np.isfinite(values)
            found = f"{np.asarray(values)[bad].ravel()[0]}; look at {where}"
            _lost(name, what, found, epoch, bad)


def _lost(name: str, what: str, found: str, epoch: int, bad: np.ndarray) -> NoReturn:
    seed, game = (int(each) for each in np.argwhere(bad)[0])
    at = f"finite numbers in epoch {epoch}, seed {seed}, game {game}"
    raise InputError(name, what, at, found)


def play(
    problem: Problem, key: PRNGKeyArray, state: State, action: Float[Array, " action"]
) -> tuple[State, Payoff]:
    """One round; an episode that ends is followed by a new one."""
    of_step, of_reset = jax.random.split(key)
    after, payoff = problem.step(of_step, state, action)
    fresh = problem.reset(of_reset)
    over = problem.finished(after)
    return jax.tree.map(lambda new, old: jnp.where(over, new, old), fresh, after), payoff
