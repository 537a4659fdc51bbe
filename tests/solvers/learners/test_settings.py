"""Settings that cannot be are refused, and closed sets of values name what there is."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from edgepact.errors import InputError
from edgepact.fleet import FleetPrior, Interval
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import train

WORDS = """
from edgepact.errors import InputError
from edgepact.fleet import FleetPrior
from edgepact.mechanisms.auction.affine_maximiser import deterministic
from edgepact.mechanisms.contract.problem import MenuDesign
from edgepact.mechanisms.contract.quality import cost_of, marginal_cost, quality_of
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.solvers.learners.diffusion import Diffusion, chain
from edgepact.studies import auctions
ways = [
    lambda word: Diffusion(mode=word),
    lambda word: Diffusion(schedule=word),
    lambda word: Diffusion(sampling=word),
    lambda word: chain(word, 5),
    lambda word: RepeatedPricing(FleetPrior(), reward=word),
    lambda word: MenuDesign(action=word),
    lambda word: deterministic(2, 1, word),
    lambda word: cost_of(word, 1.0),
    lambda word: quality_of(word, 1.0),
    lambda word: marginal_cost(word, 1.0),
    lambda word: auctions.Config(settings=(word,)),
]
for way in ways:
    try:
        print("taken", way("cosin"))
    except InputError as error:
        print(error)
"""


def test_words_that_there_are_not_name_those_there_are() -> None:
    # In a process of its own: the type checker of this suite, which users do not have, refuses
    # such words before the program sees them.
    done = subprocess.run([sys.executable, "-c", WORDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    forms = 'contract: cost: expected one of linear, quadratic, found "cosin"'
    schedule = 'Diffusion: schedule: expected one of vp, cosine, linear, found "cosin"'
    assert told[:-1] == [
        'Diffusion: mode: expected one of value, expert, paper, found "cosin"',
        schedule,
        'Diffusion: sampling: expected one of ddpm, ddim, found "cosin"',
        schedule,
        'RepeatedPricing: reward: expected one of utility, improvement, binary, found "cosin"',
        'MenuDesign: action: expected one of constructed, paper, found "cosin"',
        'menu: demand: expected one of additive, unit, found "cosin"',
        forms,
        forms,
        forms,
    ]
    assert told[-1].startswith("auctions: settings: expected one of ")


@pytest.mark.parametrize("name", ["hidden", "games", "updates", "batch", "memory"])
def test_sizes_of_the_diffusion_model_are_at_least_one(name: str) -> None:
    with pytest.raises(InputError, match=f"Diffusion: {name}: expected a whole number"):
        Diffusion(**{name: 0})


def test_minibatches_of_ppo_divide_its_rounds() -> None:
    with pytest.raises(InputError, match="minibatches: expected a divisor of the 64 rounds"):
        PPO(minibatches=3)
    with pytest.raises(InputError, match="PPO: games: expected a whole number"):
        PPO(games=0)


@pytest.mark.parametrize("name", ["epochs", "seeds", "lanes", "chunk"])
def test_a_training_of_nothing_is_refused(name: str) -> None:
    counts = {"epochs": 1, "seeds": 1, name: 0}
    with pytest.raises(InputError, match=f"learn: {name}: expected a whole number of at least 1"):
        train(Random(), RepeatedPricing(FleetPrior()), jax.random.key(0), **counts)


def test_prices_that_do_not_rise_are_refused() -> None:
    with pytest.raises(InputError, match="price: expected an interval of prices that rises"):
        RepeatedPricing(FleetPrior(), price=Interval(2.0, 1.0))


class Breaks(RepeatedPricing):
    """Pricing whose reward is no number once an action is high."""

    def step(self, key: Any, state: Any, action: Any) -> Any:
        after, payoff = super().step(key, state, action)
        bad = jnp.where(action[0] > -1.0, jnp.nan, payoff.reward)
        return after, type(payoff)(payoff.leader, payoff.followers, payoff.payments, bad)


def test_a_reward_that_is_no_number_names_its_epoch_and_where_to_look() -> None:
    problem = Breaks(FleetPrior().sample(jax.random.key(0), 2))
    with pytest.raises(InputError, match=r"Breaks: step\(\).reward: .*epoch 1, seed 0.*nan; look"):
        train(Random(), problem, jax.random.key(0), seeds=1, epochs=3, lanes=2)
