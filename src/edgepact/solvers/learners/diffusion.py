r"""The generative diffusion model (GDM): decisions drawn by reverse diffusion.

A decision starts as Gaussian noise $x_T$ and is denoised in a few steps,
conditioned on what the leader observes, into an action $x_0 \in [-1,1]^d$ (Ho et
al. 2020, arXiv 2006.11239; for network optimisation Du et al. 2023, arXiv
2308.05384). The denoiser predicts $x_0$ itself and squashes it with tanh: the
hard clamp of the published code has gradient exactly zero outside of the range,
and learning freezes at a price bound.

Three ways to train. *Value-guided*: two critics learn the reward of an action from
the rounds played, half of those they replay explored ones from all over the range, and
the chain is taught by them in two ways. It learns to restore the best of what it drew
and of proposals from anywhere in the range, so that it leaves a false peak for a higher
one however deep the valley between (targets weighed by value, as in QVPO, Ding et al.
2024, arXiv 2405.16173); and what it draws on the highest hill is moved up the gradient
of the critics' minimum. At first proposals are chosen nearly evenly, so the distribution
starts wide, and it narrows as evidence comes in. No expert is needed, so this is what
plays against other learners. The critics look one round ahead (gamma = 0): a posted
price changes what the server knows but not the game. *Expert*: in simulation the
oracle's decision is known, and the denoiser learns to restore it from noise; what it
draws then follows the decision's distribution given what the leader has seen.
*Paper*: value-guided on the article's own reward, 1 if the utility rose and 0 if it
fell. That reward depends on the round before and is earned over a horizon by going down
and up again, so it makes sense at gamma = 0 only, which is how it is learned here.
"""

from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from edgepact.errors import InputError, check_choice, check_count
from edgepact.fields import check_number
from edgepact.problem import Problem, State, flat_observation, observation_size
from edgepact.solvers.learners.network import Network
from edgepact.solvers.learners.training import COUNT_MAX, Solver, play
from edgepact.typed import expect_types

Schedule = Literal["vp", "cosine", "linear"]
Mode = Literal["value", "expert", "paper"]
Sampling = Literal["ddpm", "ddim"]
CHOICES = {
    "mode": get_args(Mode),
    "schedule": get_args(Schedule),
    "sampling": get_args(Sampling),
}
"""Settings with a closed set of values, and what they may be."""

COUNTS = ("hidden", "games", "updates", "batch", "memory", "proposals", "learning_updates")

STEPS_MAX = 20
"""Most steps of the reverse diffusion; decisions of few components need five or six."""


SHORT = 0.1
"""What misses this much of the best, of what the best is above the median, is still near it."""


CLEARLY_LOWER = 0.1
"""Difference of graded values from which one hill is clearly lower than another."""


class Chain(NamedTuple):
    """Constants of a diffusion of T steps; entry t-1 belongs to step t.

    The posterior of $x_{t-1}$ given $x_t$ and $x_0$ is Gaussian with mean
    `from_clean * x_0 + from_noisy * x_t` and standard deviation `spread`.
    """

    signal: Float[Array, " steps"]
    from_clean: Float[Array, " steps"]
    from_noisy: Float[Array, " steps"]
    spread: Float[Array, " steps"]


