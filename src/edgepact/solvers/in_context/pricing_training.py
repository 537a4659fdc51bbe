"""Teaching the in-context policy of `quoting`: fleets to learn on, and one compiled loop.

Every fleet of the pool carries its exact supply and its exact optimum, so what a price
misses is known for any price, posted or not. Three things are learned at once:

* the critic, from what every candidate price would have missed, and from the value of
  what its answer would have shown;
* that value, by temporal differences: what is missed from here on;
* the denoiser, towards the candidate the critic likes best. The critic sees what the
  policy sees and nothing private, so this is no imitation of an expert who knows more,
  and it explores where the rounds to come gain by it.

Some of the games change while they are played: devices answer with noise or inertia,
leave and come back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import interior_supply, layer_prices, outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.in_context import pricing as quoting
from edgepact.solvers.in_context.policy_file import Constants, Weights
from edgepact.solvers.in_context.pricing import (
    DEVICES_LEARNED,
    STEPS,
    WINDOW,
    Policy,
    Scene,
    dense,
    silu,
)
from edgepact.solvers.learners.diffusion import chain
from edgepact.solvers.quoting import REFERENCE

LAYERS = 48
"""Most layers of a model that is learned on."""

GRID = 96
"""Prices at which each device's supply is tabulated, for fleets of which a part is away."""

INTEGER_SHARE = 0.65
"""Share of games with whole layers: their sawtooth takes longest to learn."""

RANDOM_PRICES = 200
"""Prices over which the utility of a random price is averaged."""

