"""Quoting prices to a fleet nobody knows: who may see what, and how it is scored.

A *quoter* posts a price, sees how many layers every device runs for it, and posts
the next one. This module holds what all of them share, so that a comparison
compares like with like: what a server knows (`Known`), the rounds it has seen,
the reference prior of unseen fleets, and the score.

A quote is scored by its *share of the range* (`mechanisms.stackelberg.score`): 1 is the
best a server could do that knew everything, 0 is guessing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import Outcome, outcome, settle
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction
from edgepact.mechanisms.stackelberg.score import least_price, range_of
from edgepact.mechanisms.stackelberg.terms import Game

SOURCE = "observed rounds"
"""Where bad observations are said to come from."""

Answer = Callable[[Game, float, np.random.Generator], Float[np.ndarray, " devices"]]
"""How devices answer a price: layers, by a rule that may draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What only some methods are told: how devices decide, though not their costs.

    Attributes:
        satisfaction: S.
        A: GMAC per layer.
        B: GMAC before the first layer.
    """

    satisfaction: Satisfaction
    A: float
    B: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a server knows of a fleet before it has seen an answer.

    Attributes:
        saving: b, what it saves per layer that a device runs, credits.
        layers_max: layers of the model.
        price_min, price_max: range it may post, credits per layer.
        devices: number of devices.
        integer: whether devices run whole layers.
        form: how devices decide, or None for methods that do not know it.
    """

    saving: float
    layers_max: int
    price_min: float
    price_max: float
    devices: int
    integer: bool
    form: Form | None = None

    @staticmethod
    def of(game: Game, *, form: bool) -> "Known":
        """What is public in a game; `form` tells also how devices decide.

        Raises:
            InputError: devices differ in A or B, or the lowest price is 0.
        """
        A, B = game.fleet.A, game.fleet.B
        if len(game.fleet) == 0 or np.ptp(A) > 0 or np.ptp(B) > 0:
            raise InputError("game", "fleet", "devices with one A and one B", "others")
        if not 0 < float(game.price_min) < float(game.price_max):
            raise InputError("game", "price_min", "a price above 0", float(game.price_min))
        return Known(
            saving=float(game.beta * A[0]),
            layers_max=game.layers_max,
            price_min=float(game.price_min),
            price_max=float(game.price_max),
            devices=len(game.fleet),
            integer=game.integer,
            form=Form(satisfaction=game.satisfaction, A=float(A[0]), B=float(B[0]))
            if form
            else None,
        )

    @staticmethod
    def of_any(game: Game, *, source: object) -> "Known":
        """What is public in any game, for methods that need not know how devices decide.

        Where 0 may be posted, the lowest price is `LEAST_SHARE` of what a layer saves:
        prices are looked for on scales that 0 has no place on, and it buys next to
        nothing (`least_price`). Of devices that save the server different amounts per
        layer the mean counts.

        Args:
            game: devices may differ in A and B.
            source: where the game stands, for errors.

        Raises:
            InputError: no price above 0 is worth posting.
        """
        saving, high = float(np.mean(game.saving)), float(game.price_max)
        if not saving > 0:
            raise InputError(source, "server.beta", "a cost of computing above 0", saving)
        if not high > 0:
            raise InputError(source, "server.price_max", "a price above 0", high)
        return Known(
            saving=saving,
            layers_max=game.layers_max,
            price_min=float(least_price(game)),
            price_max=high,
            devices=len(game.fleet),
            integer=game.integer,
        )

    @property
    def price_top(self) -> float:
        """Highest price worth posting: above what a layer saves, every layer is a loss."""
        return max(self.price_min, min(self.price_max, self.saving))

    def price_at(self, position: float) -> float:
        """Price at a position in [0, 1] on the logarithmic scale of prices worth posting."""
        price = self.price_min * (self.price_top / self.price_min) ** position
        return float(min(max(price, self.price_min), self.price_top))

    def position_of(self, prices: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
        """Positions of prices; all 0 where only one price is worth posting."""
        width = np.log(self.price_top / self.price_min)
        return np.log(prices / self.price_min) / (width if width > 0 else 1.0)


@runtime_checkable
class Quoter(Protocol):
    """A way to quote. Fields are its configuration; it keeps no memory of its own."""

    knows_form: ClassVar[bool]
    """Whether it must be told how devices decide."""

    knows_absence: ClassVar[bool]
    """Whether it tells a device that was away from one that sold nothing; see `ask`."""

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
        present: Bool[np.ndarray, "rounds devices"] | None = None,
    ) -> float:
        """The next price, credits per layer.

        Args:
            seed: of this fleet, the same in every round.
            known: what is public.
            prices: posted so far, the first round first.
            layers: what the devices that are here now answered.
            present: whether they were here then; always if None. Methods that do not
                know absence look at `layers` only.

        Raises:
            InputError: an observation is not a possible one.
        """
        ...


