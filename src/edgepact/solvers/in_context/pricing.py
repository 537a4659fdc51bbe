r"""The GDM in context: the next price for a fleet never seen before.

Training a diffusion model on one fleet takes tens of thousands of rounds of wrong
prices. This policy is trained once, in simulation, over a prior of fleets; what it
learns of a new fleet it reads from the rounds played so far, so it prices a live
fleet from the first round.

*Units.* Prices are shares of b, what a layer saves the server, and layers shares of
the model's: scaling alpha, beta and F scales the best price, so one policy serves
every scale.

*Reading.* What matters about the rounds played is where the best of them stands among
its neighbours in price. The encoder takes seven *knots*, the best round and its three
nearest prices on either side, reads each device's answers there with one small
network, and pools over devices: any number of them, in any order.

*Deciding.* The reverse diffusion draws candidates around the best price so far, finer
the closer they are; a critic, trained on what a price earns now and on what its answer
is worth for the rounds to come, picks one of them or stays. So the policy explores
where a slightly lower price may lose no layer, and stops when that is not worth it.

Only arithmetic of the array API is used: training compiles it with JAX, and a server
quotes with NumPy alone.
"""

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError
from edgepact.solvers.in_context.policy_file import Constants, Weights, read_policy, write_policy
from edgepact.solvers.quoter import SOURCE, Known, profits

Array = Any
"""NumPy or JAX array."""

SHIPPED = Path(__file__).parent / "weights" / "quoting.npz"
"""The policy that comes with the package; its model card stands beside it."""

WINDOW = 20
"""Rounds that are remembered."""

DEVICES_LEARNED = 16
"""Most devices of a fleet that is learned on. A larger fleet is taken for one of as many: what
grows with the number of devices would lead the critic far from all that it has seen."""

SIDE = 3
"""Knots on either side of the best round."""

STEPS = 5
"""Steps of the reverse diffusion."""

DRAWS = 48
"""Candidates drawn for one quote."""

ZOOM = 0.7
"""Share of the action range that lies between the best round's neighbours."""

EARLY, EARLY_HORIZON = 3, 0.5
"""In the first quotes the rounds to come weigh less: what earns most there teaches enough."""

CONTEXT, DEVICE, POOLED, HEAD = 160, 64, 48, 128


class Policy(NamedTuple):
    """A trained policy.

    Attributes:
        weights: of all layers.
        constants: of the reverse diffusion, as in `diffusion.Chain`.
        horizon: weight of the rounds to come, 0 (only this one counts) to 1, after the first
            `EARLY` quotes; in those it is `EARLY_HORIZON` at most.
    """

    weights: Weights
    constants: Constants
    horizon: float


class Scene(NamedTuple):
    """What the policy may see; leading axes are batch axes.

    Attributes:
        price: posted prices as shares of b, the latest round first.
        layers: answers as shares of the model's layers.
        present: 1 where the device took part in the round, else 0.
        played: 1 where the round was played, else 0.
        low, top, high: least price, highest worth posting and highest allowed, shares of b.
        layers_max: layers of the model.
        integer: 1 if devices run whole layers.
        devices: number of devices that are present now, at most `DEVICES_LEARNED`.
    """

    price: Float[Array, "*batch rounds"]
    layers: Float[Array, "*batch rounds devices"]
    present: Float[Array, "*batch rounds devices"]
    played: Float[Array, "*batch rounds"]
    low: Float[Array, "*batch"]
    top: Float[Array, "*batch"]
    high: Float[Array, "*batch"]
    layers_max: Float[Array, "*batch"]
    integer: Float[Array, "*batch"]
    devices: Float[Array, "*batch"]


class Knots(NamedTuple):
    """The best round and its neighbours, in order of price; the best one is in the middle.

    Attributes:
        price: shares of b; where a knot does not exist, the end of the price range.
        exists: 1 if it stands for a round.
        supply: layers of all devices present, a share of all their layers.
        gain: `(1 - price) * supply`.
        age: rounds since it was played.
        layers, present: of every device there.
    """

    price: Float[Array, "*batch knots"]
    exists: Float[Array, "*batch knots"]
    supply: Float[Array, "*batch knots"]
    gain: Float[Array, "*batch knots"]
    age: Float[Array, "*batch knots"]
    layers: Float[Array, "*batch knots devices"]
    present: Float[Array, "*batch knots devices"]


