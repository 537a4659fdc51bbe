"""What take-up says of frequencies."""

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.mechanisms.contract.optimum import menu_at, optimal_menu
from edgepact.mechanisms.contract.quality import Log1p
from edgepact.mechanisms.contract.take_up import TakeUp, frequencies, take_up_of, told_apart
from edgepact.mechanisms.contract.terms import Contract

EVERYBODY = np.ones(3)


def test_items_of_their_own_are_counted() -> None:
    seen = TakeUp(np.array([[1.0, 3.0, 4.0], [3.0, 3.0, 2.0]]), np.ones((2, 3)))
    assert frequencies(seen, EVERYBODY) == pytest.approx([0.25, 0.375, 0.375])
    assert frequencies(seen, EVERYBODY, pseudo=1.0) == pytest.approx(np.array([5, 7, 7]) / 19)
    assert told_apart(seen).tolist() == [16.0, 16.0, 16.0]


def test_a_shared_item_tells_the_sum_and_another_menu_the_rest() -> None:
    shared = TakeUp(np.array([[60.0, 0.0, 40.0]]), np.array([[1.0, 0.0, 1.0]]))
    assert frequencies(shared, EVERYBODY) == pytest.approx([0.3, 0.3, 0.4])
    both = TakeUp(
        np.array([[60.0, 0.0, 40.0], [20.0, 80.0, 0.0]]), np.array([[1.0, 0.0, 1.0], [1, 1, 0]])
    )
    assert frequencies(both, EVERYBODY) == pytest.approx([0.2, 0.4, 0.4], abs=1e-5)
    assert told_apart(both).tolist() == [200.0, 100.0, 100.0]


def test_where_the_takers_of_a_shared_item_stand_does_not_matter() -> None:
    first = np.array([[1.0, 0.0, 1.0], [1, 1, 1]])
    one = TakeUp(np.array([[60.0, 0.0, 40.0], [2, 3, 5]]), first)
    other = TakeUp(np.array([[25.0, 35.0, 40.0], [2, 3, 5]]), first)
    assert frequencies(one, EVERYBODY) == pytest.approx(frequencies(other, EVERYBODY))


@pytest.mark.parametrize("pseudo", [0.0, 1.0])
def test_nothing_seen_is_evenly_spread_and_padding_is_nothing(pseudo: float) -> None:
    nothing = TakeUp(np.zeros((1, 3)), np.ones((1, 3)))
    padded = np.array([0.0, 1.0, 1.0])
    assert frequencies(nothing, padded, pseudo) == pytest.approx([0.0, 0.5, 0.5])


def test_many_devices_show_the_frequencies() -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.2, 0.2, 0.1])
    contract = Contract(
        psi=np.array([1.0, 2.0, 3.0, 1.5]),
        probability=p,
        value=Log1p(scale=10.0),
        quality_max=20.0,
    )
    menus = [menu_at(contract, contract.psi)] * 3  # an item of its own for each type
    seen = take_up_of(contract, menus, list(rng.multinomial(20_000, p, 3)))
    order = np.argsort(-contract.psi)
    assert frequencies(seen, np.ones(4)) == pytest.approx(p[order], abs=0.01)


def test_counts_that_cannot_be_are_refused() -> None:
    contract = Contract(psi=np.array([1.0]), probability=np.array([1.0]), value=Log1p())
    menu = optimal_menu(contract)
    with pytest.raises(InputError, match="counts of at least 0"):
        take_up_of(contract, [menu], [np.array([-1.0])])
    with pytest.raises(InputError, match="1 menus with 1 counts"):
        take_up_of(contract, [menu], [np.array([1.0, 2.0])])
    assert take_up_of(contract, [], []).taken.shape == (0, 1)
