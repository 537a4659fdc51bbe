"""Client selection: what each rule promises, and what no input may break."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.efficiency.selection import (
    Candidates,
    Deadline,
    Everyone,
    Oort,
    PowerOfChoice,
    RandomSelection,
    Selector,
    worth,
)
from edgepact.errors import InputError

SELECTORS: list[Selector] = [
    RandomSelection(),
    Deadline(deadline_s=1e6, asked=1.0),
    PowerOfChoice(),
    Oort(),
]


def drawn(seed: int, clients: int, *, tried: float = 0.5, round: int = 5) -> Candidates:
    rng = np.random.default_rng(seed)
    before = rng.uniform(size=clients) < tried
    return Candidates(
        examples=rng.integers(1, 500, clients),
        compute_s=rng.lognormal(size=clients),
        upload_s=rng.lognormal(-1.0, size=clients),
        loss=np.where(before, rng.uniform(0.0, 2.0, clients), np.nan),
        last_round=np.where(before, rng.integers(1, round, clients), 0),
        round=round,
    )


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda each: type(each).__name__)
@given(
    seed=st.integers(0, 10**6),
    clients=st.integers(1, 40),
    count=st.integers(1, 50),
    tried=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_as_many_as_asked_for_none_twice_and_reproducible(
    selector: Selector, seed: int, clients: int, count: int, tried: float
) -> None:
    candidates = drawn(seed, clients, tried=tried)
    chosen = selector.select(np.random.default_rng(seed), candidates, count)
    again = selector.select(np.random.default_rng(seed), candidates, count)
    assert np.array_equal(chosen, again)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, clients)
    assert np.all(np.diff(chosen) > 0)
    assert np.all((chosen >= 0) & (chosen < clients))


def test_everyone_is_everyone() -> None:
    assert Everyone().select(np.random.default_rng(0), drawn(0, 7), 2).tolist() == list(range(7))


def end_of_round(candidates: Candidates, order: tuple[int, ...]) -> float:
    end = 0.0
    for client in order:
        end = max(end, candidates.compute_s[client]) + candidates.upload_s[client]
    return end


@given(seed=st.integers(0, 10**6), deadline_s=st.floats(0.2, 8.0))
def test_fedcs_keeps_the_deadline_and_nobody_more_would(seed: int, deadline_s: float) -> None:
    candidates = drawn(seed, 5)
    selector = Deadline(deadline_s=deadline_s, asked=1.0)
    chosen = selector.select(np.random.default_rng(0), candidates, 5).tolist()
    slack = 1e-9
    assert not chosen or (
        min(end_of_round(candidates, order) for order in permutations(chosen)) <= deadline_s + slack
    )
    # Greedy is not optimal in general, but one client alone is always found.
    alone = np.any(candidates.seconds <= deadline_s)
    assert bool(chosen) == bool(alone)


def test_fedcs_with_equal_uploads_takes_as_many_as_possible() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        candidates = drawn(int(rng.integers(10**6)), 6)
        candidates = Candidates(
            examples=candidates.examples,
            compute_s=candidates.compute_s,
            upload_s=np.full(6, 0.4),
            loss=candidates.loss,
            last_round=candidates.last_round,
            round=2,
        )
        chosen = Deadline(deadline_s=2.0, asked=1.0).select(rng, candidates, 6)
        most = max(
            size
            for size in range(7)
            for some in combinations(range(6), size)
            if min(end_of_round(candidates, order) for order in permutations(some)) <= 2.0
        )
        assert len(chosen) == most


def test_power_of_choice_takes_the_highest_losses_of_those_drawn() -> None:
    candidates = drawn(1, 12, tried=1.0)
    chosen = PowerOfChoice(drawn=100.0).select(np.random.default_rng(0), candidates, 4)
    assert set(chosen) == set(np.argsort(-candidates.loss)[:4])


def test_oort_prefers_what_teaches_and_is_quick() -> None:
    def candidates(loss: list[float], seconds: list[float]) -> Candidates:
        number = len(loss)
        return Candidates(
            examples=np.full(number, 100),
            compute_s=np.asarray(seconds),
            upload_s=np.zeros(number),
            loss=np.asarray(loss),
            last_round=np.full(number, 3),
            round=4,
        )

    teaches = Oort().utility(candidates([0.1, 1.0, 0.5], [1.0, 1.0, 1.0]))
    assert np.argsort(teaches).tolist() == [0, 2, 1]
    slow = Oort().utility(candidates([1.0, 1.0, 1.0], [1.0, 1.0, 4.0]))
    assert slow[2] == pytest.approx(slow[0] / 16.0)
    stale = Oort().utility(candidates([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]))
    assert np.all(stale > 1.0)


def test_oort_finds_the_informative_clients_more_often_than_chance() -> None:
    candidates = drawn(5, 40, tried=1.0)
    utility = Oort().utility(candidates)
    best = set(np.argsort(-utility)[:10].tolist())
    rng = np.random.default_rng(0)
    hits = [len(best & set(Oort().select(rng, candidates, 10).tolist())) for _ in range(50)]
    assert np.mean(hits) > 6.0  # chance: 2.5


@given(seed=st.integers(0, 10**6))
def test_worth_rises_with_data_and_loss_and_falls_with_slowness(seed: int) -> None:
    base = drawn(seed, 6, tried=1.0)

    def with_first(**changes: float) -> float:
        columns = {
            name: np.array(getattr(base, name), float if name != "examples" else int)
            for name in ("examples", "compute_s", "upload_s", "loss", "last_round")
        }
        for name, factor in changes.items():
            columns[name][0] = columns[name][0] * factor
        columns["last_round"] = base.last_round
        return float(worth(Candidates(**columns, round=5), preferred_s=1.0)[0])

    now = with_first()
    assert now > 0
    assert with_first(examples=2) == pytest.approx(2 * now)
    assert with_first(loss=1.5) >= now * (1 - 1e-12)
    assert with_first(compute_s=3.0) <= now * (1 + 1e-12)


@pytest.mark.parametrize(
    ("field", "value"),
    [("examples", 0), ("compute_s", np.nan), ("upload_s", -1.0), ("loss", np.inf)],
)
def test_impossible_clients_are_named(field: str, value: float) -> None:
    good = drawn(0, 3)
    columns = {
        name: np.array(getattr(good, name))
        for name in ("examples", "compute_s", "upload_s", "loss", "last_round")
    }
    columns[field][1] = value
    with pytest.raises(InputError, match=field):
        Candidates(**columns, round=1)


def test_settings_must_be_possible() -> None:
    with pytest.raises(InputError, match="deadline_s"):
        Deadline(deadline_s=0.0)
    with pytest.raises(InputError, match="asked"):
        Deadline(deadline_s=1.0, asked=0.0)
    with pytest.raises(InputError, match="drawn"):
        PowerOfChoice(drawn=0.5)