class InContext:
    """Quotes with a trained policy; a `Quoter` that is told nothing of how devices decide.

    Args:
        policy: weights, from `load` or `InContext.shipped`.
    """

    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = True

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @staticmethod
    def shipped() -> "InContext":
        """With the weights that come with the package."""
        return InContext(load(SHIPPED))

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
        present: Bool[np.ndarray, "rounds devices"] | None = None,
    ) -> float:
        """The next price, credits per layer; of the rounds seen the last `WINDOW` count.

        Args:
            seed: of this fleet, the same in every round.
            known: what is public.
            prices: posted so far, the first round first.
            layers: what the devices that are here now answered.
            present: whether they were here then; always if None.

        Raises:
            InputError: an observation is not a possible one.
        """
        profits(known, prices, layers)
        if present is None:
            present = np.ones(layers.shape, dtype=bool)
        if present.shape != layers.shape or present.dtype != np.bool_:
            found = f"{present.dtype} {present.shape}"
            raise InputError(SOURCE, "present", f"true or false {layers.shape}", found)
        if known.price_top <= known.price_min:
            return known.price_min
        scene = _seen(known, prices, layers, present)
        noise = np.random.default_rng([seed, len(prices)]).normal(size=(1, STEPS, DRAWS))
        at = knots(scene)
        seen = context(self._policy.weights, scene, at)
        actions = options(self._policy, seen, noise.astype(np.float32))
        choice = int(choose(self._policy, scene, at, seen, actions)[0])
        if choice == 0:
            # Staying is the same price to the last bit.
            return float(prices[len(prices) - 1 - int(at.age[0, SIDE])])
        price = float(price_of(scene, at, actions)[0, choice]) * known.saving
        return min(max(price, known.price_min), known.price_top)


def options(policy: Policy, seen: Array, noise: Array) -> Array:
    """Actions to choose from: to stay, and what is drawn from noise `(*batch, steps, draws)`."""
    xp = _namespace(seen)
    drawn = draw(policy.weights, policy.constants, seen, noise)
    return xp.concat([xp.zeros_like(drawn[..., :1]), drawn], axis=-1)


def choose(policy: Policy, scene: Scene, at: Knots, seen: Array, actions: Array) -> Array:
    """Index of the action that misses least, now and later; the first one is to stay."""
    xp = _namespace(actions)
    now, later = judge(policy.weights, scene, at, seen, actions)
    early = xp.sum(scene.played, axis=-1) < EARLY
    horizon = xp.where(early, min(EARLY_HORIZON, policy.horizon), policy.horizon)[..., None]
    missed = (1.0 - horizon) * now + horizon * later
    # Before the first round there is nothing to stay at.
    nowhere = (xp.arange(actions.shape[-1]) == 0) & (scene.played[..., :1] == 0)
    return xp.argmin(xp.where(nowhere, xp.inf, missed), axis=-1)


def load(path: Path) -> Policy:
    """Reads a policy.

    Raises:
        InputError: the file is missing, damaged or of another shape.
    """
    numbers = ("horizon",)
    read = read_policy(
        path, "a trained quoting policy", sizes=sizes(), steps=STEPS, numbers=numbers
    )
    return Policy(read.weights, read.constants, read.numbers["horizon"])


def save(path: Path, policy: Policy) -> None:
    """Writes a policy."""
    write_policy(path, policy.weights, policy.constants, horizon=policy.horizon)


def _seen(known: Known, prices: np.ndarray, layers: np.ndarray, present: np.ndarray) -> Scene:
    """The last rounds as a batch of one scene."""
    kept = min(len(prices), WINDOW)
    devices = layers.shape[1]
    latest = slice(len(prices) - 1, len(prices) - 1 - kept if kept < len(prices) else None, -1)
    shares = np.where(present, layers / known.layers_max, 0.0)[latest]
    there = present[latest].astype(float)
    # In an order that answers alone decide, so that sums are the same to the last bit.
    order = np.lexsort(np.concatenate([shares, there])) if kept else np.arange(devices)
    used = [there[:, order], shares[:, order]]
    rows = max(kept, 1)
    price, played = np.ones(rows), np.zeros(rows)
    price[:kept], played[:kept] = prices[latest] / known.saving, 1.0
    empty = np.zeros((rows, devices))
    there, shares = (part if kept else empty for part in used)
    batch = [
        price,
        shares,
        there,
        played,
        known.price_min / known.saving,
        known.price_top / known.saving,
        known.price_max / known.saving,
        known.layers_max,
        known.integer,
        min(max(devices, 1), DEVICES_LEARNED),
    ]
    return Scene(*(np.asarray(part, dtype=np.float32)[None] for part in batch))


