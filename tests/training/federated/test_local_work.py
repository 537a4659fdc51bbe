"""Local work by contract: types take their epochs, are paid for them, and a restart goes on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.credits import MICRO
from edgepact.engagement import Question, chosen
from edgepact.errors import InputError
from edgepact.market.ledger import Ledger
from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.local_work import whole_menu
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Log1p
from edgepact.mechanisms.contract.responses import profit, rents
from edgepact.mechanisms.contract.terms import Contract
from edgepact.training.federated import folder as files
from edgepact.training.federated.contract import ByContract, items
from edgepact.training.federated.local_work import rounded_menu
from edgepact.training.federated.messages import TRAIN, Fields
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.transport import Handler, Request
from edgepact.training.federated.work import Variable
from tests.training.federated.toy import CLIENTS, PSI, ROUNDS, SIZE, handlers, play_in

EPOCHS = Variable(priced="epochs", rate=0.25)


def contract(psi: tuple[float, ...] = PSI, most: float = 8.0, scale: float = 60.0) -> Contract:
    return Contract(
        psi=np.array(psi),
        probability=np.full(len(psi), 1.0 / len(psi)),
        value=Log1p(scale=scale),
        quality_max=most,
    )


def by_contract() -> ByContract:
    return ByContract(contract=contract(), variable=EPOCHS, offer=whole_menu(contract()))


def expected(client: str) -> tuple[int, int]:
    """Epochs and reward that suit a client of the toy federation."""
    cost = PrivateCost(psi=PSI[int(client[-1]) % len(PSI)])
    offered = by_contract().menu
    place = chosen(Question(menu=offered), cost.microcredits)
    assert place is not None
    return int(offered[place].amount), offered[place].reward_microcredits


def test_types_take_their_epochs_and_are_paid_for_them(tmp_path: Path) -> None:
    asked: list[tuple[int, float]] = []

    def watched(honest: Handler) -> Handler:
        def handle(kind: str, request: Request) -> Fields:
            if kind == TRAIN:
                asked.append((int(request.fields["epochs"]), float(request.fields["rate"])))
            return honest(kind, request)

        return handle

    clients = {name: watched(each) for name, each in handlers().items()}
    progress = play_in(tmp_path, clients, engagement=by_contract(), variable=EPOCHS, rounds=3)
    menu = whole_menu(contract())
    assert sorted(set(menu.quality)) == sorted({float(epochs) for epochs, _ in asked})
    assert len(set(menu.quality)) == len(PSI), "types are told apart"
    assert {rate for _, rate in asked} == {0.25}
    for each in progress.history[1:]:
        assert len(each.accepted) == CLIENTS
        for at in each.accepted:
            assert (at.epochs, at.reward_microcredits) == expected(at.client)
            assert at.rate == 0.25
            assert at.bytes_up <= 4 * SIZE * 0.25 + 64
    with Ledger(f"sqlite:///{tmp_path / files.LEDGER}", create=False) as books:
        paid = sum(expected(name)[1] for name in handlers())
        assert books.totals() == (3 * paid, 3 * paid)


def test_more_epochs_learn_more(tmp_path: Path) -> None:
    reached = []
    for epochs in (1.0, 4.0):
        only = contract((2.0,), most=epochs)
        engagement = ByContract(contract=only, variable=EPOCHS, offer=whole_menu(only))
        clients = {name: each for name, each in handlers().items() if name in "client-2 client-5"}
        progress = play_in(
            tmp_path / f"{epochs:g}", clients, engagement=engagement, variable=EPOCHS, rounds=2
        )
        assert {at.epochs for at in progress.history[1].accepted} == {int(epochs)}
        reached.append(progress.history[-1].accuracy)
    assert reached[1] > reached[0]


def test_a_restart_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    whole = play_in(tmp_path / "whole", engagement=by_contract(), variable=EPOCHS)
    clients = handlers()
    for rounds in (4, ROUNDS):
        parts = play_in(
            tmp_path / "parts", clients, engagement=by_contract(), variable=EPOCHS, rounds=rounds
        )
    assert np.array_equal(whole.model.weights, parts.model.weights)
    assert [each.deliveries for each in whole.history] == [
        each.deliveries for each in parts.history
    ]
    kept = files.read_checkpoint(tmp_path / "parts", SIZE)
    assert kept is not None
    for before, after in zip(parts.history, kept.history, strict=True):
        assert before == after
        assert before.finished(EPOCHS) == after.finished(EPOCHS)


def test_amounts_must_be_whole_epochs() -> None:
    with pytest.raises(InputError, match="a menu of whole amounts"):
        ByContract(contract=contract(), variable=EPOCHS)
    with pytest.raises(InputError, match="epochs of at most 100"):
        ByContract(contract=contract(most=101.0), variable=EPOCHS)


@given(
    psi=st.lists(st.floats(0.2, 20.0), min_size=1, max_size=5),
    most=st.floats(1.0, 8.0),
    scale=st.floats(1.0, 40.0),
)
def test_a_rounded_menu_breaks_no_promise_and_earns_no_more(
    psi: list[float], most: float, scale: float
) -> None:
    terms = contract(tuple(psi), most, scale)
    best, rounded = whole_menu(terms), rounded_menu(terms, optimal_menu(terms))
    assert not np.any(rounded.quality % 1.0)
    assert np.all(rounded.quality <= most)
    audit = audit_menu(terms, rounded)
    assert audit.incentive_compatible
    assert np.min(rents(terms, rounded)) >= -1e-9 * scale
    assert profit(terms, rounded) <= profit(terms, best) + 1e-9 * scale
    for item in items(terms, best):
        assert item.amount % 1.0 == 0.0
        assert item.reward_microcredits <= 1e9 * MICRO
