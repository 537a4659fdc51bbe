"""What quoters may see, and how quotes are scored."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.score import LEAST_SHARE, range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.by_name import quoter as named
from edgepact.solvers.by_name import quoters
from edgepact.solvers.known_form.bayes import BayesianPostedPrice, BayesianPosterior
from edgepact.solvers.known_form.identify import IdentifyThenSolve
from edgepact.solvers.known_form.told_posterior import ToldPosterior
from edgepact.solvers.pretrained import transformer
from edgepact.solvers.pretrained.transformer import Transformer
from edgepact.solvers.quoter import Known, Quoter, ask, profits
from edgepact.solvers.quoting import REFERENCE, best_so_far, meet, play, reference_fleets, regret
from edgepact.solvers.search.cma_es import CMAES
from edgepact.solvers.search.gaussian_process import GaussianProcess
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.solvers.search.grid import GridSearch
from edgepact.solvers.search.monotone_process import MonotoneProcess
from edgepact.solvers.search.random_quotes import RandomQuotes

SIZES = transformer.sizes()
QUOTERS: list[Quoter] = [
    RandomQuotes(),
    GridSearch(),
    GoldenSection(),
    CMAES(),
    GaussianProcess(),
    MonotoneProcess(),
    IdentifyThenSolve(),
    BayesianPostedPrice(),
    BayesianPosterior(),
    ToldPosterior(),
    Transformer(
        weights={name: (np.ones(size) / 8, np.ones(size[1])) for name, size in SIZES.items()}
    ),
]
every_quoter = pytest.mark.parametrize("quoter", QUOTERS, ids=lambda each: type(each).__name__)
both_kinds = pytest.mark.parametrize("integer", [False, True])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Posts what it was given, round after round."""

    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False
    posted: tuple[float, ...]

    def quote(
        self, seed: int, known: Known, prices: Any, layers: Any, present: Any = None
    ) -> float:
        return self.posted[len(prices)]


