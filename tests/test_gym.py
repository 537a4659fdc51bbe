"""Environments for learners from outside."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import edgepact.gym
from edgepact.errors import InputError
from edgepact.fleet import FleetPrior
from edgepact.gym import ProblemEnv
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing

IDS = (
    "edgepact/Stackelberg-v0",
    "edgepact/StackelbergInteger-v0",
    "edgepact/StackelbergClasses-v0",
    "edgepact/StackelbergLayers-v0",
)


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_finds_nothing_wrong(name: str) -> None:
    check_env(gymnasium.make(name).unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_stable_baselines_finds_nothing_wrong(name: str) -> None:
    checker = pytest.importorskip(
        "stable_baselines3.common.env_checker",
        reason="Stable-Baselines3 is not installed; the extra `bench` has it",
    )
    checker.check_env(gymnasium.make(name).unwrapped)


@pytest.mark.full
@pytest.mark.parametrize(
    ("learner", "rounds", "settings"),
    [
        ("PPO", 12_000, {"n_steps": 256, "learning_rate": 1e-3}),
        ("SAC", 2_000, {"learning_starts": 200, "learning_rate": 1e-3}),
    ],
)
def test_learners_of_stable_baselines_learn_to_price(
    learner: str, rounds: int, settings: dict[str, float]
) -> None:
    stable_baselines3 = pytest.importorskip(
        "stable_baselines3", reason="the extra `bench` installs Stable-Baselines3"
    )
    # A price does not change the game, so nothing beyond the next round is worth a thought.
    model = getattr(stable_baselines3, learner)(
        "MlpPolicy", gymnasium.make(IDS[0]), gamma=0.0, seed=0, device="cpu", **settings
    )
    rng = np.random.default_rng(0)
    guessed, best = _played(lambda _: rng.uniform(-1.0, 1.0, 1).astype(np.float32))
    before, _ = _played(lambda seen: model.predict(seen, deterministic=True)[0])
    model.learn(rounds)
    after, _ = _played(lambda seen: model.predict(seen, deterministic=True)[0])
    assert (before - guessed) / (best - guessed) < 0.6
    assert (after - guessed) / (best - guessed) > 0.97


def _played(policy: Callable[[np.ndarray], np.ndarray], episodes: int = 20) -> tuple[float, float]:
    """Mean utility of a policy over fleets it has not seen, and of the best prices for them."""
    env = gymnasium.make(IDS[0])
    utilities, best = [], []
    for episode in range(episodes):
        seen, _ = env.reset(seed=1_000 + episode)
        over = False
        while not over:
            seen, _, over, _, info = env.step(policy(seen))
            utilities.append(info["utility"])
            best.append(info["utility_max"])
    return float(np.mean(utilities)), float(np.mean(best))


@pytest.mark.parametrize("name", IDS[1:])
def test_an_episode_has_its_rounds_and_no_utility_beats_the_best(name: str) -> None:
    env = gymnasium.make(f"edgepact.gym:{name}")
    env.reset(seed=3)
    env.action_space.seed(3)
    over, rounds = False, 0
    while not over:
        observation, _, over, cut, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert not cut
        assert info["utility"] <= info["utility_max"] + 1e-3
        rounds += 1
    assert rounds == 20


def test_a_seed_brings_the_same_episode_again_and_another_another(
    small: RepeatedPricing,
) -> None:
    env = ProblemEnv(small)

    def answers(seed: int) -> np.ndarray:
        env.reset(seed=seed)
        return np.concatenate([env.step(np.array([a], np.float32))[0] for a in (-0.5, 0.1)])

    assert np.array_equal(answers(1), answers(1))
    assert not np.array_equal(answers(1), answers(2))


@pytest.mark.parametrize("action", [[np.nan], [1.5], [0.0, 0.0]])
def test_impossible_actions_are_refused(small: RepeatedPricing, action: list[float]) -> None:
    env = ProblemEnv(small)
    env.reset(seed=0)
    with pytest.raises(InputError, match="1 numbers from -1 to 1"):
        env.step(np.array(action, np.float32))


@pytest.fixture(scope="module")
def small() -> RepeatedPricing:
    """One problem for all tests that play a few rounds: it is compiled once."""
    return RepeatedPricing(FleetPrior(), devices=2)


def test_observations_belong_to_the_caller(small: RepeatedPricing) -> None:
    env = ProblemEnv(small)
    seen, _ = env.reset(seed=1)
    seen += 0.1
    after, *_ = env.step(np.zeros(1, np.float32))
    kept = after.copy()
    after += 0.1
    # What the caller wrote is not what the next round starts from.
    again = ProblemEnv(small)
    again.reset(seed=1)
    assert np.array_equal(again.step(np.zeros(1, np.float32))[0], kept)


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), deepcopy])
def test_an_episode_goes_on_in_a_copy(
    small: RepeatedPricing, copied: Callable[[ProblemEnv], ProblemEnv]
) -> None:
    env = ProblemEnv(small)
    env.reset(seed=2)
    env.step(np.array([0.3], np.float32))
    other = copied(env)
    action = np.array([-0.2], np.float32)
    (seen, reward, *_), (same, told, *_) = env.step(action), other.step(action)
    assert np.array_equal(seen, same)
    assert reward == told


@pytest.mark.parametrize("name", IDS)
def test_registered_environments_can_be_pickled_after_reset(name: str) -> None:
    env = gymnasium.make(name).unwrapped
    env.reset(seed=0)
    assert isinstance(pickle.loads(pickle.dumps(env)), ProblemEnv)


@pytest.mark.parametrize("make", [edgepact.gym.stackelberg, edgepact.gym.stackelberg_layers])
@pytest.mark.parametrize("size", ["devices", "window", "rounds"])
@pytest.mark.parametrize("number", [0, -1])
def test_impossible_sizes_are_named(
    make: Callable[..., ProblemEnv], size: str, number: int
) -> None:
    with pytest.raises(InputError, match=f"{size}: expected a whole number of at least 1"):
        make(**{size: number})


@pytest.mark.parametrize("size", ["window", "rounds"])
def test_impossible_sizes_of_classes_are_named(size: str) -> None:
    with pytest.raises(InputError, match=f"ClassPricing: {size}: expected"):
        edgepact.gym.stackelberg_classes(**{size: 0})


def test_a_step_needs_a_reset() -> None:
    env = edgepact.gym.stackelberg()
    with pytest.raises(InputError, match="reset"):
        env.step(np.zeros(1, np.float32))


def test_without_gymnasium_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "from edgepact.errors import MissingExtraError\n"
        "try:\n    import edgepact.gym\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "edgepact[gym]" in out.stdout
