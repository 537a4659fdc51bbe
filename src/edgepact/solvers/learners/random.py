"""Random decisions: the article's baseline, and the zero of the score."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.errors import check_count
from edgepact.problem import Problem
from edgepact.solvers.learners.training import COUNT_MAX, Learner, Solver


class Random(Solver):
    """Draws each action uniformly from [-1, 1]^d and learns nothing.

    Attributes:
        rounds: of the game in an epoch.

    Raises:
        InputError: `rounds` is below 1.
    """

    rounds: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        check_count("Random", "rounds", self.rounds, most=COUNT_MAX)

    def init(self, problem: Problem, key: PRNGKeyArray) -> Learner:
        """Only remembers the size of an action."""
        return jax.numpy.zeros(problem.action_size)

    def epoch(self, problem: Problem, learner: Learner, key: PRNGKeyArray) -> Learner:
        """Nothing to learn."""
        return learner

    def act(
        self, learner: Learner, key: PRNGKeyArray, observation: Float[Array, " features"]
    ) -> Float[Array, " action"]:
        """A uniform draw."""
        return jax.random.uniform(key, learner.shape, minval=-1.0, maxval=1.0)

    @property
    def rounds_per_epoch(self) -> int:
        """As the learners it is drawn beside."""
        return self.rounds
