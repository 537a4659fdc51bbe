"""CPU seconds and rounds until a learner keeps 99 % of what can be gained from pricing.

Run by `python -m benchmarks learning`. The project's diffusion model and its PPO
play `RepeatedPricing` with one fixed fleet; Stable-Baselines3's PPO plays the same
game, written with NumPy as a Gymnasium environment, once with its default settings
and once with settings chosen on this game in its favour. Everything runs one after
another on one thread, with CPU seconds of the process.

What counts is when the *evaluated* policy gets above the mark and stays there for
as long as it is trained. A policy is evaluated in 16 games kept for that, by one
round in each, without exploring: after every epoch of 64 rounds, and with
Stable-Baselines3 after every update, since it does not change in between.
Evaluations are left out of the seconds of all, and so is what comes before the
first round (compiling, building networks), which has a column of its own.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback

from edgepact.fleet import FleetPrior
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.problem import flat_observation
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.training import Solver

MARK = 0.99
TIMES_FEWER_MIN = 20.0
DEVICES = 5
FLEET_SEED = 0
LANES = 16
ROUNDS = 61_440
"""Thirty default rollouts of Stable-Baselines3, and twice what it needed at most."""

OURS: dict[str, Solver] = {"edgepact GDM": Diffusion(), "edgepact PPO": PPO()}
RIVAL = "SB3 PPO, defaults"
THEIRS: dict[str, dict[str, Any]] = {
    RIVAL: {},
    # A price does not change the game, so gamma 0 sees all there is; the spread starts
    # at half the range, and small rollouts make for many more updates.
    "SB3 PPO, tuned": {
        "gamma": 0.0,
        "learning_rate": 3e-3,
        "n_steps": 64,
        "batch_size": 32,
        "policy_kwargs": {"log_std_init": -0.5},
    },
}


class Pricing:
    """The game in NumPy, for `lanes` servers at once: what both sides are evaluated in."""

    def __init__(self, problem: RepeatedPricing, lanes: int) -> None:
        fleet = jax.tree.map(lambda column: np.asarray(column, float), problem.fleets)
        self.price, self.layers_max = problem.price, problem.layers_max
        self.alpha, self.kappa = fleet.alpha, (1.0 + fleet.capacity - fleet.B) / fleet.A
        self.cap = np.clip((fleet.capacity - fleet.B) / fleet.A, 0.0, problem.layers_max)
        self.saving = problem.beta * fleet.A
        self.saved_at_most = self.saving.sum() * problem.layers_max
        self.alone = problem.revenue - self.saved_at_most
        self.seen = np.zeros((lanes, len(fleet) + 2), np.float32)

    def play(self, action: np.ndarray) -> np.ndarray:
        """One round at actions of shape (lanes, 1); the servers' utilities."""
        price = self.price.from_unit(np.clip(action, -1.0, 1.0))
        layers = np.clip(self.kappa - self.alpha / price, 0.0, self.cap)
        shares = np.sort(layers / self.layers_max, axis=1)
        self.seen = np.concatenate([action, shares, np.ones_like(action)], 1, dtype=np.float32)
        return np.asarray(self.alone + np.sum((self.saving - price) * layers, axis=1))


class PricingEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """`Pricing` as Stable-Baselines3 wants it: the same sight, the same reward."""

    def __init__(self, problem: RepeatedPricing) -> None:
        self.game = Pricing(problem, 1)
        size = self.game.seen.shape[1]
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Nothing seen, nothing played."""
        super().reset(seed=seed)
        self.game.seen[:] = 0.0
        return self.game.seen[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One round; the game goes on for ever."""
        utility = float(self.game.play(action[None])[0])
        reward = (utility - self.game.alone) / self.game.saved_at_most
        return self.game.seen[0], reward, False, False, {}


class Watch:
    """Evaluates a policy while its learner's clock stands still."""

    def __init__(self, problem: RepeatedPricing) -> None:
        self.game = Pricing(problem, LANES)
        game = problem.game(jax.tree.map(lambda column: np.asarray(column, float), problem.fleets))
        self.range = range_of(game)
        self.points: list[tuple[int, float, float]] = []
        self.excluded = 0.0
        self.start()

    def start(self) -> None:
        """What came before was preparation."""
        self.started = time.process_time()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Takes what is done within off the learner's seconds."""
        before = time.process_time()
        yield
        self.excluded += time.process_time() - before

    def look(self, rounds: int, act: Callable[[np.ndarray], np.ndarray]) -> None:
        """Notes rounds, seconds and share of the range, and what looking took."""
        seconds = time.process_time() - self.started - self.excluded
        with self.standing_still():
            utility = self.game.play(np.asarray(act(self.game.seen))).mean()
            share = float(self.range.share(float(utility)))
        self.points.append((rounds, seconds, share))

    def result(self, preparation_s: float) -> dict[str, float | None]:
        """When the mark was reached for good; None if it was not."""
        kept = len(self.points)
        while kept and self.points[kept - 1][2] >= MARK:
            kept -= 1
        reached = self.points[kept] if kept < len(self.points) else None
        return {
            "rounds": reached[0] if reached else None,
            "cpu_s": reached[1] if reached else None,
            "preparation_cpu_s": preparation_s,
            "final_share": self.points[-1][2],
            "whole_cpu_s": self.points[-1][1],
        }


