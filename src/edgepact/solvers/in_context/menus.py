r"""The GDM in context: a menu for a population of types never seen before.

Trained once, in simulation, over many populations; what it learns of a new one it reads from
the take-up of past menus, or from frequencies if it is told them.

*What it decides.* Not qualities but a price of $c$ for every type, falling from the dearest
type to the cheapest; the menu buys from each type what is best at its price. The theory
(docs/theory/contract.md) says that nothing is lost by it: the best prices, the ironed virtual
costs, depend on costs and frequencies alone, whatever the value function and the form of $c$
are. So one policy serves them all, measured value functions included. And since qualities bought
at falling prices rise, the recursion pays for them so that nobody gains by a lie or loses.

*How.* The reverse diffusion draws $\psi_k/\text{price}_k$, a number between 0 and 1, for all
types at once; a running minimum makes prices fall. Its denoiser starts from the prices of the
plug-in rule, the optimal menu for estimated frequencies, and learns by how much to depart from
them: estimates of few devices are not to be trusted, least so of rare types.

*Units.* Costs enter by their ratios: money has no scale.

Only arithmetic of the array API is used: training compiles it with JAX, and NumPy is enough to
write a menu.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.contract.ironing import better, ironed, virtual_cost
from edgepact.mechanisms.contract.optimum import menu_at
from edgepact.mechanisms.contract.take_up import TakeUp, frequencies, told_apart
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.solvers.in_context.generator import dense, silu
from edgepact.solvers.in_context.policy_file import Constants, Weights, read_policy, write_policy

Array = Any
"""NumPy or JAX array."""

SHIPPED = Path(__file__).parent / "weights" / "menus.npz"
"""The policy that comes with the package; its model card stands beside it."""

TYPES = 16
"""Most types of a menu."""

STEPS = 5
"""Steps of the reverse diffusion."""

DRAWS = 8
"""Draws that a menu is the mean of."""

LEAST = 1e-3
"""Least share of a cost in its price: above a thousand times the cost nobody buys."""

SURE = 0.9999
"""Largest action the denoiser starts from: tanh reaches no end."""

FEATURES, WHOLE = 8, 3
CONTEXT, HEAD = 160, 128


class Policy(NamedTuple):
    """A trained policy.

    Attributes:
        weights: of all layers.
        constants: of the reverse diffusion.
    """

    weights: Weights
    constants: Constants


class Scene(NamedTuple):
    """What the policy may see; types in order of falling cost, padded in front.

    Attributes:
        psi: costs; of padding, that of the first type.
        exists: 1 for types, 0 for padding.
        estimate: of frequencies, with one device added to each type.
        apart: devices that chose while the type's item was not that of the type before.
        devices: that chose; infinite if frequencies were told.
    """

    psi: Float[Array, "*batch types"]
    exists: Float[Array, "*batch types"]
    estimate: Float[Array, "*batch types"]
    apart: Float[Array, "*batch types"]
    devices: Float[Array, "*batch"]


class InContextMenus:
    """Prices for types with a trained policy; `contract.menu_at` makes a menu of them.

    Args:
        policy: weights, from `load` or `InContextMenus.shipped`.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @staticmethod
    def shipped() -> "InContextMenus":
        """With the weights that come with the package."""
        return InContextMenus(load(SHIPPED))

    def prices(
        self,
        seed: int,
        psi: Float[np.ndarray, " types"],
        known: TakeUp | Float[np.ndarray, " types"],
    ) -> Float[np.ndarray, " types"]:
        """Credits per unit of c to buy from each type at; the dearer type's is never lower.

        Args:
            seed: of the noise that prices are drawn from.
            psi: costs, in any order.
            known: take-up of past menus, or the frequencies of types in the order of `psi`.

        Raises:
            InputError: more than `TYPES` types, or costs that are not above 0.
        """
        psi = np.asarray(psi, float)
        if psi.ndim != 1 or not 1 <= len(psi) <= TYPES:
            raise InputError("menu", "psi", f"1 to {TYPES} types", f"shape {psi.shape}")
        if not (np.isfinite(psi).all() and (psi > 0).all()):
            raise InputError("menu", "psi", "costs above 0", "others")
        order = np.argsort(-psi, kind="stable")
        told = known if isinstance(known, TakeUp) else np.asarray(known, float)[order]
        scene = seen(psi[order][None], told)
        noise = np.random.default_rng(seed).normal(size=(1, STEPS, DRAWS, TYPES))
        share = draw(self._policy, scene, noise.astype(np.float32))
        price = np.empty(len(psi))
        price[order] = prices_of(scene, np.mean(share, axis=-2))[0, TYPES - len(psi) :]
        return price


def gdm_menu(contract: Contract, seed: int = 0) -> Menu:
    """The menu of the policy that ships, for a contract whose frequencies are known.

    Raises:
        InputError: more than `TYPES` types.
    """
    prices = InContextMenus.shipped().prices(seed, contract.psi, contract.probability)
    return menu_at(contract, prices)


def seen(psi: Float[np.ndarray, "batch types"], known: TakeUp | np.ndarray) -> Scene:
    """A scene of NumPy arrays, padded; costs and what is known in order of falling cost."""
    missing = TYPES - psi.shape[-1]
    exists = np.pad(np.ones(psi.shape), ((0, 0), (missing, 0)))
    costs = np.concatenate([np.repeat(psi[:, :1], missing, axis=1), psi], axis=1)

    def padded(column: np.ndarray) -> np.ndarray:
        column = column.reshape(psi.shape)
        return np.pad(column, ((0, 0), (missing, 0)))

    if isinstance(known, TakeUp):
        estimate = padded(frequencies(known, np.ones(psi.shape), pseudo=1.0))
        apart = padded(told_apart(known))
        devices = np.sum(known.taken, axis=(-1, -2)).reshape(-1)
    else:
        estimate, apart = padded(known), padded(np.full(psi.shape, np.inf))
        devices = np.full(len(psi), np.inf)
    return Scene(costs, exists, estimate, apart, devices)