def knots(scene: Scene) -> Knots:
    """Finds the best round and the three nearest distinct prices on either side."""
    xp = _namespace(scene.price)
    there = xp.sum(scene.present, axis=-1)
    supply = xp.sum(scene.layers * scene.present, axis=-1) / xp.maximum(there, 1.0)
    gain = (1.0 - scene.price) * supply
    played = scene.played > 0
    # While nobody has sold anything, the highest price is the one to go on from.
    best = xp.argmax(xp.where(played, gain + 1e-7 * scene.price, -1.0), axis=-1)
    chosen, exists, prices = [best], [xp.any(played, axis=-1)], [_pick(scene.price, best)]
    for side in (-1.0, 1.0):
        here, end = prices[SIDE if side > 0 else 0], scene.low if side < 0 else scene.top
        side_chosen, side_exists, side_prices = [], [], []
        for _ in range(SIDE):
            beyond = played & (side * (scene.price - here[..., None]) > 1e-6 * here[..., None])
            nearest = xp.argmax(xp.where(beyond, -side * scene.price, -2.0), axis=-1)
            some = xp.any(beyond, axis=-1)
            here = xp.where(some, _pick(scene.price, nearest), end)
            side_chosen.append(nearest)
            side_exists.append(some)
            side_prices.append(here)
        if side < 0:
            chosen = side_chosen[::-1] + chosen
            exists = side_exists[::-1] + exists
            prices = side_prices[::-1] + prices
        else:
            chosen, exists, prices = (
                chosen + side_chosen,
                exists + side_exists,
                prices + side_prices,
            )
    index = xp.stack(chosen, axis=-1)
    there = xp.stack(exists, axis=-1).astype(scene.price.dtype)
    price = xp.stack(prices, axis=-1)
    middle = xp.arange(2 * SIDE + 1) == SIDE
    none_yet = ~xp.any(played, axis=-1)[..., None]
    price = xp.where(middle & none_yet, ((scene.low + scene.top) / 2.0)[..., None], price)
    return Knots(
        price=price,
        exists=there,
        supply=xp.take_along_axis(supply, index, axis=-1) * there,
        gain=xp.take_along_axis(gain, index, axis=-1) * there,
        age=index.astype(scene.price.dtype) * there,
        layers=xp.take_along_axis(scene.layers, index[..., None], axis=-2) * there[..., None],
        present=xp.take_along_axis(scene.present, index[..., None], axis=-2) * there[..., None],
    )


def price_of(scene: Scene, at: Knots, action: Float[Array, "*batch draws"]) -> Array:
    """Prices that actions in [-1, 1] stand for, shares of b.

    0 is the best price so far and +-`ZOOM` are its neighbours; between them the scale
    is quadratic, finer the closer to the best. The rest reaches to the ends of the range.
    Before the first round the range is covered evenly. Square roots of prices are what
    is divided: the best price of a fleet goes with the square root of its costs.
    """
    xp = _namespace(action)
    low, top = xp.sqrt(scene.low)[..., None], xp.sqrt(scene.top)[..., None]
    root = xp.sqrt(at.price)
    left, best, right = (root[..., SIDE + d : SIDE + d + 1] for d in (-1, 0, 1))
    size, down = xp.abs(action), action < 0
    neighbour, end = xp.where(down, left, right), xp.where(down, low, top)
    known = xp.where(down, at.exists[..., SIDE - 1 : SIDE], at.exists[..., SIDE + 1 : SIDE + 2])
    inner = xp.where(known > 0, ZOOM, 1.0)
    near = best + (neighbour - best) * (xp.minimum(size, inner) / inner) ** 2
    far = neighbour + (end - neighbour) * (size - ZOOM) / (1.0 - ZOOM)
    zoomed = xp.where((known > 0) & (size > ZOOM), far, near)
    even = low + (top - low) * (action + 1.0) / 2.0
    root = xp.where(at.exists[..., SIDE : SIDE + 1] > 0, zoomed, even)
    price = xp.clip(root, low, top) ** 2
    # Staying is exactly the same price again.
    stay = (size == 0) & (at.exists[..., SIDE : SIDE + 1] > 0)
    return xp.where(stay, at.price[..., SIDE : SIDE + 1], price)


