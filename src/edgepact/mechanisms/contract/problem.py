r"""Writing a contract's menu as a `Problem`: what is seen, what is proposed, what is earned.

An environment is a contract: $K$ types with costs $\psi$ and frequencies $p$, a value function
and a form of cost. The principal knows the costs that types may have and what quality is worth
to it. How frequent each type is it knows from *take-up* alone: which menus were offered before,
and how many devices took each item. Nobody's own type is ever shown.

Two languages for a menu. `constructed`: one number a type says by how much its quality exceeds
that of the type before, so qualities rise, and the recursion pays them as cheaply as can be;
no menu that can be said makes anybody lie or lose. `paper`: $2K$ numbers, qualities and rewards,
of which nearly all break a promise; the learner is fined for it. It is what the literature on
diffusion models for contracts does.

The optimum is `contract.optimal_menu` for bounds without a budget and without a cost of taking
part, written in JAX.
"""

from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from edgepact.errors import InputError, check_choice, check_count
from edgepact.mechanisms.contract.ironing import ironed, virtual_cost
from edgepact.mechanisms.contract.quality import Log1p, Saturating
from edgepact.mechanisms.contract.terms import Contract
from edgepact.problem import Payoff, Problem

ActionMode = Literal["constructed", "paper"]
"""What the numbers of an action mean."""

SPAN = 2.0
"""Half the range of logits: the smallest step that is not flat is resolved e^4 times finer."""

NEWTON = 8
"""Steps to Wright's omega function; the error is below rounding after six."""

COST_SCALE = 3.0
"""A factor of e^3 between costs is a distance of 1 in what is observed."""

INDIFFERENT = 1e-5
"""Share of V's largest value below which a device, in `paper`, does not care: float32 rounds."""


