"""A problem of one's own, whole: a bridge keeper's toll, learnt by the diffusion model.

Run it with `python examples/bridge_toll.py`. The first time most of it goes into compiling;
what was compiled is kept for the next.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from edgepact.fleet import Interval
from edgepact.problem import Payoff, Problem
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.training import Share, train


class BridgeToll(Problem):
    """A keeper posts a toll to drivers; each crosses if the bridge is worth it to them."""

    toll: Interval = Interval(0.0, 2.0)  # credits
    drivers: int = eqx.field(static=True, default=50)

    @property
    def action_size(self) -> int:
        """One toll."""
        return 1

    def reset(self, key: PRNGKeyArray) -> Float[Array, " drivers"]:
        """What the bridge is worth to each driver of today: private to them."""
        return jax.random.uniform(key, (self.drivers,), minval=0.8, maxval=1.8)

    def observe(self, state: Float[Array, " drivers"]) -> Float[Array, "1"]:
        """Nothing: every day brings other drivers."""
        return jnp.zeros(1)

    def step(
        self, key: PRNGKeyArray, state: Float[Array, " drivers"], action: Float[Array, " action"]
    ) -> tuple[Float[Array, " drivers"], Payoff]:
        """Drivers respond to the toll, and everybody earns."""
        return state, self._payoff(state, self.toll.from_unit(action[0]))

    def optimum(self, state: Float[Array, " drivers"]) -> Payoff:
        """With full knowledge of today's drivers."""
        return self._payoff(state, self._best_toll(state))

    def best_action(self, state: Float[Array, " drivers"]) -> Float[Array, " action"]:
        """The same as an action."""
        return self.toll.to_unit(self._best_toll(state))[None]

    def finished(self, state: Float[Array, " drivers"]) -> Bool[Array, ""]:
        """After every round."""
        return jnp.asarray(True)

    def _best_toll(self, state: Float[Array, " drivers"]) -> Float[Array, ""]:
        # The best toll is what the bridge is worth to the last driver who still crosses.
        crossing = jnp.sum(state[None, :] >= state[:, None], axis=1)
        return state[jnp.argmax(state * crossing)]

    def _payoff(self, state: Float[Array, " drivers"], toll: Float[Array, ""]) -> Payoff:
        crosses = state >= toll
        takings = jnp.sum(crosses) * toll
        return Payoff(
            leader=takings,
            followers=jnp.where(crosses, state - toll, 0.0),
            payments=jnp.where(crosses, -toll, 0.0),  # followers pay the leader here
            reward=takings / self.drivers,
        )


def main(epochs: int = 60) -> Share:
    """Trains two learners; their share of the best possible over the last epochs."""
    training = train(Diffusion(), BridgeToll(), jax.random.key(0), seeds=2, epochs=epochs)
    return training.share_of_last(min(epochs, 10))


if __name__ == "__main__":
    share = main()
    print(f"{share.mean:.1%} of what full knowledge of every driver would earn on the same days,")
    print(f"between {share.low:.1%} and {share.high:.1%} with 95 % confidence")