def train_ours(problem: RepeatedPricing, solver: Solver, seed: int, rounds: int) -> Any:
    """The solver's epochs, compiled before the clock starts."""
    watch = Watch(problem)
    before = time.process_time()
    of_begin, of_epochs = jax.random.split(jax.random.key(seed))
    epochs = rounds // solver.rounds_per_epoch
    keys = list(jax.random.split(of_epochs, (epochs, 2)))
    learner = jax.jit(lambda key: solver.init(problem, key))(of_begin)
    one_epoch = jax.jit(lambda learner, key: solver.epoch(problem, learner, key))
    epoch = one_epoch.lower(learner, keys[0][0]).compile()
    preparation_s = time.process_time() - before
    act = jax.jit(
        lambda learner, key, seen: jax.vmap(lambda k, s: solver.act(learner, k, s))(
            jax.random.split(key, LANES), seen
        )
    )
    watch.start()
    for number, (of_epoch, of_look) in enumerate(keys, start=1):
        learner = epoch(learner, of_epoch)
        jax.tree.map(lambda part: part.block_until_ready(), learner)
        watch.look(number * solver.rounds_per_epoch, partial(act, learner, of_look))
    return watch.result(preparation_s)


def train_theirs(problem: RepeatedPricing, settings: dict[str, Any], seed: int, rounds: int) -> Any:
    """Stable-Baselines3's PPO; its policy changes once a rollout."""
    watch = Watch(problem)

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:  # after the update before
            if self.num_timesteps:
                watch.look(self.num_timesteps, act)

    def act(seen: np.ndarray) -> np.ndarray:
        return model.predict(seen, deterministic=True)[0]

    before = time.process_time()
    model = stable_baselines3.PPO(
        "MlpPolicy", PricingEnv(problem), seed=seed, device="cpu", **settings
    )
    preparation_s = time.process_time() - before
    watch.start()
    model.learn(rounds, callback=Look())
    watch.look(model.num_timesteps, act)
    return watch.result(preparation_s)


def measure(seeds: int, rounds: int) -> dict[str, Any]:
    """Medians over seeds for each learner, and how the GDM compares."""
    torch.set_num_threads(1)
    fleet = FleetPrior().sample(jax.random.key(FLEET_SEED), DEVICES)
    problem = RepeatedPricing(fleet)
    _check_same_game(problem)
    runs: dict[str, list[Any]] = {name: [] for name in (*OURS, *THEIRS)}
    for seed in range(seeds):
        for name, solver in OURS.items():
            runs[name].append(train_ours(problem, solver, seed, rounds))
        for name, settings in THEIRS.items():
            runs[name].append(train_theirs(problem, settings, seed, rounds))
        print(f"learning: seed {seed + 1} of {seeds}", file=sys.stderr)
    ours = runs["edgepact GDM"]
    rows = []
    for name, results in runs.items():
        rows.append(
            {
                "learner": name,
                "seeds at mark": f"{sum(r['cpu_s'] is not None for r in results)}/{seeds}",
                "rounds to mark": _median(results, "rounds"),
                "CPU s to mark": _median(results, "cpu_s"),
                "most CPU s": max(_or_infinite(r["cpu_s"]) for r in results),
                "before the first round s": _median(results, "preparation_cpu_s"),
                "times the GDM": _ratio(results, ours, ("cpu_s",)),
                "all included": _ratio(results, ours, ("cpu_s", "preparation_cpu_s")),
                "least final share": min(r["final_share"] for r in results),
            }
        )
    times = next(row["times the GDM"] for row in rows if row["learner"] == RIVAL)
    return {
        "title": f"Learning one fleet of {DEVICES}: until {MARK:.0%} of the range is kept, medians",
        "rows": rows,
        "seeds": list(range(seeds)),
        "fleet_seed": FLEET_SEED,
        "rounds": rounds,
        "threads": 1,
        "settings": {name: str(settings) for name, settings in THEIRS.items()},
        "target": f"the GDM needs at least {TIMES_FEWER_MIN:.0f} times fewer CPU s than {RIVAL}",
        "times_fewer": times,
        "reached": times >= TIMES_FEWER_MIN,
        "runs": runs,
    }


def _check_same_game(problem: RepeatedPricing) -> None:
    """The NumPy game must give the same utility and sight as the project's."""
    state = problem.reset(jax.random.key(0))
    game = Pricing(problem, 1)
    for action in np.linspace(-1.0, 1.0, 9, dtype=np.float32)[:, None]:
        state, payoff = problem.step(jax.random.key(0), state, jnp.asarray(action))
        utility = game.play(action[None])[0]
        np.testing.assert_allclose(utility, payoff.leader, rtol=1e-5)
        np.testing.assert_allclose(game.seen[0], flat_observation(problem, state), atol=1e-5)


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def _median(results: list[Any], field: str) -> float:
    return statistics.median(_or_infinite(result[field]) for result in results)


def _ratio(theirs: list[Any], ours: list[Any], fields: tuple[str, ...]) -> float:
    """Of medians; a learner that does not reach the mark takes for ever."""
    return sum(_median(theirs, f) for f in fields) / sum(_median(ours, f) for f in fields)


def _finite(value: Any) -> Any:
    """JSON has no infinity; what never happened is null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    print(json.dumps(_finite(measure(seeds=1 if quick else 5, rounds=ROUNDS))))


if __name__ == "__main__":
    main()