class Worth(eqx.Module):
    """V as arrays: base + scale * ln(1 + q), or base + scale * (1 - exp(-rate * q)).

    Attributes:
        saturates: 1 for the second form, 0 for the first.
        scale: credits.
        rate: of the second form.
        base: V(0), credits.
    """

    saturates: Float[Array, ""]
    scale: Float[Array, ""]
    rate: Float[Array, ""]
    base: Float[Array, ""]

    def at(self, quality: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """V(q), credits."""
        curve = jnp.where(self.saturates > 0, -jnp.expm1(-self.rate * quality), jnp.log1p(quality))
        return self.base + self.scale * curve

    def best(
        self, price: Float[Array, "*shape"], quadratic: Float[Array, ""]
    ) -> Float[Array, "*shape"]:
        """The quality that maximises V(q) - price * c(q) over q >= 0, as in `quality`."""
        ratio = self.scale / price
        log1p = jnp.where(
            quadratic > 0, ratio / (1.0 + jnp.sqrt(1.0 + 2.0 * ratio)), jnp.maximum(ratio - 1, 0)
        )
        level = jnp.log(self.scale * self.rate) - jnp.log(price)
        omega = _wright_omega(level + jnp.log(self.rate / 2.0))
        saturating = jnp.where(quadratic > 0, omega, jnp.maximum(level, 0.0)) / self.rate
        return jnp.where(self.saturates > 0, saturating, log1p)


class Instance(eqx.Module):
    """A contract to be written, types in order of falling cost.

    Attributes:
        psi: credits per unit of c(q).
        probability: of each type; the principal does not see it.
        worth: V.
        quadratic: 1 if c(q) = q^2, 0 if c(q) = q.
        quality_max: of every item; the least is 0.
    """

    psi: Float[Array, " types"]
    probability: Float[Array, " types"]
    worth: Worth
    quadratic: Float[Array, ""]
    quality_max: Float[Array, ""]

    @staticmethod
    def of(contract: Contract) -> "Instance":
        """A contract's own instance.

        Raises:
            InputError: the contract has a budget, a participation cost, a least quality, types
                of unlike worth, or a value that is not `Log1p`, or `Saturating` from 0 up.
        """
        value, kind = contract.value, "contract"
        limits = (contract.budget, contract.participation_cost, contract.quality_min)
        if limits != (None, 0.0, 0.0):
            expected = "no budget, participation cost or least quality"
            raise InputError(kind, "budget", expected, "one of them")
        if contract.value_scale is not None and np.ptp(contract.value_scale) > 0:
            raise InputError(kind, "value_scale", "types of equal worth", "others")
        if not isinstance(value, Log1p | Saturating) or getattr(value, "base", 0.0) < 0.0:
            expected = "log1p, or saturating from 0 up; `fit_saturating` fits it to measurements"
            raise InputError(kind, "value", expected, "another")
        order = np.argsort(-contract.psi, kind="stable")
        factor = 1.0 if contract.value_scale is None else float(contract.value_scale[0])
        saturates = isinstance(value, Saturating)
        worth = Worth(
            saturates=jnp.asarray(float(saturates)),
            scale=jnp.asarray(factor * value.scale),
            rate=jnp.asarray(value.rate if isinstance(value, Saturating) else 1.0),
            base=jnp.asarray(factor * value.base if isinstance(value, Saturating) else 0.0),
        )
        return Instance(
            psi=jnp.asarray(contract.psi[order], jnp.float32),
            probability=jnp.asarray(contract.probability[order], jnp.float32),
            worth=worth,
            quadratic=jnp.asarray(float(contract.cost == "quadratic")),
            quality_max=jnp.asarray(float(contract.quality_max)),
        )

    def contract(self) -> Contract:
        """The same as a `Contract` of NumPy, for one device."""
        worth, base = self.worth, float(self.worth.base)
        value: Log1p | Saturating = Log1p(scale=float(worth.scale))
        if float(worth.saturates) > 0:
            value = Saturating(scale=float(worth.scale), rate=float(worth.rate), base=base)
        elif base != 0.0:
            raise InputError("instance", "worth.base", "0 of a log1p", base)
        p = np.asarray(self.probability, float)
        return Contract(
            psi=np.asarray(self.psi, float),
            probability=p / p.sum(),
            value=value,
            cost="quadratic" if float(self.quadratic) > 0 else "linear",
            quality_max=float(self.quality_max),
        )

    def cost(self, quality: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """c(q)."""
        return jnp.where(self.quadratic > 0, quality * quality, quality)

    def rewards(self, quality: Float[Array, " types"]) -> Float[Array, " types"]:
        """The cheapest rewards for rising qualities, credits."""
        steps = jnp.diff(self.cost(quality), prepend=jnp.zeros(1))
        return jnp.cumsum(self.psi * steps)

    def profit(self, quality: Float[Array, " types"]) -> Float[Array, ""]:
        """What rising qualities earn a device, expected, at the cheapest rewards; credits."""
        gain = self.worth.at(quality) - self.rewards(quality)
        return jnp.sum(self.probability * gain)

    def bought_at(self, price: Float[Array, " types"]) -> Float[Array, " types"]:
        """The best quality of each type, were c to cost the principal so much; within bounds."""
        return jnp.clip(self.worth.best(price, self.quadratic), 0.0, self.quality_max)

    def optimal_quality(self) -> Float[Array, " types"]:
        """Qualities of the exact optimal menu."""
        return self.bought_at(ironed(virtual_cost(self.psi, self.probability), self.probability))


class InstancePrior(eqx.Module):
    """Draws contracts that differ in every way; log-uniform unless said otherwise.

    Attributes:
        spread: range of the natural logarithm of the dearest cost over the cheapest; uniform.
        concentration: range of the Dirichlet distribution's parameter, common to all types: small
            ones give a few frequent types, large ones equal frequencies.
        quality_max: range where V is log1p; V bends at qualities of 1.
        saturating_max: range where V saturates, which by 5 it has done.
        top: range of the share of `quality_max` that the cheapest type would deliver if costs
            were public; uniform. Above 1 the bound is reached.
        least: share of all devices that is spread evenly over types, so that each occurs.
    """

    spread: tuple[float, float] = eqx.field(static=True, default=(0.2, 2.5))
    concentration: tuple[float, float] = eqx.field(static=True, default=(0.3, 10.0))
    quality_max: tuple[float, float] = eqx.field(static=True, default=(0.5, 20.0))
    saturating_max: tuple[float, float] = eqx.field(static=True, default=(0.5, 3.0))
    top: tuple[float, float] = eqx.field(static=True, default=(0.3, 1.3))
    least: float = eqx.field(static=True, default=0.01)

    def frequencies(self, key: PRNGKeyArray, types: int) -> Float[Array, " types"]:
        """How frequent each type is."""
        of_level, of_shares = jax.random.split(key)
        level = jnp.exp(_uniform(of_level, tuple(np.log(self.concentration).tolist())))
        # In logarithms: gamma variables of small levels are below the smallest float.
        shares = jax.nn.softmax(jax.random.loggamma(of_shares, level, (types,)))
        return (1.0 - self.least) * shares + self.least / types

    def sample(self, key: PRNGKeyArray, types: int) -> Instance:
        """One contract; the cheapest type costs 1, which is but a unit of money."""
        keys = jax.random.split(key, 7)
        places = jnp.sort(jax.random.uniform(keys[0], (types,)))[::-1]
        psi = jnp.exp(_uniform(keys[1], self.spread) * (places - places[-1]))
        saturates = jax.random.bernoulli(keys[3]).astype(psi.dtype)
        low, high = jnp.where(
            saturates > 0,
            jnp.log(np.array(self.saturating_max)),
            jnp.log(np.array(self.quality_max)),
        )
        quality_max = jnp.exp(jax.random.uniform(keys[2], minval=low, maxval=high))
        quadratic = jax.random.bernoulli(keys[4]).astype(psi.dtype)
        wanted = _uniform(keys[5], self.top) * quality_max
        # V'(wanted) = psi_K c'(wanted) gives the scale of V.
        slope = jnp.where(saturates > 0, jnp.exp(-wanted), 1.0 / (1.0 + wanted))
        scale = psi[-1] * jnp.where(quadratic > 0, 2.0 * wanted, 1.0) / slope
        worth = Worth(saturates, scale, jnp.ones(()), jnp.zeros(()))
        return Instance(psi, self.frequencies(keys[6], types), worth, quadratic, quality_max)


class History(eqx.Module):
    """Menus offered and what was taken, the latest first.

    Attributes:
        quality: of each type's item, as a share of `quality_max`.
        taken: share of the round's devices that took the item. Of an item that several types
            share, all takers stand at the first of them: no one can tell them apart.
    """

    quality: Float[Array, "rounds types"]
    taken: Float[Array, "rounds types"]

    def remember(self, quality: Float[Array, " types"], taken: Float[Array, " types"]) -> "History":
        """Puts a round in front; the oldest drops out."""
        return History(
            jnp.concatenate([quality[None], self.quality[:-1]]),
            jnp.concatenate([taken[None], self.taken[:-1]]),
        )


class Seen(eqx.Module):
    """What the principal may see.

    Attributes:
        costs: logarithm of each type's cost over the cheapest one's, scaled.
        worth: of V and c: its form, the cost's form, V's logarithm of scale and rate with the
            cheapest cost and `quality_max` as units.
        history: of take-up.
        frequencies: of types, if the principal is told them.
    """

    costs: Float[Array, " types"]
    worth: Float[Array, " worths"]
    history: History
    frequencies: Float[Array, " types"] | None


class Round(eqx.Module):
    """State of an episode: the contract, private frequencies included, and what was seen."""

    instance: Instance
    history: History
    number: Float[Array, ""]


class _Offer(NamedTuple):
    quality: Float[Array, " types"]
    reward: Float[Array, " types"]


class MenuDesign(Problem):
    """A principal offers a menu to devices whose types it does not know, round after round.

    Attributes:
        instances: a prior to draw a contract from at each reset, or one fixed contract.
        types: K, of a prior.
        devices: who answer a menu in one round.
        window: rounds of take-up remembered; as many were played before the first one, each
            with the menu that is best for frequencies which somebody believed in.
        rounds: length of an episode; None plays on for ever.
        told: whether the principal is told the true frequencies besides.
        action: what the numbers of an action mean.
        penalty: with `paper`, what a credit of broken promises takes from the reward.
    """

    instances: InstancePrior | Instance = InstancePrior()
    types: int = eqx.field(static=True, default=8)
    devices: int = eqx.field(static=True, default=32)
    window: int = eqx.field(static=True, default=3)
    rounds: int | None = eqx.field(static=True, default=1)
    told: bool = eqx.field(static=True, default=False)
    action: ActionMode = eqx.field(static=True, default="constructed")
    penalty: float = eqx.field(static=True, default=2.0)

    def __check_init__(self) -> None:
        instances = self.instances
        if isinstance(instances, Instance) and instances.psi.shape != (self.types,):
            found = f"{instances.psi.shape}"
            raise InputError("MenuDesign", "types", "the number of the contract's types", found)
        check_choice("MenuDesign", "action", self.action, get_args(ActionMode))
        for name in ("types", "devices", "window"):
            check_count("MenuDesign", name, getattr(self, name))
        if self.rounds is not None:
            check_count("MenuDesign", "rounds", self.rounds)

    @property
    def action_size(self) -> int:
        """A step of quality for each type, or with `paper` a quality and a reward."""
        return self.types if self.action == "constructed" else 2 * self.types

    def reset(self, key: PRNGKeyArray) -> Round:
        """Draws a contract, unless it is fixed, and the rounds of take-up before the first."""
        of_instance, of_past = jax.random.split(key)
        instance = self.instances
        if isinstance(instance, InstancePrior):
            instance = instance.sample(of_instance, self.types)

        def before(key: PRNGKeyArray) -> tuple[Array, Array]:
            of_belief, of_answers = jax.random.split(key)
            # Evenly distributed over all frequencies there are.
            odds = jax.random.exponential(of_belief, (self.types,))
            believed = 0.99 * odds / jnp.sum(odds) + 0.01 / self.types
            quality = replace(instance, probability=believed).optimal_quality()
            offer = _Offer(quality, instance.rewards(quality))
            return quality / instance.quality_max, self._taken(of_answers, instance, offer)

        history = History(*jax.vmap(before)(jax.random.split(of_past, self.window)))
        return Round(instance, history, jnp.zeros(()))

    def observe(self, state: Round) -> Seen:
        """Costs, worth and take-up; the frequencies only if `told`."""
        instance = state.instance
        worth, lowest = instance.worth, instance.psi[-1]
        burden = lowest * instance.cost(instance.quality_max)
        scale = jnp.log(worth.at(instance.quality_max) / burden)
        bend = jnp.log(worth.rate * instance.quality_max)
        return Seen(
            costs=jnp.log(instance.psi / lowest) / COST_SCALE,
            worth=jnp.stack([worth.saturates, instance.quadratic, scale / 2.0, bend / 3.0]),
            history=state.history,
            frequencies=instance.probability if self.told else None,
        )

    def step(
        self, key: PRNGKeyArray, state: Round, action: Float[Array, " action"]
    ) -> tuple[Round, Payoff]:
        """Offers the menu an action stands for; devices take what suits them best.

        The payoff is what is expected over the true frequencies. Its followers are the types.
        """
        instance, offer = state.instance, self.offer(state.instance, action)
        taken = self._taken(key, instance, offer)
        shares = offer.quality / instance.quality_max
        after = Round(instance, state.history.remember(shares, taken), state.number + 1.0)
        return after, self._payoff(instance, offer)

    def optimum(self, state: Round) -> Payoff:
        """The optimal menu for the true frequencies."""
        quality = state.instance.optimal_quality()
        return self._payoff(state.instance, _Offer(quality, state.instance.rewards(quality)))

    def best_action(self, state: Round) -> Float[Array, " action"]:
        """The optimal menu as an action."""
        instance = state.instance
        quality = instance.optimal_quality()
        if self.action == "constructed":
            return action_of(quality / instance.quality_max)
        # The optimal menu loses on no type: no reward exceeds what the quality is worth.
        share = instance.rewards(quality) / instance.worth.at(instance.quality_max)
        both = jnp.concatenate([quality / instance.quality_max, share])
        return jnp.clip(2.0 * both - 1.0, -1.0, 1.0)

    def finished(self, state: Round) -> Bool[Array, ""]:
        """After `rounds` rounds."""
        return jnp.asarray(False) if self.rounds is None else state.number >= self.rounds

    def offer(self, instance: Instance, action: Float[Array, " action"]) -> _Offer:
        """The qualities and rewards an action stands for."""
        if self.action == "constructed":
            quality = instance.quality_max * shares_of(action)
            return _Offer(quality, instance.rewards(quality))
        both = (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
        most = instance.worth.at(instance.quality_max)
        return _Offer(instance.quality_max * both[: self.types], most * both[self.types :])

    def _taken(self, key: PRNGKeyArray, instance: Instance, offer: _Offer) -> Array:
        """Shares of the devices by item, those of a shared item at its first type."""
        drawn = jax.random.categorical(key, jnp.log(instance.probability), shape=(self.devices,))
        item, takes = self._choices(instance, offer)
        same = (offer.quality[:, None] == offer.quality) & (offer.reward[:, None] == offer.reward)
        first = jnp.argmax(same, axis=0)[item]
        counts = jax.nn.one_hot(first[drawn], self.types) * takes[drawn][:, None]
        return jnp.sum(counts, axis=0) / self.devices

    def _choices(self, instance: Instance, offer: _Offer) -> tuple[Array, Array]:
        """The item each type takes, and whether it takes any."""
        own = jnp.arange(self.types)
        if self.action == "constructed":
            # Nobody gains by another item; who is indifferent does what it is meant to.
            return own, jnp.ones(self.types)
        utility = offer.reward - instance.psi[:, None] * instance.cost(offer.quality)
        best = jnp.max(utility, axis=1)
        slack = INDIFFERENT * instance.worth.at(instance.quality_max)
        honest = jnp.diagonal(utility) >= best - slack
        takes = (best >= -slack).astype(utility.dtype)
        return jnp.where(honest, own, jnp.argmax(utility, axis=1)), takes

    def _payoff(self, instance: Instance, offer: _Offer) -> Payoff:
        item, takes = self._choices(instance, offer)
        reward = offer.reward[item] * takes
        worth = jnp.where(takes > 0, instance.worth.at(offer.quality[item]), 0.0)
        burden = instance.psi * instance.cost(offer.quality[item]) * takes
        leader = jnp.sum(instance.probability * (worth - reward))
        scale = instance.worth.at(instance.quality_max)
        told = leader
        if self.action == "paper":
            promised = instance.worth.at(offer.quality) - offer.reward
            fine = self.penalty * broken_promises(instance, offer.quality, offer.reward)
            told = jnp.sum(instance.probability * promised) - fine
        return Payoff(leader, reward - burden, instance.probability * reward, told / scale)


def shares_of(action: Float[Array, " types"]) -> Float[Array, " types"]:
    """Rising qualities, as shares of the largest, from steps in [-1, 1].

    A cumulative softmax, with two changes that let it say all menus. Exponentials are taken
    from that of -1, so -1 is no step at all: types are pooled. And the sum of the steps divides
    them only where it exceeds the range, so a menu may end below it.
    """
    step = jnp.expm1(SPAN * (jnp.clip(action, -1.0, 1.0) + 1.0)) / np.expm1(2.0 * SPAN)
    # Rounding must not make the last step exceed the range.
    return jnp.minimum(jnp.cumsum(step) / jnp.maximum(jnp.sum(step), 1.0), 1.0)


def action_of(shares: Float[Array, " types"]) -> Float[Array, " types"]:
    """The inverse of `shares_of`."""
    step = jnp.maximum(jnp.diff(shares, prepend=jnp.zeros(1)), 0.0)
    return jnp.clip(jnp.log1p(step * np.expm1(2.0 * SPAN)) / SPAN - 1.0, -1.0, 1.0)


def broken_promises(
    instance: Instance, quality: Float[Array, " types"], reward: Float[Array, " types"]
) -> Float[Array, ""]:
    """The most any type gains by another's item, plus the most any loses by its own; credits."""
    utility = reward - instance.psi[:, None] * instance.cost(quality)
    own = jnp.diagonal(utility)
    return jnp.max(utility - own[:, None]) + jnp.maximum(jnp.max(-own), 0.0)


def _uniform(key: PRNGKeyArray, span: tuple[float, ...]) -> Array:
    return jax.random.uniform(key, minval=span[0], maxval=span[1])


def _wright_omega(x: Array) -> Array:
    """The w with w + ln w = x, by Newton's method; differentiable."""

    def closer(_: Array, w: Array) -> Array:
        return w * (1.0 + x - jnp.log(w)) / (1.0 + w)

    # A loop, since compilers copy what is written out into all that uses it.
    return jax.lax.fori_loop(0, NEWTON, closer, jax.nn.softplus(x))
