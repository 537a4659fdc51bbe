"""Episodes with fleets that change, and how quoters meet them.

An episode is drawn once and is the same for every method: who is there in each round,
what their links and capacities are, and the noise of their answers. Only habits
(inertia) depend on the prices posted.

A quoter sees the devices that are there now, one column each. Of the rounds before a
device came there is no answer of it: `solvers.quoting.ask` tells the methods that know
absence, and fills in for the others.
"""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.dynamics import Conditions, Dynamics, levels_of
from edgepact.mechanisms.stackelberg.responses import outcome, settle
from edgepact.mechanisms.stackelberg.score import Range, range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.quoter import Known, Quoter, ask
from edgepact.solvers.quoting import REFERENCE, ReferencePrior, seed_of

SEEDS = 2**31
"""Keys are drawn from this many seeds."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One round of an episode.

    Attributes:
        game: played by the devices that are there, as they show themselves.
        slots: which slots they are in.
        since: rounds in which they came.
        range: what there is to gain from them.
    """

    game: Game
    slots: Int[np.ndarray, " devices"]
    since: Int[np.ndarray, " devices"]
    range: Range

    def share(self, utility: float) -> float:
        """Share of the range that a utility is."""
        return float(self.range.share(utility))


@dataclass(frozen=True, slots=True)
class Episode:
    """What a fleet goes through, whatever the prices.

    Attributes:
        dynamics: that it was drawn from.
        slots: number of slots.
        scenes: a round each; None while nobody is there.
        seed: of the noise of answers and of quoters.
    """

    dynamics: Dynamics
    slots: int
    scenes: tuple[Scene | None, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Met:
    """What a quoter did in an episode, by round; NaN in rounds with nobody there.

    Attributes:
        price: posted, credits per layer.
        quoted: share of the range that the price would earn from answers at once and
            exact: at most 1.
        earned: share that it did earn. Habits and noise can take it above 1.
    """

    price: Float[np.ndarray, " rounds"]
    quoted: Float[np.ndarray, " rounds"]
    earned: Float[np.ndarray, " rounds"]


def draw_episode(
    dynamics: Dynamics,
    *,
    rounds: int,
    slots: int,
    seed: int,
    integer: bool,
    prior: ReferencePrior = REFERENCE,
) -> Episode:
    """Draws an episode with devices of a prior.

    All devices are of one kind (one a, b and c of the prior), newcomers too. Without
    churn their number is that of the prior, with it as the dynamics say.

    Args:
        dynamics: what changes.
        rounds: length.
        slots: most devices at a time; at least the most of the prior.
        seed: of everything.
        integer: whether devices run whole layers.
        prior: of fleets.
    """
    rng = np.random.default_rng(seed)
    devices = int(rng.integers(1, prior.devices_max + 1))
    pool = prior.fleet(rng, rounds * slots)
    key, own = (int(each) for each in rng.integers(SEEDS, size=2))
    newcomers = jax.tree.map(lambda column: column.reshape(rounds, slots), pool)
    path, fleets = _walk(dynamics, jax.random.key(key), newcomers)
    present, new = np.asarray(path.present), np.asarray(path.new)
    if not dynamics.churns:
        present = present & (np.arange(slots) < devices)
    came = np.maximum.accumulate(np.where(new, np.arange(rounds)[:, None], 0), axis=0)
    scenes: list[Scene | None] = []
    for at in range(rounds):
        here = np.flatnonzero(present[at])
        if len(here) == 0:
            scenes.append(None)
            continue
        fleet = jax.tree.map(lambda x, at=at, here=here: np.asarray(x[at], float)[here], fleets)
        game = prior.game(fleet, integer=integer)
        scenes.append(Scene(game, here, came[at, here], range_of(game)))
    return Episode(dynamics, slots, tuple(scenes), own)


def play_changing(quoter: Quoter, episode: Episode, *, window: int = 20) -> Met:
    """Lets a quoter price a fleet that changes.

    Args:
        quoter: the method.
        episode: what the fleet goes through.
        window: latest rounds that a quoter is shown.
    """
    rounds = len(episode.scenes)
    price, quoted, earned = (np.full(rounds, np.nan) for _ in range(3))
    answers = np.zeros((rounds, episode.slots))
    for at, scene in enumerate(episode.scenes):
        if scene is None:
            continue
        known = Known.of(scene.game, form=quoter.knows_form)
        everything = np.flatnonzero(np.isfinite(price[:at]))
        played = everything[-window:]
        # Quoters number their draws by the rounds they are shown, which no longer grow then.
        dropped = len(everything) - len(played)
        seed = seed_of(episode.seed, dropped) if dropped else episode.seed
        sight = Sight(known, scene, played, price[played], answers, episode.scenes)
        posted = sight.ask(quoter, seed)
        assert known.price_min <= posted <= known.price_max, (quoter, posted)
        layers = _answer(episode, scene, at, posted, answers)
        answers[at, scene.slots] = layers
        price[at] = posted
        quoted[at] = scene.share(float(outcome(scene.game, posted).server_utility))
        earned[at] = scene.share(float(settle(scene.game, posted, layers).server_utility))
    return Met(price, quoted, earned)


class Sight(NamedTuple):
    """What a server sees when it has to quote.

    Attributes:
        known: of the devices that are here now.
        scene: this round's.
        played: numbers of the rounds that are shown.
        prices: posted in them.
        answers: of all slots in all rounds.
        scenes: of all rounds.
    """

    known: Known
    scene: Scene
    played: Int[np.ndarray, " rounds"]
    prices: Float[np.ndarray, " rounds"]
    answers: Float[np.ndarray, "all slots"]
    scenes: tuple[Scene | None, ...]

    def ask(self, quoter: Quoter, seed: int) -> float:
        """The next price."""
        layers, present = seen_by(self.scene, self.played, self.answers)
        return ask(quoter, seed, self.known, self.prices, layers, present, self._means())

    def _means(self) -> Float[np.ndarray, " rounds"]:
        """Mean answer of all who were there, round by round."""
        means = np.zeros(len(self.played))
        for at, number in enumerate(self.played):
            scene = self.scenes[number]
            assert scene is not None  # only such rounds are played
            means[at] = self.answers[number, scene.slots].mean()
        return means


def seen_by(
    scene: Scene,
    played: Int[np.ndarray, " rounds"],
    answers: Float[np.ndarray, "all slots"],
) -> tuple[Float[np.ndarray, "rounds devices"], Bool[np.ndarray, "rounds devices"]]:
    """Past answers of those who are here now, 0 where they were not, and where they were."""
    present = played[:, None] >= scene.since[None, :]
    return np.where(present, answers[np.ix_(played, scene.slots)], 0.0), present


def _answer(
    episode: Episode, scene: Scene, at: int, price: float, answers: np.ndarray
) -> np.ndarray:
    dynamics, slots = episode.dynamics, scene.slots
    before = answers[at - 1, slots] if at else np.zeros(len(slots))
    shocks = None
    if dynamics.noise > 0:
        # A slot's own whoever else is there, and the same for every quoter.
        rng = np.random.default_rng([episode.seed, at])
        shocks = rng.gumbel(size=(episode.slots, levels_of(scene.game)))[slots].T
    return np.asarray(dynamics.answer(scene.game, price, before, scene.since < at, shocks))


@eqx.filter_jit
def _walk(dynamics: Dynamics, key: PRNGKeyArray, newcomers: Fleet) -> tuple[Conditions, Fleet]:
    """Conditions of all rounds, and the fleets as they show themselves, stacked."""
    of_start, of_rounds = jax.random.split(key)
    first = dynamics.start(of_start, jax.tree.map(lambda column: column[0], newcomers))
    rest = jax.tree.map(lambda column: column[1:], newcomers)
    keys = jax.random.split(of_rounds, rest.alpha.shape[0])

    def step(now: Conditions, each: tuple[PRNGKeyArray, Fleet]) -> tuple[Conditions, Conditions]:
        after = dynamics.advance(each[0], now, now.layers, each[1])
        return after, after

    _, later = jax.lax.scan(step, first, (keys, rest))
    path = jax.tree.map(
        lambda one, others: jax.numpy.concatenate([one[None], others]), first, later
    )
    return path, jax.vmap(dynamics.fleet_shown)(path)