def action_of(scene: Scene, at: Knots, price: Float[Array, "*batch draws"]) -> Array:
    """The inverse of `price_of`."""
    xp = _namespace(price)
    low, top = xp.sqrt(scene.low)[..., None], xp.sqrt(scene.top)[..., None]
    knot = xp.sqrt(at.price)
    left, best, right = (knot[..., SIDE + d : SIDE + d + 1] for d in (-1, 0, 1))
    root = xp.clip(xp.sqrt(price), low, top)
    down = root < best
    neighbour, end = xp.where(down, left, right), xp.where(down, low, top)
    known = xp.where(down, at.exists[..., SIDE - 1 : SIDE], at.exists[..., SIDE + 1 : SIDE + 2])
    inner = xp.where(known > 0, ZOOM, 1.0)
    width = xp.maximum(xp.abs(neighbour - best), 1e-9)
    near = inner * xp.sqrt(xp.minimum(xp.abs(root - best) / width, 1.0))
    beyond = xp.abs(root - neighbour) / xp.maximum(xp.abs(end - neighbour), 1e-9)
    far = ZOOM + (1.0 - ZOOM) * xp.minimum(beyond, 1.0)
    outside = (known > 0) & (xp.abs(root - best) > width)
    zoomed = xp.where(down, -1.0, 1.0) * xp.where(outside, far, near)
    even = (root - low) / xp.maximum(top - low, 1e-9) * 2.0 - 1.0
    return xp.where(at.exists[..., SIDE : SIDE + 1] > 0, zoomed, even)


def _vertices(scene: Scene, at: Knots) -> Array:
    """Where simple curves through the knots would peak, as actions.

    A parabola through the best round and its neighbours, and the curve that supply
    `K - a/P` would give through the best and either neighbour. No family of
    satisfaction is assumed by them: they are hints that the networks weigh.
    """
    xp = _namespace(at.price)
    x, g, s = xp.sqrt(at.price), at.gain, at.supply
    here, has = SIDE, at.exists
    dl, dr = x[..., here - 1] - x[..., here], x[..., here + 1] - x[..., here]
    gl, gr = g[..., here - 1] - g[..., here], g[..., here + 1] - g[..., here]
    # A missing right knot stands at the top price, where nothing is gained if that is b.
    bend = gl * dr - gr * dl
    safe = xp.where(xp.abs(bend) > 1e-9, bend, 1e-9)
    step = (gl * dr**2 - gr * dl**2) / (2.0 * safe)
    parabola = xp.clip(x[..., here] + xp.clip(step, -1.0, 1.0), 1e-3, 1e3) ** 2
    hints = [xp.where((has[..., here - 1] * has[..., here + 1]) > 0, parabola, at.price[..., here])]
    for i, j in ((here - 1, here), (here, here + 1)):
        both = has[..., i] * has[..., j] > 0
        u, v = 1.0 / xp.maximum(at.price[..., i], 1e-4), 1.0 / xp.maximum(at.price[..., j], 1e-4)
        a = (s[..., j] - s[..., i]) / xp.maximum(u - v, 1e-6)
        k = s[..., j] + a * v
        peak = xp.sqrt(xp.clip(a, 1e-6, None) / xp.maximum(k, 1e-6))
        hints.append(xp.where(both, xp.clip(peak, 1e-4, 1e3), at.price[..., here]))
    return action_of(scene, at, xp.stack(hints, axis=-1))