def ask(
    quoter: Quoter,
    seed: int,
    known: Known,
    prices: Float[np.ndarray, " rounds"],
    layers: Float[np.ndarray, "rounds devices"],
    present: Bool[np.ndarray, "rounds devices"],
    means: Float[np.ndarray, " rounds"],
) -> float:
    """The next price for a fleet whose devices were not all here in every round.

    A method that knows absence is told of it, and is spared rounds in which nobody took
    part who is here now. For others the mean answer of a round stands in for those that
    are missing, which is what a server could do for them; it is no answer of anybody.

    Args:
        quoter: the method.
        seed: of this fleet, the same in every round.
        known: what is public of the devices that are here now.
        prices: posted so far, the first round first.
        layers: what those devices answered; where they were away, anything.
        present: whether they were here then.
        means: mean answer of all who were there in a round, also of who has left since.

    Raises:
        InputError: an observation is not a possible one.
    """
    if quoter.knows_absence:
        some = present.any(axis=1)
        answers = np.where(present, layers, 0.0)[some]
        return quoter.quote(seed, known, prices[some], answers, present[some])
    filled = (np.round(means) if known.integer else means)[:, None]
    return quoter.quote(seed, known, prices.copy(), np.where(present, layers, filled))


def profits(
    known: Known,
    prices: Float[np.ndarray, " rounds"],
    layers: Float[np.ndarray, "rounds devices"],
) -> Float[np.ndarray, " rounds"]:
    """What buying layers brought in each round seen, `(b - P) sum_n L_n`, credits.

    Raises:
        InputError: a price or an answer is impossible; every quoter checks by this.
    """
    if layers.shape != (len(prices), known.devices):
        shape = f"{len(prices)} x {known.devices}"
        raise InputError(SOURCE, "layers", f"rounds x devices, {shape}", str(layers.shape))
    bad = ~(np.isfinite(prices) & (prices > 0))
    if np.any(bad):
        where = int(np.argmax(bad))
        raise InputError(SOURCE, f"prices[{where}]", "a number above 0", float(prices[where]))
    wrong = ~((layers >= 0) & (layers <= known.layers_max))
    if known.integer:
        wrong |= layers != np.floor(layers)
    if np.any(wrong):
        row, column = (int(at) for at in np.argwhere(wrong)[0])
        kind = "whole layers" if known.integer else "layers"
        raise InputError(
            SOURCE,
            f"layers[{row}][{column}]",
            f"{kind} from 0 to {known.layers_max}",
            float(layers[row, column]),
        )
    return (known.saving - prices) * layers.sum(axis=1)


def in_order(
    layers: Float[np.ndarray, "rounds devices"],
) -> Float[np.ndarray, "rounds devices"]:
    """The same answers with the devices in an order that their answers alone decide.

    Methods that draw numbers for each device quote the same whoever enrolled first.
    """
    return layers[:, np.lexsort(layers)] if len(layers) else layers


def meet(
    quoter: Quoter,
    game: Game,
    known: Known,
    *,
    rounds: int,
    seed: int,
    answer: Answer | None = None,
) -> Outcome:
    """Lets a quoter meet one fleet.

    Args:
        quoter: the method.
        game: the fleet as NumPy arrays.
        known: what the quoter is told of it.
        rounds: quotes.
        seed: of the quoter's own randomness, and of the answers'.
        answer: how devices answer; exact best responses if None.

    Returns:
        All rounds: prices of shape `(rounds)`, layers `(rounds, devices)`, and what
        everybody got.
    """
    rng = np.random.default_rng([seed, 1])
    prices, layers = np.empty(rounds), np.empty((rounds, known.devices))
    for at in range(rounds):
        price = quoter.quote(seed, known, prices[:at].copy(), layers[:at].copy())
        assert known.price_min <= price <= known.price_max, (quoter, price)
        prices[at] = price
        layers[at] = answer(game, price, rng) if answer else outcome(game, price).layers
    return settle(game, prices, layers)


