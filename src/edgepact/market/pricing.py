"""The diffusion model as a `Pricer`: a trained policy, kept in a folder, quoting live rounds.

The server knows what runs a layer costs it, the model, and a *prior* over the
fleets it may meet. The policy was trained in simulation on that prior and sees
of the live devices only what the server sees: past prices and layers.

This is the one module of the market that needs JAX; only a server that prices
with a learned policy imports it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from edgepact.errors import InputError
from edgepact.fleet import FleetPrior, Interval
from edgepact.market.rounds import RoundResult
from edgepact.mechanisms.pricing import History, RepeatedPricing
from edgepact.mechanisms.satisfaction import FAMILIES
from edgepact.problem import observation_size
from edgepact.solvers.diffusion import Denoiser, Diffusion, chain, sample

WEIGHTS = "denoiser.eqx"
TERMS = "policy.json"


class LearnedPrice:
    """Quotes a price by reverse diffusion, given the rounds so far.

    Args:
        problem: what the denoiser was trained on; its devices are the slots of the history.
        solver: with the settings of the chain.
        denoiser: the trained network.
        seed: of the noise that quotes are drawn from.
    """

    def __init__(
        self, problem: RepeatedPricing, solver: Diffusion, denoiser: Denoiser, seed: int
    ) -> None:
        self._problem = problem
        self._key = jax.random.key(seed)
        constants = chain(solver.schedule, solver.steps)

        def draw(key: jax.Array, history: History) -> jax.Array:
            seen = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(history)])
            return sample(denoiser, constants, key, seen, problem.action_size)

        self._draw: Callable[[jax.Array, History], jax.Array] = jax.jit(draw)

    def __call__(self, history: list[RoundResult]) -> float:
        """The next price, in credits per layer and image."""
        key = jax.random.fold_in(self._key, len(history))
        action = self._draw(key, self._observed(history))
        return float(self._problem.price.from_unit(action)[0])

    def _observed(self, rounds: list[RoundResult]) -> History:
        """The last rounds as the problem shows them, the latest first.

        A device keeps its slot: they are given in order of first appearance. A
        fleet larger than what the policy was trained for is seen in part.
        """
        problem = self._problem
        names = list(dict.fromkeys(name for each in rounds for name in sorted(each.layers)))
        seen = History.empty(problem.window, problem.devices)
        for each in rounds[-problem.window :]:
            layers = np.zeros(problem.devices, np.float32)
            for slot, name in enumerate(names[: problem.devices]):
                layers[slot] = each.layers.get(name, 0) / problem.layers_max
            unit = problem.price.to_unit(jnp.asarray(each.price, jnp.float32))
            seen = seen.remember(jnp.clip(unit, -1.0, 1.0), jnp.asarray(layers))
        return seen.in_order_of_supply()


def save_policy(
    folder: Path, problem: RepeatedPricing, solver: Diffusion, denoiser: Denoiser
) -> None:
    """Writes a policy trained on a prior into a folder."""
    prior = problem.fleets
    if not isinstance(prior, FleetPrior):
        raise InputError(folder, "fleets", "a policy trained on a prior", "one fixed fleet")
    terms = {
        "devices": problem.devices,
        "window": problem.window,
        "layers_max": problem.layers_max,
        "satisfaction": problem.satisfaction.name,
        "beta": problem.beta,
        "price": [problem.price.low, problem.price.high],
        "alpha": [prior.alpha.low, prior.alpha.high],
        "capacity": [prior.capacity.low, prior.capacity.high],
        "A": prior.A,
        "B": prior.B,
        "steps": solver.steps,
        "schedule": solver.schedule,
        "hidden": solver.hidden,
    }
    folder.mkdir(parents=True, exist_ok=True)
    eqx.tree_serialise_leaves(folder / WEIGHTS, denoiser)
    (folder / TERMS).write_text(json.dumps(terms, indent=2) + "\n")


def load_policy(folder: Path, *, seed: int) -> LearnedPrice:
    """Reads what `save_policy` wrote.

    Raises:
        InputError: a file is missing, damaged or of another shape.
    """
    for name in (TERMS, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(folder / name, "", "a trained policy", "no such file")
    try:
        terms: dict[str, Any] = json.loads((folder / TERMS).read_text())
        problem = RepeatedPricing(
            FleetPrior(
                Interval(*terms["alpha"]), Interval(*terms["capacity"]), terms["A"], terms["B"]
            ),
            price=Interval(*terms["price"]),
            devices=terms["devices"],
            beta=terms["beta"],
            layers_max=terms["layers_max"],
            integer=True,
            satisfaction=FAMILIES[terms["satisfaction"]],
            window=terms["window"],
        )
        solver = Diffusion(steps=terms["steps"], schedule=terms["schedule"], hidden=terms["hidden"])
        blank = Denoiser(
            problem.action_size, observation_size(problem), solver.hidden, jax.random.key(0)
        )
        denoiser = eqx.tree_deserialise_leaves(folder / WEIGHTS, blank)
    except (KeyError, TypeError, ValueError, RuntimeError, EOFError) as error:
        raise InputError(
            folder, "", "a trained policy", f"{type(error).__name__}: {error}"
        ) from None
    return LearnedPrice(problem, solver, denoiser, seed)