def context(weights: Any, scene: Scene, at: Knots) -> Float[Array, "*batch context"]:
    """Everything seen so far as one vector."""
    xp = _namespace(at.price)
    dtype = at.price.dtype
    root = xp.sqrt(at.price)
    best = root[..., SIDE : SIDE + 1]
    scale = xp.maximum(at.gain[..., SIDE : SIDE + 1], 1e-3)
    layers_max = scene.layers_max[..., None]
    public = xp.stack(
        [
            xp.sqrt(scene.low),
            xp.sqrt(scene.top),
            xp.log(scene.high),
            xp.log(scene.layers_max) / 3.0,
            scene.integer,
            xp.log(scene.devices) / 3.0,
            1.0 / xp.sqrt(scene.devices),
            xp.log1p(xp.sum(scene.played, axis=-1)) / 2.0,
        ],
        axis=-1,
    )
    lost = (at.supply - at.supply[..., SIDE : SIDE + 1]) * layers_max * scene.devices[..., None]
    shape = xp.concat(
        [
            at.exists,
            root,
            _signed_log(30.0 * (root - best)),
            at.supply,
            _signed_log(30.0 * (at.gain / scale - 1.0)) * at.exists,
            _signed_log(lost) * at.exists / 3.0,
            xp.log1p(at.age) / 3.0,
            _vertices(scene, at),
        ],
        axis=-1,
    )
    whole = xp.concat([public, shape], axis=-1)
    # One row a device: its answers at the knots, in layers too, since the loss of one is
    # what a lower price risks.
    answers = xp.swapaxes(at.layers, -1, -2)
    took_part = xp.swapaxes(at.present, -1, -2)
    change = (answers - answers[..., SIDE : SIDE + 1]) * took_part * took_part[..., SIDE : SIDE + 1]
    rows = xp.concat([answers, took_part, _signed_log(change * layers_max[..., None])], axis=-1)
    of_whole = dense(weights["device_whole"], whole)[..., None, :]
    hidden = silu(dense(weights["device_in"], rows) + of_whole)
    hidden = silu(dense(weights["device_out"], hidden))
    # Devices that took part in no knot say nothing.
    counts = (xp.max(took_part, axis=-1) > 0).astype(dtype)[..., None]
    number = xp.maximum(xp.sum(counts, axis=-2), 1.0)
    mean = xp.sum(hidden * counts, axis=-2) / number
    peak = xp.max(xp.where(counts > 0, hidden, -1.0), axis=-2)
    x = xp.concat([whole, mean, peak], axis=-1)
    x = silu(dense(weights["context_in"], x))
    return x + silu(dense(weights["context_out"], x))


def draw(
    weights: Any,
    constants: Any,
    seen: Float[Array, "*batch context"],
    noise: Float[Array, "*batch steps draws"],
) -> Float[Array, "*batch draws"]:
    """Candidates in (-1, 1) by reverse diffusion from Gaussian noise."""
    noisy = noise[..., -1, :]
    steps = noise.shape[-2]
    base = dense(weights["denoiser_context"], seen)[..., None, :]
    for t in range(steps, 0, -1):
        clean = denoise(weights, base, noisy, constants.signal[t - 1])
        if t > 1:
            mean = constants.from_clean[t - 1] * clean + constants.from_noisy[t - 1] * noisy
            noisy = mean + constants.spread[t - 1] * noise[..., t - 2, :]
    return clean


def denoise(weights: Any, base: Array, noisy: Array, signal: Array) -> Array:
    """The clean action that a noisy one stands for; `base` is the context's part."""
    xp = _namespace(noisy)
    level = signal + xp.zeros_like(noisy)
    x = xp.stack(
        [noisy, level, xp.sin(3.0 * noisy), xp.cos(3.0 * noisy), xp.sin(9.0 * noisy)], axis=-1
    )
    x = silu(dense(weights["denoiser_in"], x) + base)
    x = silu(dense(weights["denoiser_mid"], x))
    return xp.tanh(dense(weights["denoiser_out"], x)[..., 0])