def play(
    quoter: Quoter,
    games: Sequence[Game],
    *,
    rounds: int,
    seed: int,
    on_fleet: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "fleets rounds"]:
    """Lets a quoter meet fleets, each for some rounds, and scores its quotes.

    Args:
        quoter: the method.
        games: fleets as NumPy arrays, the devices of each with one A and one B.
        rounds: quotes to each fleet.
        seed: of the quoter's own randomness.
        on_fleet: told after each fleet how many are done, and how many there are.

    Returns:
        Shares of the range; at most 1.
    """
    shares = np.empty((len(games), rounds))
    for index, game in enumerate(games):
        known = Known.of(game, form=quoter.knows_form)
        met = meet(quoter, game, known, rounds=rounds, seed=seed_of(seed, index))
        shares[index] = range_of(game).share(met.server_utility)
        if on_fleet:
            on_fleet(index + 1, len(games))
    return shares


def seed_of(seed: int, index: int) -> int:
    """The seed of one fleet of many."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def best_so_far(
    shares: Float[np.ndarray, "fleets rounds"],
) -> Float[np.ndarray, "fleets rounds"]:
    """Shares if a server went back to its best quote after each round.

    It sees what each of its quotes earned, so it could; the price of having
    searched is in `regret`, not in this.
    """
    return np.maximum.accumulate(shares, axis=1)


def regret(shares: Float[np.ndarray, "fleets rounds"]) -> Float[np.ndarray, " fleets"]:
    """What was missed over all rounds, in rounds of the full range."""
    return np.sum(1.0 - shares, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePrior:
    """The fleets that methods are compared on.

    Alpha of device n is `alpha_low + alpha_shift a + alpha_width b u_n`, its capacity
    `capacity_low + capacity_shift c + capacity_width v_n`, with a, b, c drawn once a
    fleet and u, v once a device, all uniform on [0, 1]: devices of one fleet are
    alike in ways that differ between fleets, which is what can be learned from them.

    Attributes:
        devices_max: numbers of devices are uniform on 1 to this.
        A, B: GMAC per layer and before the first one.
        beta: credits per GMAC that is left to the server.
        price_min, price_max: range that may be posted, credits per layer.
    """

    devices_max: int = 16
    alpha_low: float = 1.0
    alpha_shift: float = 4.0
    alpha_width: float = 4.0
    capacity_low: float = 6.0
    capacity_shift: float = 6.0
    capacity_width: float = 4.0
    A: float = 1.0
    B: float = 0.5
    beta: float = 1.0
    layers_max: int = 12
    price_min: float = 0.05
    price_max: float = 3.0
    satisfaction: Satisfaction = FAMILIES["log1p"]

    def fleet(self, rng: np.random.Generator, devices: int) -> Fleet:
        """Draws one fleet."""
        a, b, c = rng.uniform(size=3)
        u, v = rng.uniform(size=(2, devices))
        return Fleet(
            alpha=self.alpha_low + self.alpha_shift * a + self.alpha_width * b * u,
            capacity=self.capacity_low + self.capacity_shift * c + self.capacity_width * v,
            A=np.full(devices, self.A),
            B=np.full(devices, self.B),
        )

    def game(self, fleet: Fleet, *, integer: bool) -> Game:
        """The game that is played with a fleet; the fixed revenue is 0."""
        return Game(
            fleet=fleet,
            revenue=0.0,
            beta=self.beta,
            price_min=self.price_min,
            price_max=self.price_max,
            layers_max=self.layers_max,
            integer=integer,
            satisfaction=self.satisfaction,
        )


REFERENCE = ReferencePrior()
"""The reference prior itself."""


def reference_fleets(
    seed: int, fleets: int, *, integer: bool, prior: ReferencePrior = REFERENCE
) -> list[Game]:
    """Games with fleets of the reference prior; one seed gives the same fleets in both kinds."""
    rng = np.random.default_rng(seed)
    games = []
    for _ in range(fleets):
        devices = int(rng.integers(1, prior.devices_max + 1))
        games.append(prior.game(prior.fleet(rng, devices), integer=integer))
    return games
