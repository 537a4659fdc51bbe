"""Interleavings that are drawn: they keep their promises, happen again, and would tell if not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.parts import Given
from chaos.simulation import Simulation, run
from edgepact.market.ledger import double_entry
from edgepact.market.settling import Settling

SEED = 14


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(SEED, tmp_path)


def test_promises_are_kept_in_some_interleavings(tmp_path: Path) -> None:
    found = run(Given(seed=SEED, rounds=1, folder=tmp_path))
    assert found.broken == ()  # each sentence names the seed and the number
    assert found.figures["pieces paid"] > 10  # type: ignore[operator]


@pytest.mark.slow
def test_promises_are_kept_in_more_interleavings(tmp_path: Path) -> None:
    assert run(Given(seed=SEED + 1, rounds=10, folder=tmp_path)).broken == ()


def test_an_interleaving_happens_again(simulation: Simulation) -> None:
    number = 5  # with several devices, and faults of the wire
    first, second, other = (simulation.happen(each) for each in (number, number, number + 1))
    assert len(first.story) > 30
    assert [_plain(each) for each in first.story] == [_plain(each) for each in second.story]
    assert first.story != other.story


def test_work_that_is_paid_twice_is_told(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = double_entry.move

    def twice(books: Any, transfers: list[Any]) -> None:
        move(books, transfers)
        own = [each for each in transfers if each.credit.startswith("device:")]
        again = [_with_another_reference(each) for each in own if each.microcredits]
        if again:
            move(books, again)

    monkeypatch.setattr(double_entry, "move", twice)
    assert _broken(simulation, lambda sentence: "accounts hold" in sentence)


def test_an_honest_device_that_loses_its_pay_is_told(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that tells nobody what is to be shown.
    monkeypatch.setattr(Settling, "due", lambda self, device: [])
    assert _broken(simulation, lambda sentence: "was there from" in sentence)


def _broken(simulation: Simulation, fits: Callable[[str], bool]) -> bool:
    """Whether one of the first interleavings breaks a promise in such words."""
    return any(fits(each) for number in range(12) for each in simulation.happen(number).broken)


def _with_another_reference(transfer: Any) -> Any:
    from dataclasses import replace

    return replace(transfer, reference=f"{transfer.reference} again", about=None)


def _plain(line: str) -> str:
    """Without the name of a folder, which differs."""
    return line.partition("sqlite:")[0]