def judge(
    weights: Any,
    scene: Scene,
    at: Knots,
    seen: Float[Array, "*batch context"],
    action: Float[Array, "*batch draws"],
) -> tuple[Float[Array, "*batch draws"], Float[Array, "*batch draws"]]:
    """What the critic expects of prices: missed now, and missed per round later.

    Both are shares of the range between a random price and the best one, at least 0.
    """
    xp = _namespace(action)
    price = price_of(scene, at, action)
    # Supply rises with the price: the nearest knots bound it, and a line between guesses it.
    p, s = at.price[..., None, :], at.supply[..., None, :]
    exists = at.exists[..., None, :] > 0
    q = price[..., None]
    below, above = exists & (p <= q), exists & (p >= q)
    under = xp.max(xp.where(below, s, 0.0), axis=-1)
    over = xp.min(xp.where(above, s, 1.0), axis=-1)
    p_under = xp.max(xp.where(below, p, scene.low[..., None, None]), axis=-1)
    p_over = xp.min(xp.where(above, p, scene.top[..., None, None]), axis=-1)
    u, v = 1.0 / xp.maximum(p_under, 1e-4), 1.0 / xp.maximum(p_over, 1e-4)
    part = (u - 1.0 / xp.maximum(price, 1e-4)) / xp.maximum(u - v, 1e-6)
    guess = under + (over - under) * xp.clip(part, 0.0, 1.0)
    scale = xp.maximum(at.gain[..., SIDE : SIDE + 1], 1e-3)
    best = at.price[..., SIDE : SIDE + 1]
    step = xp.sqrt(price) - xp.sqrt(best)
    many = (scene.layers_max * scene.devices)[..., None]
    features = xp.stack(
        [
            action,
            action**2,
            (action == 0).astype(action.dtype),
            xp.sqrt(price),
            _signed_log(30.0 * step),
            _signed_log(100.0 * step),
            _signed_log(30.0 * ((1.0 - price) * under / scale - 1.0)),
            _signed_log(30.0 * ((1.0 - price) * over / scale - 1.0)),
            _signed_log(30.0 * ((1.0 - price) * guess / scale - 1.0)),
            _signed_log((over - under) * many) / 3.0,
            (xp.sqrt(price) - xp.sqrt(p_under)) * 4.0,
            (xp.sqrt(p_over) - xp.sqrt(price)) * 4.0,
            xp.clip(part, 0.0, 1.0),
        ],
        axis=-1,
    )
    base = dense(weights["critic_context"], seen)[..., None, :]
    x = silu(dense(weights["critic_in"], features) + base)
    x = x + silu(dense(weights["critic_mid"], x))
    x = x + silu(dense(weights["critic_last"], x))
    # Missed shares span four orders of magnitude: they are told apart on a log scale.
    out = dense(weights["critic_out"], x) - 3.0
    missed = xp.exp(xp.clip(out, -14.0, 3.0))
    return missed[..., 0], missed[..., 1]


def sizes() -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer."""
    side = 2 * SIDE + 1
    whole = 8 + 7 * side + 3
    return {
        "device_whole": (whole, DEVICE),
        "device_in": (3 * side, DEVICE),
        "device_out": (DEVICE, POOLED),
        "context_in": (whole + 2 * POOLED, CONTEXT),
        "context_out": (CONTEXT, CONTEXT),
        "denoiser_context": (CONTEXT, HEAD),
        "denoiser_in": (5, HEAD),
        "denoiser_mid": (HEAD, HEAD),
        "denoiser_out": (HEAD, 1),
        "critic_context": (CONTEXT, HEAD),
        "critic_in": (13, HEAD),
        "critic_mid": (HEAD, HEAD),
        "critic_last": (HEAD, HEAD),
        "critic_out": (HEAD, 2),
    }


def dense(layer: tuple[Array, Array], x: Array) -> Array:
    """A linear layer; flattened to two axes, which is much faster on a CPU."""
    weight, bias = layer
    return (x.reshape(-1, x.shape[-1]) @ weight + bias).reshape(*x.shape[:-1], weight.shape[1])


def silu(x: Array) -> Array:
    """`x * sigmoid(x)`, written so that nothing overflows."""
    return 0.5 * x * (1.0 + _namespace(x).tanh(0.5 * x))


def _signed_log(x: Array) -> Array:
    xp = _namespace(x)
    return xp.sign(x) * xp.log1p(xp.abs(x))


def _pick(values: Array, index: Array) -> Array:
    return _namespace(values).take_along_axis(values, index[..., None], axis=-1)[..., 0]


def _namespace(array: Array) -> Any:
    return array.__array_namespace__()