def seen(game: Game, posted: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a fleet answers."""
    return np.array(posted), np.stack([outcome(game, price).layers for price in posted])


class TestShares:
    @both_kinds
    def test_the_equilibrium_scores_one_and_nothing_scores_more(self, integer: bool) -> None:
        for game in reference_fleets(0, 5, integer=integer):
            best = float(equilibrium(game).price)
            posted = (best, *np.geomspace(0.05, 3.0, 100))
            shares = play(Fixed(posted=posted), [game], rounds=len(posted), seed=0)
            assert shares[0, 0] == pytest.approx(1.0)
            assert shares.max() <= 1.0 + 1e-9

    def test_random_prices_score_zero_on_average(self) -> None:
        games = reference_fleets(1, 3, integer=True)
        shares = play(RandomQuotes(), games, rounds=400, seed=0)
        deviation = shares.std(axis=1) / np.sqrt(shares.shape[1])
        assert np.all(np.abs(shares.mean(axis=1)) < 4 * deviation)

    def test_shares_are_of_the_range(self) -> None:
        (game,) = reference_fleets(2, 1, integer=False)
        zero, best = range_of(game)
        (share,) = play(Fixed(posted=(0.3,)), [game], rounds=1, seed=0)[0]
        assert share == pytest.approx((outcome(game, 0.3).server_utility - zero) / (best - zero))

    def test_going_back_to_the_best_quote_never_loses(self) -> None:
        shares = np.array([[0.2, 0.9, 0.4], [0.5, 0.1, 0.6]])
        assert best_so_far(shares).tolist() == [[0.2, 0.9, 0.9], [0.5, 0.5, 0.6]]
        assert regret(shares) == pytest.approx([1.5, 1.8])


class TestReferencePrior:
    def test_fleets_are_within_the_prior_and_differ_from_each_other(self) -> None:
        games = reference_fleets(0, 400, integer=True)
        assert {len(game.fleet) for game in games} == set(range(1, 17))
        alpha = np.concatenate([game.fleet.alpha for game in games])
        capacity = np.concatenate([game.fleet.capacity for game in games])
        assert 1 <= alpha.min() < 1.2
        assert 8.5 < alpha.max() <= 9
        assert 6 <= capacity.min() < 6.2
        assert 15.8 < capacity.max() <= 16
        # Devices of a fleet share a, b and c: fleets differ by more than their devices do.
        means = [game.fleet.capacity.mean() for game in games if len(game.fleet) > 8]
        assert np.std(means) > 1.2 * np.std(capacity - np.mean(capacity)) / np.sqrt(8)

    def test_both_kinds_have_the_same_fleets(self) -> None:
        smooth, whole = (reference_fleets(5, 3, integer=integer) for integer in (False, True))
        for one, other in zip(smooth, whole, strict=True):
            assert np.array_equal(one.fleet.alpha, other.fleet.alpha)
            assert (one.integer, other.integer) == (False, True)


@every_quoter
@both_kinds
class TestEveryQuoter:
    def test_seeds_reproduce(self, quoter: Quoter, integer: bool) -> None:
        games = reference_fleets(3, 2, integer=integer)
        first, again = (play(quoter, games, rounds=6, seed=4) for _ in range(2))
        assert np.array_equal(first, again)

    def test_a_quote_does_not_change_what_it_was_given(self, quoter: Quoter, integer: bool) -> None:
        (game,) = reference_fleets(3, 1, integer=integer)
        prices, layers = seen(game, [0.3, 0.5, 0.4])
        kept = prices.copy(), layers.copy()
        quoter.quote(1, Known.of(game, form=quoter.knows_form), prices, layers)
        assert np.array_equal(prices, kept[0])
        assert np.array_equal(layers, kept[1])

    def test_it_depends_on_nothing_private(self, quoter: Quoter, integer: bool) -> None:
        # Nobody supplies at such prices, whatever a few costs are, so all fleets look alike.
        posted, quotes, costs = [0.06, 0.07], [], []
        for alpha in (5.0, 7.0):
            fleet = Fleet(
                alpha=np.full(3, alpha),
                capacity=np.array([8.0, 9.0, alpha + 5.0]),
                A=np.ones(3),
                B=np.full(3, 0.5),
            )
            game = REFERENCE.game(fleet, integer=integer)
            prices, layers = seen(game, posted)
            assert not layers.any()
            known = Known.of(game, form=quoter.knows_form)
            quotes.append(quoter.quote(9, known, prices, layers))
            costs.append(float(equilibrium(game).price))
        assert costs[0] != costs[1]
        assert quotes[0] == quotes[1]

    def test_the_order_of_devices_changes_nothing(self, quoter: Quoter, integer: bool) -> None:
        game = reference_fleets(8, 1, integer=integer)[0]
        known = Known.of(game, form=quoter.knows_form)
        prices, layers = seen(game, [0.3, 0.5, 0.4])
        quote = quoter.quote(1, known, prices, layers)
        turned = quoter.quote(1, known, prices, layers[:, ::-1].copy())
        assert turned == pytest.approx(quote, rel=1e-12)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 13.0])
    def test_impossible_answers_are_refused(
        self, quoter: Quoter, integer: bool, bad: float
    ) -> None:
        (game,) = reference_fleets(3, 1, integer=integer)
        prices, layers = seen(game, [0.3, 0.5])
        layers[1, 0] = bad
        known = Known.of(game, form=quoter.knows_form)
        with pytest.raises(InputError, match=r"observed rounds: layers\[1\]\[0\]: expected"):
            quoter.quote(1, known, prices, layers)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
    def test_impossible_prices_are_refused(self, quoter: Quoter, integer: bool, bad: float) -> None:
        (game,) = reference_fleets(3, 1, integer=integer)
        prices, layers = seen(game, [0.3, 0.5])
        prices[0] = bad
        known = Known.of(game, form=quoter.knows_form)
        with pytest.raises(InputError, match=r"observed rounds: prices\[0\]: expected"):
            quoter.quote(1, known, prices, layers)

    def test_answers_no_device_would_give_still_bring_a_price(
        self, quoter: Quoter, integer: bool
    ) -> None:
        (game,) = reference_fleets(3, 1, integer=integer)
        known = Known.of(game, form=quoter.knows_form)
        rng = np.random.default_rng(0)
        prices = rng.uniform(0.05, 1.0, 6)
        layers = rng.integers(0, 13, (6, known.devices)).astype(float)
        price = quoter.quote(1, known, prices, layers)
        assert known.price_min <= price <= known.price_max


def test_whole_layers_are_whole() -> None:
    (game,) = reference_fleets(3, 1, integer=True)
    prices, layers = seen(game, [0.3])
    layers[0, 0] = 1.5
    with pytest.raises(InputError, match="whole layers"):
        profits(Known.of(game, form=False), prices, layers)


def test_rounds_and_answers_must_match() -> None:
    (game,) = reference_fleets(3, 1, integer=True)
    prices, layers = seen(game, [0.3, 0.4])
    with pytest.raises(InputError, match="rounds x devices"):
        profits(Known.of(game, form=False), prices, layers[:, :-1])


def test_only_fleets_with_one_saving_and_prices_above_zero_can_be_quoted_to() -> None:
    (game,) = reference_fleets(4, 1, integer=True)
    other = replace(game, fleet=replace(game.fleet, A=np.linspace(1, 2, len(game.fleet))))
    with pytest.raises(InputError, match="one A and one B"):
        Known.of(other, form=False)
    with pytest.raises(InputError, match="a price above 0"):
        Known.of(replace(game, price_min=0.0), form=False)


class TestAnyGame:
    """What is public where devices may differ and 0 may be posted."""

    def test_what_is_public_is_the_same_where_both_apply(self) -> None:
        (game,) = reference_fleets(4, 1, integer=True)
        assert Known.of_any(game, source="game") == Known.of(game, form=False)

    def test_zero_is_replaced_by_a_small_price_and_savings_by_their_mean(self) -> None:
        (game,) = reference_fleets(4, 1, integer=True)
        costs = np.linspace(1, 2, len(game.fleet))
        other = replace(game, price_min=0.0, fleet=replace(game.fleet, A=costs))
        known = Known.of_any(other, source="game")
        assert known.saving == pytest.approx(costs.mean())
        assert known.price_min == pytest.approx(LEAST_SHARE * costs.mean())

    @pytest.mark.parametrize(
        ("change", "field"),
        [({"beta": 0.0}, "server.beta"), ({"price_min": 0.0, "price_max": 0.0}, "price_max")],
    )
    def test_nothing_worth_posting_is_refused(self, change: dict[str, float], field: str) -> None:
        (game,) = reference_fleets(4, 1, integer=True)
        with pytest.raises(InputError, match=f"fleet.toml: .*{field}: expected"):
            Known.of_any(replace(game, **change), source="fleet.toml")


class TestMeeting:
    def test_rounds_are_what_the_fleet_answers(self) -> None:
        (game,) = reference_fleets(4, 1, integer=True)
        known = Known.of(game, form=False)
        met = meet(GoldenSection(), game, known, rounds=5, seed=0)
        expected = outcome(game, met.price)
        assert np.array_equal(met.layers, expected.layers)
        assert np.array_equal(met.server_utility, expected.server_utility)
        shares = play(GoldenSection(), [game], rounds=5, seed=0)
        assert shares[0] == pytest.approx(range_of(game).share(met.server_utility), abs=1e-12)

    def test_other_answers_are_what_is_seen_and_paid(self) -> None:
        (game,) = reference_fleets(4, 1, integer=True)
        known = Known.of(game, form=False)

        def silent(game: Game, price: float, rng: np.random.Generator) -> np.ndarray:
            return np.zeros(len(game.fleet))

        met = meet(GoldenSection(), game, known, rounds=4, seed=0, answer=silent)
        assert not met.layers.any()
        assert np.all(np.diff(met.price) > 0), "nobody sells: the search goes up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Keeps what it was shown."""

    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False
    shown: list[Any]

    def quote(
        self, seed: int, known: Known, prices: Any, layers: Any, present: Any = None
    ) -> float:
        self.shown.append((prices.tolist(), layers.tolist(), present))
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldOfAbsence(Told):
    knows_absence: ClassVar[bool] = True


class TestAsking:
    """One way to ask for a price where devices were away; every part of the program uses it."""

    prices = np.array([0.3, 0.4, 0.5])
    layers = np.array([[2.0, 9.0], [9.0, 9.0], [3.0, 7.0]])
    present = np.array([[True, False], [False, False], [True, True]])
    means = np.array([4.4, 3.0, 5.0])

    def shown_to(self, kind: type[Told], *, integer: bool) -> Any:
        known = Known(
            saving=1.0, layers_max=12, price_min=0.05, price_max=3.0, devices=2, integer=integer
        )
        quoter = kind(shown=[])
        ask(quoter, 0, known, self.prices, self.layers, self.present, self.means)
        return quoter.shown[0]

    def test_who_knows_absence_is_told_and_spared_rounds_without_anybody(self) -> None:
        prices, layers, present = self.shown_to(ToldOfAbsence, integer=True)
        assert prices == [0.3, 0.5]
        assert layers == [[2.0, 0.0], [3.0, 7.0]]
        assert present.tolist() == [[True, False], [True, True]]

    @both_kinds
    def test_others_see_the_mean_of_those_who_were_there(self, integer: bool) -> None:
        prices, layers, present = self.shown_to(Told, integer=integer)
        mean = 4.0 if integer else 4.4
        assert prices == [0.3, 0.4, 0.5]
        assert layers == [[2.0, mean], [3.0, 3.0], [3.0, 7.0]]
        assert present is None


def test_every_method_declares_what_it_knows() -> None:
    for quoter in [*QUOTERS, *(named(name) for name in quoters())]:
        assert isinstance(quoter, Quoter)
        assert isinstance(quoter.knows_form, bool)
        assert isinstance(quoter.knows_absence, bool)