def chain(schedule: Schedule, steps: int) -> Chain:
    r"""Constants of the forward and reverse process.

    Args:
        schedule: `vp` discretises the variance-preserving SDE with rate rising
            from 0.1 to 10 (Song et al. 2021, arXiv 2011.13456), `cosine` is Nichol
            and Dhariwal's (arXiv 2102.09672), `linear` Ho et al.'s, scaled to the
            number of steps so that the last one is nearly pure noise.
        steps: T.

    Raises:
        InputError: there is no such schedule.
    """
    check_choice("Diffusion", "schedule", schedule, CHOICES["schedule"])
    t = jnp.arange(1, steps + 1, dtype=jnp.float32)
    if schedule == "vp":
        beta = 1.0 - jnp.exp(-0.1 / steps - 0.5 * (10.0 - 0.1) * (2.0 * t - 1.0) / steps**2)
    elif schedule == "cosine":
        edges = jnp.cos((jnp.arange(steps + 1) / steps + 0.008) / 1.008 * jnp.pi / 2.0) ** 2
        beta = jnp.clip(1.0 - edges[1:] / edges[:-1], 0.0, 0.999)
    else:
        # Counted from the end: a single step has to be the noisiest.
        rising = jnp.linspace(0.02, 1e-4, steps)[::-1]
        beta = jnp.clip(rising * 1000.0 / steps, 0.0, 0.999)
    kept = jnp.cumprod(1.0 - beta)
    before = jnp.concatenate([jnp.ones(1), kept[:-1]])
    return Chain(
        signal=jnp.sqrt(kept),
        from_clean=jnp.sqrt(before) * beta / (1.0 - kept),
        from_noisy=jnp.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - kept),
        spread=jnp.sqrt(beta * (1.0 - before) / (1.0 - kept)),
    )


class Denoiser(eqx.Module):
    """Predicts the clean action from a noisy one, the step and the observation."""

    network: Network

    def __init__(
        self, action_size: int, observation_size: int, hidden: int, key: PRNGKeyArray
    ) -> None:
        size = action_size + len(_FREQUENCIES) * 2 + observation_size
        self.network = Network((size, hidden, hidden, action_size), key)

    def __call__(
        self,
        noisy: Float[Array, " action"],
        time: Float[Array, ""],
        observation: Float[Array, " features"],
    ) -> Float[Array, " action"]:
        """The predicted action before it is squashed; `time` is t/T."""
        return self.network(jnp.concatenate([noisy, _waves(time[None]), observation]))


_FREQUENCIES = (0.5, 1.0, 2.0, 4.0)
_FINER = (*_FREQUENCIES, 8.0)
"""Of critics, who have to see how close to a kink the best price lies."""


def _waves(
    x: Float[Array, " size"], frequencies: tuple[float, ...] = _FREQUENCIES
) -> Float[Array, " waves"]:
    """Sines and cosines of x at a few frequencies: a small network sees kinks with them."""
    phase = jnp.pi * jnp.outer(jnp.asarray(frequencies), x).ravel()
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])


def sample(
    denoiser: Denoiser,
    constants: Chain,
    key: PRNGKeyArray,
    observation: Float[Array, " features"],
    action_size: int,
    sampling: Sampling = "ddpm",
) -> Float[Array, " action"]:
    """Draws an action in (-1, 1) by reverse diffusion from Gaussian noise.

    Args:
        denoiser: the trained network.
        constants: of the chain it was trained with.
        key: of the noise.
        observation: what the leader sees.
        action_size: components of an action.
        sampling: `ddpm` draws new noise in every step (Ho et al. 2020); `ddim` is the
            deterministic map from the first noise (Song et al. 2021, arXiv 2010.02502).

    Raises:
        InputError: there is no such way of sampling.
    """
    check_choice("Diffusion", "sampling", sampling, CHOICES["sampling"])
    return _reverse(denoiser, constants, key, observation, action_size, sampling)[0]


_UNSATURATED = 2.5
"""tanh is 0.987 here; further out its gradient fades and learning would freeze."""