EVERY_FAMILY = tuple(FAMILIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Settings of a training.

    Attributes:
        fleets: fleets in the pool.
        reference_share: share of them that come from the reference prior.
        families: satisfaction families of the others.
        games: fleets played side by side.
        updates: gradient steps; each plays one round of every game.
        rounds: with one fleet.
        rate: learning rate at its highest; falls along a cosine.
        horizon: weight of the rounds to come against this one.
        explore: share of rounds in which any candidate is posted.
        changing: share of games that change, for each kind of change.
        draws: candidates drawn by the chain; fewer than a quote draws, to save time.
        uniform, near: candidates beside the drawn ones, anywhere and near to them.
    """

    fleets: int = 30_000
    reference_share: float = 0.5
    families: Sequence[str] = EVERY_FAMILY
    games: int = 192
    updates: int = 48_000
    rounds: int = 21
    rate: float = 1.5e-3
    horizon: float = 0.9
    explore: float = 0.15
    changing: float = 0.06
    draws: int = 12
    uniform: int = 3
    near: int = 3


class Pool(NamedTuple):
    """Fleets with all that is private to them; prices in units of b, the saving per layer.

    Leading axis fleets; devices are padded to `DEVICES_LEARNED`.

    Attributes:
        intercept, coefficient, cap, entry, saturation: continuous supply, as in `InteriorSupply`.
        thresholds: price of each layer, for whole layers.
        term: 0 for h(P) = -1/P, 1 for -1/P^2, 2 for ln P.
        zero: what a random price gains from each device, layers.
        one: what the best price gains, layers.
        grid: supply of each device at prices whose roots are evenly spaced.
        low, top, high, layers_max, integer: as in `quoting.Scene`.
        devices: number of devices.
    """

    intercept: Array
    coefficient: Array
    cap: Array
    entry: Array
    saturation: Array
    thresholds: Array
    term: Array
    zero: Array
    one: Array
    grid: Array
    low: Array
    top: Array
    high: Array
    layers_max: Array
    integer: Array
    devices: Array


def broad_game(rng: np.random.Generator, families: Sequence[str] = EVERY_FAMILY) -> Game:
    """One game of the broad prior: any family, 4 to 48 layers, any relation of costs.

    Scales that drop out are fixed: b = 1, F = 0.
    """
    devices = int(rng.integers(1, DEVICES_LEARNED + 1))
    family = FAMILIES[families[int(rng.integers(len(families)))]]

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    layers_max = round(log_uniform(4.0, 48.4))
    # The whole model in GMAC: where satisfaction satiates, a few are all that matter.
    A = log_uniform(0.5, 12.0 if family.name == "exp" else 60.0) / layers_max
    unlike = rng.uniform() * rng.uniform(-0.7, 0.7, devices)
    room = A * layers_max * log_uniform(0.4, 2.5) * (1.0 + unlike)
    typical = float(room.mean())
    halfway = max(typical - A * min(layers_max, typical / A) / 2.0, 1e-3)
    # Half of the work of a typical device is done for some 4 to 80 % of what it saves.
    alpha = log_uniform(0.04, 0.8) / (A * float(family.marginal(np.float64(halfway))))
    weights = alpha * (1.0 + rng.uniform() * rng.uniform(-0.8, 0.8, devices))
    price_max = 1.0 if rng.uniform() < 0.4 else log_uniform(0.8, 5.0)
    B = A * rng.uniform(0.0, 2.0)
    return Game(
        fleet=Fleet(weights, room + B, np.full(devices, A), np.full(devices, B)),
        revenue=0.0,
        beta=1.0 / A,
        price_min=price_max * log_uniform(0.002, 0.15),
        price_max=price_max,
        layers_max=layers_max,
        integer=bool(rng.uniform() < INTEGER_SHARE),
        satisfaction=family,
    )


def reference_game(rng: np.random.Generator) -> Game:
    """One game of the reference prior, continuous or with whole layers."""
    fleet = REFERENCE.fleet(rng, int(rng.integers(1, DEVICES_LEARNED + 1)))
    return REFERENCE.game(fleet, integer=bool(rng.uniform() < INTEGER_SHARE))


def make_pool(
    seed: int,
    course: Course,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Pool:
    """Draws the fleets to learn on; games in which next to nothing can be gained are left out."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    while len(rows) < course.fleets:
        broad = rng.uniform() >= course.reference_share
        row = _row(broad_game(rng, course.families) if broad else reference_game(rng))
        if row is not None:
            rows.append(row)
            on_progress(len(rows), course.fleets)
    return Pool(*(jnp.asarray(np.array(column, np.float32)) for column in zip(*rows, strict=True)))


def _row(game: Game) -> tuple[Any, ...] | None:
    devices, layers_max = len(game.fleet), game.layers_max
    low, high = float(game.price_min), float(game.price_max)
    top = min(high, 1.0)
    nothing = -layers_max * float(np.sum(game.saving))
    one = float(equilibrium(game).server_utility) - nothing
    prices = low * (high / low) ** ((np.arange(RANDOM_PRICES) + 0.5) / RANDOM_PRICES)
    zero = np.mean((1.0 - prices[:, None]) * outcome(game, prices).layers, axis=0)
    whole = devices * layers_max
    if one < 0.02 * whole or one - zero.sum() < 0.01 * whole:
        return None
    smooth = interior_supply(game)
    thresholds = np.full((devices, LAYERS), np.inf)
    if game.integer:
        thresholds[:, :layers_max] = layer_prices(game)
    grid = outcome(game, np.linspace(np.sqrt(low), np.sqrt(top), GRID) ** 2).layers.T

    def padded(column: np.ndarray, empty: float) -> np.ndarray:
        missing = ((0, DEVICES_LEARNED - devices), *((0, 0),) * (column.ndim - 1))
        return np.pad(column, missing, constant_values=empty)

    return (
        padded(smooth.intercept, 0.0),
        padded(smooth.coefficient, 0.0),
        padded(smooth.cap, 0.0),
        padded(smooth.entry, np.inf),
        padded(smooth.saturation, np.inf),
        padded(thresholds, np.inf),
        {"sqrt": 1, "exp": 2}.get(game.satisfaction.name, 0),
        padded(zero, 0.0),
        one,
        padded(grid, 0.0),
        low,
        top,
        high,
        layers_max,
        float(game.integer),
        devices,
    )


def _supply(row: Pool, price: Float[Array, " prices"]) -> Float[Array, "prices devices"]:
    """Best responses of one fleet, layers."""
    p = price[:, None]
    term = jnp.where(row.term == 0, -1.0 / p, jnp.where(row.term == 1, -1.0 / p**2, jnp.log(p)))
    inner = jnp.clip(row.intercept + row.coefficient * term, 0.0, row.cap)
    smooth = jnp.where(p >= row.entry, jnp.where(p >= row.saturation, row.cap, inner), 0.0)
    whole = jnp.sum(row.thresholds[None] <= price[:, None, None], axis=-1)
    return jnp.where(row.integer > 0, whole.astype(jnp.float32), smooth)


def _missed(
    row: Pool,
    here: Float[Array, " devices"],
    price: Float[Array, " prices"],
    layers: Float[Array, "prices devices"],
) -> Float[Array, " prices"]:
    """Share of the range that prices miss with the devices that are here."""
    gain = (1.0 - price) * jnp.sum(layers * here, axis=-1)
    zero = jnp.sum(row.zero * here)
    roots = jnp.linspace(jnp.sqrt(row.low), jnp.sqrt(row.top), GRID)
    of_part = jnp.max((1.0 - roots**2) * jnp.sum(row.grid * here[:, None], axis=0))
    everybody = jnp.sum(here) >= row.devices
    one = jnp.where(everybody, row.one, jnp.maximum(of_part, jnp.max(gain)))
    return jnp.clip(1.0 - (gain - zero) / jnp.maximum(one - zero, 1e-3), 0.0, 2.0)


class Live(NamedTuple):
    """Games being played; leading axis games, rounds with the latest first.

    Attributes:
        row: of the pool.
        price, layers, present, played: as in `quoting.Scene`.
        number: rounds played.
        here: 1 for devices that are here now.
        noise: share of answers that are off.
        speed: how far a device moves towards its best response; 1 without inertia.
        leaving: chance of each device, and round, to leave or to come back.
    """

    row: Array
    price: Array
    layers: Array
    present: Array
    played: Array
    number: Array
    here: Array
    noise: Array
    speed: Array
    leaving: Array


def _begin(key: PRNGKeyArray, pool: Pool, course: Course) -> Live:
    games = course.games
    of_row, of_leaving, of_noise, of_speed, of_here = jax.random.split(key, 5)
    row = jax.random.randint(of_row, (games,), 0, pool.low.shape[0])

    def some(key: PRNGKeyArray, most: float) -> Array:
        of_whether, of_size = jax.random.split(key)
        whether = jax.random.bernoulli(of_whether, course.changing, (games,))
        return jnp.where(whether, most * jax.random.uniform(of_size, (games,)), 0.0)

    leaving = some(of_leaving, 0.25)
    slots = jnp.arange(DEVICES_LEARNED)
    staying = jax.random.bernoulli(of_here, 0.6, (games, DEVICES_LEARNED)) | (leaving == 0)[:, None]
    here = (slots < pool.devices[row][:, None]) & (staying | (slots == 0))
    return Live(
        row=row,
        price=jnp.ones((games, WINDOW)),
        layers=jnp.zeros((games, WINDOW, DEVICES_LEARNED)),
        present=jnp.zeros((games, WINDOW, DEVICES_LEARNED)),
        played=jnp.zeros((games, WINDOW)),
        number=jnp.zeros(games, jnp.int32),
        here=here.astype(jnp.float32),
        noise=some(of_noise, 0.4),
        speed=1.0 - some(of_speed, 0.7),
        leaving=leaving,
    )


def _scene(pool: Pool, live: Live) -> Scene:
    row = live.row
    return Scene(
        price=live.price,
        layers=live.layers,
        present=live.present * live.here[:, None, :],
        played=live.played,
        low=pool.low[row],
        top=pool.top[row],
        high=pool.high[row],
        layers_max=pool.layers_max[row],
        integer=pool.integer[row],
        devices=jnp.sum(live.here, axis=-1),
    )


def _answers(
    key: PRNGKeyArray, pool: Pool, live: Live, layers: Float[Array, "games devices"]
) -> Float[Array, "games devices"]:
    """What devices answer whose best responses are `layers`, as shares of the model."""
    of_whether, of_sign, of_size = jax.random.split(key, 3)
    integer, most = (column[live.row][:, None] for column in (pool.integer, pool.layers_max))
    before = live.layers[:, 0] * most
    seen = (live.present[:, 0] * live.played[:, :1]) > 0
    slow = layers + (1.0 - live.speed[:, None]) * jnp.where(seen, before - layers, 0.0)
    off = jax.random.bernoulli(of_whether, live.noise[:, None], layers.shape)
    sign = jnp.where(jax.random.bernoulli(of_sign, 0.5, layers.shape), 1.0, -1.0)
    blur = 0.1 * jax.random.normal(of_size, layers.shape) * jnp.maximum(slow, 1.0)
    given = slow + jnp.where(off, jnp.where(integer > 0, sign, blur), 0.0)
    given = jnp.clip(jnp.where(integer > 0, jnp.round(given), given), 0.0, most)
    exact = ((live.noise == 0) & (live.speed == 1))[:, None]
    return jnp.where(exact, layers, given) / most


def _after(
    key: PRNGKeyArray,
    pool: Pool,
    live: Live,
    price: Float[Array, " games"],
    layers: Float[Array, "games devices"],
) -> Live:
    """The games after a round: answers are seen, then devices come and go."""
    of_answers, of_flips = jax.random.split(key)
    share = _answers(of_answers, pool, live, layers) * live.here

    def in_front(new: Array, old: Array) -> Array:
        return jnp.concatenate([new[:, None], old[:, :-1]], axis=1)

    there = jnp.arange(DEVICES_LEARNED) < pool.devices[live.row][:, None]
    flips = jax.random.bernoulli(of_flips, live.leaving[:, None], there.shape)
    here = jnp.where(flips, 1.0 - live.here, live.here) * there
    somebody = jnp.sum(here, axis=1, keepdims=True) > 0
    return live._replace(
        price=in_front(price, live.price),
        layers=in_front(share, live.layers),
        present=in_front(live.here, live.present),
        played=in_front(jnp.ones_like(price), live.played),
        number=live.number + 1,
        here=jnp.where(somebody, here, live.here),
    )


def _initial_weights(seed: int) -> dict[str, tuple[Array, Array]]:
    rng = np.random.default_rng(seed)
    weights = {}
    for name, (inputs, outputs) in (quoting.sizes() | VALUE_SIZES).items():
        # Outputs start close to their offsets.
        scale = (0.1 if name.endswith("_out") and outputs <= 2 else 1.0) / np.sqrt(inputs)
        weight = scale * rng.normal(size=(inputs, outputs))
        weights[name] = (jnp.asarray(weight, jnp.float32), jnp.zeros(outputs))
    return weights


VALUE_SIZES = {"value_in": (quoting.CONTEXT, 64), "value_out": (64, 1)}
"""Layers that are needed in training only."""


def _value(weights: Weights, seen: Array) -> Array:
    """What will be missed from here on, per round."""
    hidden = silu(dense(weights["value_in"], seen))
    return jnp.exp(jnp.clip(dense(weights["value_out"], hidden)[..., 0] - 3.0, -14.0, 2.0))


SMALLEST = 1e-4
"""Misses well below this share are all the same."""


def _quasi_likelihood(told: Array, true: Array) -> Array:
    """A loss whose minimiser is the mean, and which sees relative errors.

    Squared errors would be all about the first rounds, where half of the range may be
    missed, and blind to the later ones, where it is a thousandth.
    """
    return (true + SMALLEST) / (told + SMALLEST) + jnp.log(told + SMALLEST)


def _mean_where(values: Array, valid: Array) -> Array:
    return jnp.sum(values * valid) / jnp.sum(valid)


class _Lesson(NamedTuple):
    """What changes while the policy learns; `smooth` is the moving average that is kept."""

    weights: Any
    smooth: Any
    optimiser: Any
    live: Live
    steps: Array


def train_policy(
    seed: int,
    course: Course,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    *,
    chunk: int = 250,
) -> Policy:
    """Trains a policy from nothing.

    Args:
        seed: of the fleets and of everything else.
        course: settings.
        on_progress: told after each chunk how many gradient steps are done, and of how many.
        chunk: gradient steps in one call of the compiled program.
    """
    pool = make_pool(seed, course)
    constants = chain("vp", STEPS)
    falling = optax.warmup_cosine_decay_schedule(
        0.0, course.rate, min(100, course.updates), course.updates + 1, course.rate / 30.0
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling, b2=0.99))

    def update(lesson: _Lesson, key: PRNGKeyArray) -> tuple[_Lesson, None]:
        of_loss, of_games = jax.random.split(key)
        gradient, live = jax.grad(_loss, has_aux=True)(
            lesson.weights, lesson.smooth, constants, pool, lesson.live, of_loss, course
        )
        step, state = optimiser.update(gradient, lesson.optimiser, lesson.weights)
        weights = optax.apply_updates(lesson.weights, step)
        rate = jnp.maximum(0.005, 1.0 / (lesson.steps + 1.0))
        smooth = jax.tree.map(lambda old, new: old + rate * (new - old), lesson.smooth, weights)
        over = live.number >= course.rounds

        def renewed(new: Array, old: Array) -> Array:
            return jnp.where(over.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

        live = jax.tree.map(renewed, _begin(of_games, pool, course), live)
        return _Lesson(weights, smooth, state, live, lesson.steps + 1.0), None

    run = jax.jit(lambda lesson, keys: jax.lax.scan(update, lesson, keys)[0])
    of_games, of_lessons = jax.random.split(jax.random.key(seed))
    weights = _initial_weights(seed)
    live = _begin(of_games, pool, course)
    # Games stand at different rounds, so that every update sees all of them.
    live = live._replace(number=jnp.arange(course.games) % course.rounds)
    lesson = _Lesson(weights, weights, optimiser.init(weights), live, jnp.zeros(()))
    keys = jax.random.split(of_lessons, course.updates)
    for start in range(0, course.updates, chunk):
        lesson = run(lesson, keys[start : start + chunk])
        lesson.steps.block_until_ready()
        on_progress(min(start + chunk, course.updates), course.updates)
    kept = {name: jax.tree.map(np.asarray, lesson.smooth[name]) for name in quoting.sizes()}
    return Policy(kept, Constants(*(np.asarray(part) for part in constants)), course.horizon)


def _loss(
    weights: Any,
    smooth: Any,
    constants: Any,
    pool: Pool,
    live: Live,
    key: PRNGKeyArray,
    course: Course,
) -> tuple[Array, Live]:
    """The three losses of one round of every game, and the games after it."""
    of_actions, of_choice, of_round, of_noise = jax.random.split(key, 4)
    scene = _scene(pool, live)
    at = quoting.knots(scene)
    seen = quoting.context(weights, scene, at)
    policy = Policy(weights, constants, course.horizon)
    actions = jax.lax.stop_gradient(_candidates(of_actions, policy, seen, course))
    best = quoting.choose(policy, scene, at, seen, actions)
    posted = _explored(of_choice, best, actions.shape[1], course)

    rows = jax.tree.map(lambda column: column[live.row], pool)
    price = quoting.price_of(scene, at, actions)
    layers = jax.vmap(_supply)(rows, price)
    missed = jax.vmap(_missed)(rows, live.here, price, layers)
    now, later = quoting.judge(weights, scene, at, seen, actions)
    # Before the first round there is nothing to stay at.
    exists = (jnp.arange(actions.shape[1]) > 0) | (scene.played[:, :1] > 0)
    of_now = _mean_where(_quasi_likelihood(now, missed), exists)

    # What would be known after some of the candidates, the posted one first.
    looked_at = jnp.concatenate([posted, best[:, None], jnp.zeros_like(best)[:, None]], axis=1)

    def at_those(values: Array) -> Array:
        return jnp.take_along_axis(values, looked_at, axis=1)

    number = looked_at.shape[1]
    imagined = jax.tree.map(lambda column: jnp.repeat(column, number, axis=0), live)
    answered = jnp.take_along_axis(layers, looked_at[..., None], axis=1)
    after = _after(
        of_round, pool, imagined, at_those(price).reshape(-1), answered.reshape(-1, DEVICES_LEARNED)
    )
    scene_after = _scene(pool, after)
    seen_after = quoting.context(smooth, scene_after, quoting.knots(scene_after))
    value_after = _value(smooth, seen_after).reshape(course.games, number)
    of_later = _mean_where(_quasi_likelihood(at_those(later), value_after), at_those(exists))

    worth = course.horizon
    best_at = posted.shape[1]
    target = (1.0 - worth) * at_those(missed)[:, best_at] + worth * value_after[:, best_at]
    of_value = jnp.mean(_quasi_likelihood(_value(weights, seen), target))

    liked = jnp.take_along_axis(actions, best[:, None], axis=1)
    of_denoiser = _denoising_error(of_noise, policy, seen, liked)
    live = jax.tree.map(lambda column: column[::number], after)
    return of_now + of_later + 0.5 * of_value + of_denoiser, live


def _candidates(key: PRNGKeyArray, policy: Policy, seen: Array, course: Course) -> Array:
    """What the policy would choose from, and other actions for it to learn about."""
    of_noise, of_uniform, of_width, of_near = jax.random.split(key, 4)
    games = course.games
    own = quoting.options(policy, seen, jax.random.normal(of_noise, (games, STEPS, course.draws)))
    uniform = jax.random.uniform(of_uniform, (games, course.uniform), minval=-1.0, maxval=1.0)
    shape = (games, course.near)
    width = jnp.exp(jax.random.uniform(of_width, shape, minval=-4.0, maxval=0.0))
    near = own[:, 1 : 1 + course.near] + width * jax.random.normal(of_near, shape)
    return jnp.concatenate([own, uniform, jnp.clip(near, -1.0, 1.0)], axis=1)


def _explored(key: PRNGKeyArray, best: Array, number: int, course: Course) -> Array:
    """The candidate to post, and two others to look at; games x 3."""
    of_whether, of_any = jax.random.split(key)
    others = jax.random.randint(of_any, (course.games, 3), 1, number)
    exploring = jax.random.bernoulli(of_whether, course.explore, (course.games,))
    return others.at[:, 0].set(jnp.where(exploring, others[:, 0], best))


def _denoising_error(key: PRNGKeyArray, policy: Policy, seen: Array, liked: Array) -> Array:
    """Squared error of the action restored from noise, at four random steps."""
    of_step, of_noise = jax.random.split(key)
    shape = (liked.shape[0], 4)
    signal = policy.constants.signal[jax.random.randint(of_step, shape, 0, STEPS)]
    noise = jax.random.normal(of_noise, shape)
    noisy = signal * liked + jnp.sqrt(1.0 - signal**2) * noise
    base = dense(policy.weights["denoiser_context"], seen)[:, None]
    return jnp.mean((quoting.denoise(policy.weights, base, noisy, signal) - liked) ** 2)