def context(weights: Weights, scene: Scene) -> Float[Array, "*batch context"]:
    """All that is seen, as one vector."""
    xp = scene.psi.__array_namespace__()
    psi, exists = scene.psi, scene.exists
    after = xp.concat([psi[..., 1:], psi[..., -1:]], axis=-1)
    drop = exists * (psi - after) / psi
    share = xp.maximum(scene.estimate, 1e-6)
    rarer = better(scene.estimate)
    rows = xp.concat(
        [
            exists,
            drop,
            xp.log(psi / psi[..., -1:]) / 3.0,
            exists * xp.sqrt(share),
            rarer,
            exists * _hint(scene),
            exists * xp.log(drop * rarer / share + 0.01) / 5.0,
            exists / xp.sqrt(1.0 + scene.apart),
        ],
        axis=-1,
    )
    number = xp.sum(exists, axis=-1)
    whole = xp.stack([number / TYPES, 1.0 / number, 1.0 / xp.sqrt(1.0 + scene.devices)], axis=-1)
    x = xp.concat([rows, whole], axis=-1).astype(weights["context_in"][1].dtype)
    x = silu(dense(weights["context_in"], x))
    return x + silu(dense(weights["context_out"], x))


def _hint(scene: Scene) -> Array:
    """Shares of costs in the prices of the optimal menu, were the estimate exact."""
    xp = scene.psi.__array_namespace__()
    # Padding costs what the first type does and is next to never there: it changes nothing.
    weight = xp.where(scene.exists > 0, xp.maximum(scene.estimate, 1e-6), 1e-9)
    return scene.psi / ironed(virtual_cost(scene.psi, weight), weight)


class Grounds(NamedTuple):
    """What does not change from step to step of the diffusion; axes batch, draws, ...

    Attributes:
        base: the context's part of the denoiser's first layer.
        start: the plug-in rule's action, before tanh.
    """

    base: Array
    start: Array


def grounds(weights: Weights, scene: Scene) -> Grounds:
    """What is seen, as the denoiser takes it."""
    xp = scene.psi.__array_namespace__()
    base = dense(weights["denoiser_context"], context(weights, scene))[..., None, :]
    plug_in = xp.clip(2.0 * _hint(scene) - 1.0, -SURE, SURE)
    return Grounds(base, xp.atanh(plug_in).astype(base.dtype)[..., None, :])


def draw(policy: Policy, scene: Scene, noise: Float[Array, "*batch steps draws types"]) -> Array:
    """Draws in (-1, 1), `(*batch, draws, types)`, by reverse diffusion from Gaussian noise."""
    constants, steps = policy.constants, noise.shape[-3]
    seen = grounds(policy.weights, scene)
    noisy = noise[..., -1, :, :]
    for t in range(steps, 0, -1):
        clean = denoise(policy.weights, seen, noisy, constants.signal[t - 1])
        if t > 1:
            mean = constants.from_clean[t - 1] * clean + constants.from_noisy[t - 1] * noisy
            noisy = mean + constants.spread[t - 1] * noise[..., t - 2, :, :]
    return clean


def denoise(weights: Weights, seen: Grounds, noisy: Array, signal: Array) -> Array:
    """The clean action that a noisy one stands for."""
    xp = noisy.__array_namespace__()
    level = signal + xp.zeros_like(noisy[..., :1])
    x = silu(dense(weights["denoiser_in"], xp.concat([noisy, level], axis=-1)) + seen.base)
    x = x + silu(dense(weights["denoiser_mid"], x))
    return xp.tanh(seen.start + dense(weights["denoiser_out"], x))


def prices_of(scene: Scene, action: Float[Array, "*batch types"]) -> Array:
    """Falling prices that actions in [-1, 1] stand for; of padding, no one buys anything."""
    xp = action.__array_namespace__()
    share = xp.maximum((action + 1.0) / 2.0, LEAST)
    price = xp.where(scene.exists > 0, scene.psi / share, scene.psi[..., :1] / LEAST)
    # A running minimum, by hand: its name differs between namespaces.
    falling = [price[..., 0]]
    for at in range(1, price.shape[-1]):
        falling.append(xp.minimum(falling[-1], price[..., at]))
    return xp.stack(falling, axis=-1)


def action_of(scene: Scene, price: Float[Array, "*batch types"]) -> Array:
    """The inverse of `prices_of`, for falling prices."""
    xp = price.__array_namespace__()
    return 2.0 * xp.clip(scene.psi / price, LEAST, 1.0) - 1.0


def sizes() -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer."""
    return {
        "context_in": (FEATURES * TYPES + WHOLE, CONTEXT),
        "context_out": (CONTEXT, CONTEXT),
        "denoiser_context": (CONTEXT, HEAD),
        "denoiser_in": (TYPES + 1, HEAD),
        "denoiser_mid": (HEAD, HEAD),
        "denoiser_out": (HEAD, TYPES),
    }


def load(path: Path) -> Policy:
    """Reads a policy.

    Raises:
        InputError: the file is missing, damaged or of another shape.
    """
    read = read_policy(path, "a trained policy for menus", sizes=sizes(), steps=STEPS)
    return Policy(read.weights, read.constants)


def save(path: Path, policy: Policy) -> None:
    """Writes a policy."""
    write_policy(path, policy.weights, policy.constants)