def _reverse(
    denoiser: Denoiser,
    constants: Chain,
    key: PRNGKeyArray,
    observation: Float[Array, " features"],
    action_size: int,
    sampling: Sampling,
) -> tuple[Float[Array, " action"], Float[Array, ""]]:
    """A drawn action, and by how much the chain's predictions saturate tanh."""
    steps = constants.signal.shape[0]
    noise = jax.random.normal(key, (steps, action_size))

    def step(
        carry: tuple[Array, Array, Array], of_step: tuple[Array, Array, Chain, Array]
    ) -> tuple[tuple[Array, Array, Array], None]:
        noisy, _, saturation = carry
        time, after, here, fresh = of_step
        raw = denoiser(noisy, time, observation)
        clean = jnp.tanh(raw)
        saturation += jnp.mean(jax.nn.relu(jnp.abs(raw) - _UNSATURATED) ** 2) / steps
        if sampling == "ddim":
            direction = (noisy - here.signal * clean) / jnp.sqrt(1.0 - here.signal**2)
            noisy = after * clean + jnp.sqrt(1.0 - after**2) * direction
        else:
            noisy = here.from_clean * clean + here.from_noisy * noisy + here.spread * fresh
        return (noisy, clean, saturation), None

    # A loop of the program, not of Python: unrolled it takes several times as long to compile.
    # After the first step nothing is drawn, so what is fresh there does not count.
    times = jnp.arange(1, steps + 1) / steps
    after = jnp.concatenate([jnp.ones(1), constants.signal[:-1]])
    along = (times, after, constants, jnp.roll(noise, 1, axis=0))
    start = (noise[-1], jnp.zeros(action_size), jnp.zeros(()))
    (_, clean, saturation), _ = jax.lax.scan(step, start, along, reverse=True)
    return clean, saturation


class Memory(NamedTuple):
    """The latest rounds played, a ring; `rounds` is the number ever stored."""

    observation: Float[Array, "memory features"]
    action: Float[Array, "memory action"]
    reward: Float[Array, " memory"]
    expert: Float[Array, "memory action"]
    rounds: Float[Array, ""]


class DiffusionLearner(NamedTuple):
    """All that changes while the GDM learns; `explored` are rounds with a uniform component."""

    denoiser: Denoiser
    smooth: Denoiser
    critics: Network
    denoiser_steps: PyTree
    critic_steps: PyTree
    memory: Memory
    explored: Memory
    states: State


class Diffusion(Solver):
    """The GDM as a solver.

    Attributes:
        mode: how it is trained.
        steps: T, reverse diffusion steps, 1 to `STEPS_MAX`.
        schedule: noise schedule.
        sampling: how the reverse diffusion steps.
        hidden: width of the networks.
        games: games played side by side.
        updates: gradient steps in an epoch; each follows one round in every game.
        batch: rounds replayed in a gradient step.
        memory: rounds remembered. Of explored ones an eighth as many are kept beside them,
            so that the critics do not forget the range once the price is found.
        proposals: actions from elsewhere that each drawn one is compared with.
        learning_rate: of the denoiser at the start; falls along a cosine.
        critic_rate: of the critics, likewise. Larger, since a denoiser that outruns
            its critics is drawn to prices that they have not understood yet.
        learning_updates: gradient steps over which it falls.
        exploration_rounds: rounds over which uniform exploration fades.
        exploration_floor: share of actions that stay uniform for ever, of several
            components in one of them at least.
        jitter: standard deviation of the noise on the other actions played; falls with the
            learning rate, to a tenth.
        smoothing: rate of the moving average of weights that decides.

    Raises:
        InputError: a word is none that there is, or a number is out of range.
    """

    mode: Mode = eqx.field(static=True, default="value")
    steps: int = eqx.field(static=True, default=5)
    schedule: Schedule = eqx.field(static=True, default="vp")
    sampling: Sampling = eqx.field(static=True, default="ddpm")
    hidden: int = eqx.field(static=True, default=64)
    games: int = eqx.field(static=True, default=8)
    updates: int = eqx.field(static=True, default=8)
    batch: int = eqx.field(static=True, default=64)
    memory: int = eqx.field(static=True, default=8192)
    proposals: int = eqx.field(static=True, default=4)
    learning_rate: float = eqx.field(static=True, default=1e-3)
    critic_rate: float = eqx.field(static=True, default=5e-3)
    learning_updates: int = eqx.field(static=True, default=4000)
    exploration_rounds: float = eqx.field(static=True, default=1000.0)
    exploration_floor: float = eqx.field(static=True, default=0.05)
    jitter: float = eqx.field(static=True, default=0.05)
    smoothing: float = eqx.field(static=True, default=0.05)

    def __check_init__(self) -> None:
        expect_types("Diffusion", self)
        check_count("Diffusion", "steps", self.steps, most=STEPS_MAX)
        for name, choices in CHOICES.items():
            check_choice("Diffusion", name, getattr(self, name), choices)
        for name in COUNTS:
            check_count("Diffusion", name, getattr(self, name), most=COUNT_MAX)
        for name in ("learning_rate", "critic_rate", "exploration_rounds"):
            check_number("Diffusion", name, getattr(self, name), above=0.0)
        check_number("Diffusion", "jitter", self.jitter, least=0.0)
        check_number("Diffusion", "exploration_floor", self.exploration_floor, least=0.0, most=1.0)
        check_number("Diffusion", "smoothing", self.smoothing, above=0.0, most=1.0)
        if self.memory < self.games:
            expected = f"room for a round of each of {self.games} games"
            raise InputError("Diffusion", "memory", expected, self.memory)

    @property
    def _explored_kept(self) -> int:
        return max(self.memory // 8, self.games)

    @property
    def rounds_per_epoch(self) -> int:
        """One round in every game before each gradient step."""
        return self.games * self.updates

    def init(self, problem: Problem, key: PRNGKeyArray) -> DiffusionLearner:
        """Fresh networks, an empty memory and new games.

        Raises:
            InputError: the mode is `paper` and the problem does not reward in 0 and 1.
        """
        rewarded = getattr(problem, "reward", None)
        if self.mode == "paper" and rewarded != "binary":
            raise InputError("Diffusion", "mode", "a problem with reward 'binary'", f"{rewarded!r}")
        of_denoiser, of_critics, of_games = jax.random.split(key, 3)
        features, actions = observation_size(problem), problem.action_size
        denoiser = Denoiser(actions, features, self.hidden, of_denoiser)

        sizes = (features + actions * (1 + 2 * len(_FINER)), self.hidden, self.hidden, 1)
        critics = jax.vmap(lambda key: Network(sizes, key))(jax.random.split(of_critics, 2))
        return DiffusionLearner(
            denoiser=denoiser,
            smooth=denoiser,
            critics=critics,
            denoiser_steps=self._optimiser(self.learning_rate).init(denoiser),
            critic_steps=self._optimiser(self.critic_rate).init(critics),
            memory=_empty(self.memory, features, actions),
            explored=_empty(self._explored_kept, features, actions),
            states=jax.vmap(problem.reset)(jax.random.split(of_games, self.games)),
        )

    def epoch(
        self, problem: Problem, learner: DiffusionLearner, key: PRNGKeyArray
    ) -> DiffusionLearner:
        """Alternates one round in every game with one gradient step."""

        def update(learner: DiffusionLearner, key: PRNGKeyArray) -> tuple[DiffusionLearner, None]:
            of_play, of_learning = jax.random.split(key)
            return self._learn(self._play(problem, learner, of_play), of_learning), None

        learner, _ = jax.lax.scan(update, learner, jax.random.split(key, self.updates))
        return learner

    def act(
        self, learner: DiffusionLearner, key: PRNGKeyArray, observation: Float[Array, " features"]
    ) -> Float[Array, " action"]:
        """One draw from the chain with averaged weights."""
        constants = chain(self.schedule, self.steps)
        size = learner.memory.action.shape[1]
        return sample(learner.smooth, constants, key, observation, size, self.sampling)

    def _optimiser(self, rate: float) -> optax.GradientTransformation:
        falling = optax.cosine_decay_schedule(rate, self.learning_updates, alpha=0.05)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling))

    def _play(
        self, problem: Problem, learner: DiffusionLearner, key: PRNGKeyArray
    ) -> DiffusionLearner:
        constants = chain(self.schedule, self.steps)
        memory = learner.memory
        # Components are explored each by itself: once the decision is good, an action that is
        # random in all of them is far from it and tells little of what is around it.
        floor = 1.0 - (1.0 - self.exploration_floor) ** (1.0 / problem.action_size)
        uniform_share = floor + (1.0 - floor) * self._fading(memory.rounds)
        learned = jnp.minimum(memory.rounds / (self.games * self.learning_updates), 1.0)
        jitter = self.jitter * (0.1 + 0.45 * (1.0 + jnp.cos(jnp.pi * learned)))

        def one(key: PRNGKeyArray, state: State) -> tuple[State, Memory, Array]:
            of_draw, of_jitter, of_uniform, of_choice, of_step = jax.random.split(key, 5)
            observation = flat_observation(problem, state)
            size = problem.action_size
            drawn = sample(learner.denoiser, constants, of_draw, observation, size, self.sampling)
            drawn = jnp.clip(drawn + jitter * jax.random.normal(of_jitter, (size,)), -1, 1)
            uniform = jax.random.uniform(of_uniform, (size,), minval=-1.0, maxval=1.0)
            explored = jax.random.bernoulli(of_choice, uniform_share, (size,))
            action = jnp.where(explored, uniform, drawn)
            after, payoff = play(problem, of_step, state, action)
            shown = problem.best_action(state) if self.mode == "expert" else jnp.zeros_like(action)
            played = Memory(observation, action, payoff.reward, shown, jnp.ones(()))
            return after, played, jnp.any(explored)

        keys = jax.random.split(key, self.games)
        states, played, explored = jax.vmap(one)(keys, learner.states)
        return learner._replace(
            memory=_stored(memory, played, jnp.ones(self.games, bool)),
            explored=_stored(learner.explored, played, explored),
            states=states,
        )

    def _learn(self, learner: DiffusionLearner, key: PRNGKeyArray) -> DiffusionLearner:
        of_batch, of_explored, of_draws = jax.random.split(key, 3)
        rows = _rows(of_batch, learner.memory, self.batch)
        if self.mode != "expert":
            learner = self._learn_values(learner, rows, of_explored)
            gradient = jax.grad(self._regret)(learner.denoiser, learner, rows, of_draws)
        else:
            gradient = jax.grad(self._expert_error)(learner.denoiser, learner, rows, of_draws)
        optimiser = self._optimiser(self.learning_rate)
        step, denoiser_steps = optimiser.update(gradient, learner.denoiser_steps)
        denoiser = eqx.apply_updates(learner.denoiser, step)
        smooth = jax.tree.map(
            lambda old, new: old + self.smoothing * (new - old), learner.smooth, denoiser
        )
        return learner._replace(denoiser=denoiser, smooth=smooth, denoiser_steps=denoiser_steps)

    def _learn_values(
        self, learner: DiffusionLearner, rows: Array, key: PRNGKeyArray
    ) -> DiffusionLearner:
        """One step of the critics towards the rewards in memory, half of them explored ones."""
        memory, explored = learner.memory, learner.explored
        wide = _rows(key, explored, self.batch)
        some = explored.rounds > 0
        observation, action, reward = (
            jnp.concatenate([latest[rows], jnp.where(some, far[wide], latest[rows])])
            for latest, far in zip(memory[:3], explored[:3], strict=True)
        )
        reward = _graded(reward, explored, memory)

        def error(critics: Network) -> Float[Array, ""]:
            return jnp.mean((_values(critics, observation, action) - reward) ** 2)

        gradient = jax.grad(error)(learner.critics)
        optimiser = self._optimiser(self.critic_rate)
        step, critic_steps = optimiser.update(gradient, learner.critic_steps)
        critics = eqx.apply_updates(learner.critics, step)
        return learner._replace(critics=critics, critic_steps=critic_steps)

    def _regret(
        self, denoiser: Denoiser, learner: DiffusionLearner, rows: Array, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """Value-guided: what the critics say of drawn actions, negated."""
        constants = chain(self.schedule, self.steps)
        of_draws, of_targets, of_noise = jax.random.split(key, 3)
        observation = learner.memory.observation[rows]
        size = learner.memory.action.shape[1]
        drawn, saturation = jax.vmap(
            lambda key, seen: _reverse(denoiser, constants, key, seen, size, self.sampling)
        )(jax.random.split(of_draws, self.batch), observation)
        value = jnp.min(_values(learner.critics, observation, drawn), axis=0)
        target, short = self._targets(
            learner, observation, jax.lax.stop_gradient(drawn), of_targets
        )
        restored = self._denoising_error(denoiser, observation, target, of_noise)
        # Uphill leads to the top of the hill one stands on. What is drawn on a hill that is
        # clearly lower than another is not led up: it is drawn anew, on the other one.
        uphill = jnp.exp(-short / CLEARLY_LOWER) * (1.0 - self._fading(learner.memory.rounds))
        return jnp.mean(saturation - uphill * value) + restored

    def _targets(
        self,
        learner: DiffusionLearner,
        observation: Float[Array, "batch features"],
        drawn: Float[Array, "batch action"],
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "batch action"], Float[Array, " batch"]]:
        """What is to be drawn instead of each drawn action, and how much worse that one is.

        Beside each drawn action others are proposed that differ in one component, which may be
        anywhere in its range, and beside these the best proposal of the whole batch. The better
        an action is by a critic the likelier it is chosen: at first by little, so that what is
        drawn spreads over the range, in the end the best one always. One half of the batch
        believes one critic and the other half the other, so what is drawn stays apart for as
        long as they disagree.
        """
        of_where, of_what, of_chance = jax.random.split(key, 3)
        batch, size = drawn.shape
        shape = (self.proposals, batch, size)
        component = jax.random.randint(of_where, shape[:2], 0, size)
        anywhere = jax.random.uniform(of_what, shape, minval=-1.0, maxval=1.0)
        moved = jnp.where(jnp.arange(size) == component[..., None], anywhere, drawn)
        action = jnp.concatenate([drawn[None], moved])
        at = jnp.arange(batch)
        worth = _believed(learner.critics, observation, action)
        champion = action.reshape(-1, size)[jnp.argmax(worth)]
        champion = jnp.broadcast_to(champion, drawn.shape)
        of_champion = _believed(learner.critics, observation, champion[None])
        action = jnp.concatenate([action, champion[None]])
        worth = jnp.concatenate([worth, of_champion])
        chance = self._fading(learner.memory.rounds) * jax.random.gumbel(of_chance, worth.shape)
        best = jnp.argmax(worth + chance, axis=0)
        return action[best, at], jax.nn.relu(jnp.max(worth, axis=0) - worth[0])

    def _fading(self, rounds: Float[Array, ""]) -> Float[Array, ""]:
        """How much of the first, wide exploration is left: 1 at first, 0 in the end."""
        return jnp.exp(-rounds / self.exploration_rounds)

    def _expert_error(
        self, denoiser: Denoiser, learner: DiffusionLearner, rows: Array, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """Expert: how well the oracle's decisions are restored."""
        memory = learner.memory
        return self._denoising_error(denoiser, memory.observation[rows], memory.expert[rows], key)

    def _denoising_error(
        self,
        denoiser: Denoiser,
        observation: Float[Array, "batch features"],
        clean: Float[Array, "batch action"],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Squared error of actions restored at a random step."""
        constants = chain(self.schedule, self.steps)
        of_step, of_noise = jax.random.split(key)
        t = jax.random.randint(of_step, (self.batch,), 0, self.steps)
        signal = constants.signal[t][:, None]
        noise = jax.random.normal(of_noise, clean.shape)
        noisy = signal * clean + jnp.sqrt(1.0 - signal**2) * noise
        raw = jax.vmap(denoiser)(noisy, (t + 1) / self.steps, observation)
        return jnp.mean((jnp.tanh(raw) - clean) ** 2)


def _empty(rounds: int, features: int, actions: int) -> Memory:
    return Memory(
        jnp.zeros((rounds, features)),
        jnp.zeros((rounds, actions)),
        jnp.zeros(rounds),
        jnp.zeros((rounds, actions)),
        jnp.zeros(()),
    )


def _stored(memory: Memory, played: Memory, kept: Array) -> Memory:
    """The memory with those of the played rounds that are kept; the oldest drop out."""
    size = memory.reward.shape[0]
    count = jnp.cumsum(kept)
    slots = (memory.rounds.astype(int) + count - 1) % size
    slots = jnp.where(kept, slots, size)

    def held(old: Array, new: Array) -> Array:
        return old.at[slots].set(new, mode="drop")

    return Memory(
        observation=held(memory.observation, played.observation),
        action=held(memory.action, played.action),
        reward=held(memory.reward, played.reward),
        expert=held(memory.expert, played.expert),
        rounds=memory.rounds + count[-1],
    )


def _rows(key: PRNGKeyArray, memory: Memory, batch: int) -> Array:
    """Rounds drawn from what the memory holds."""
    filled = jnp.clip(memory.rounds, 1, memory.reward.shape[0]).astype(int)
    return jax.random.randint(key, (batch,), 0, filled)


def _graded(reward: Array, explored: Memory, latest: Memory) -> Array:
    """Rewards on a scale of their own: 0 is the median of what was explored.

    What is missed is measured by the best that is remembered less the median, and counts by its
    logarithm. So a range most of which loses money, and much of it, does not leave critics that
    tell only losses from gains; and close to the best, where decisions are made in the end,
    they see differences ten times larger.
    """
    size = explored.reward.shape[0]
    there = jnp.arange(size) < explored.rounds
    count = jnp.clip(explored.rounds, 1, size)
    ordered = jnp.sort(jnp.where(there, explored.reward, jnp.inf))
    middle = ordered[((count - 1) // 2).astype(int)]
    middle = jnp.where(explored.rounds > 0, middle, 0.0)
    played = jnp.arange(latest.reward.shape[0]) < latest.rounds
    best = jnp.maximum(
        jnp.max(jnp.where(there, explored.reward, middle)),
        jnp.max(jnp.where(played, latest.reward, middle)),
    )
    spread = jnp.sqrt(jnp.sum(jnp.where(there, explored.reward - middle, 0.0) ** 2) / count)
    unit = jnp.where(best > middle, best - middle, spread) + 1e-6
    grade = (reward - middle) / unit
    missed = jnp.maximum(1.0 - grade, 0.0)
    return -jnp.log((SHORT + missed) / (SHORT + 1.0))


def _values(
    critics: Network,
    observation: Float[Array, "batch features"],
    action: Float[Array, "batch action"],
) -> Float[Array, "critics batch"]:
    waves = jax.vmap(lambda each: _waves(each, _FINER))(action)
    together = jnp.concatenate([observation, action, waves], axis=1)
    return jax.vmap(lambda critic: jax.vmap(critic)(together)[:, 0])(critics)


def _believed(
    critics: Network,
    observation: Float[Array, "batch features"],
    action: Float[Array, "proposals batch action"],
) -> Float[Array, "proposals batch"]:
    """What actions are worth, in turns by one critic and by the other."""
    batch = observation.shape[0]
    half = batch // 2
    first, second = (jax.tree.map(lambda part, at=at: part[at], critics) for at in (0, 1))
    parts = []
    for critic, rows in ((first, slice(half)), (second, slice(half, batch))):
        chosen = action[:, rows]
        seen = jnp.broadcast_to(observation[rows], (*chosen.shape[:2], observation.shape[1]))
        flat = chosen.reshape(-1, action.shape[-1])
        waves = jax.vmap(lambda each: _waves(each, _FINER))(flat)
        together = jnp.concatenate([seen.reshape(len(flat), -1), flat, waves], axis=1)
        parts.append(jax.vmap(critic)(together)[:, 0].reshape(chosen.shape[:2]))
    return jnp.concatenate(parts, axis=1)
