"""What mechanisms promise, what audits find, and that one is not taken for the other."""

from dataclasses import replace

import numpy as np

from edgepact.mechanisms.auction.audit import audit_auction
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.scoring import PayAsBid
from edgepact.mechanisms.auction.vcg import Vcg
from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Log1p
from edgepact.mechanisms.contract.terms import Contract
from edgepact.mechanisms.promises import Promise, broken


def test_a_contract_promises_a_budget_only_if_it_has_one() -> None:
    contract = Contract(
        psi=np.array([3.0, 1.0]),
        probability=np.array([0.5, 0.5]),
        value=Log1p(scale=10.0),
        quality_max=20.0,
    )
    menu = optimal_menu(contract)
    assert audit_menu(contract, menu).broken == ()
    dear = replace(menu, reward=menu.reward + 10.0)
    assert audit_menu(contract, dear).promised == (
        Promise.INDIVIDUALLY_RATIONAL,
        Promise.INCENTIVE_COMPATIBLE,
    )
    assert "budget balanced" in audit_menu(replace(contract, budget=1.0), menu).broken
    swapped = replace(menu, reward=menu.reward[::-1])
    assert audit_menu(contract, swapped).broken == (
        "individually rational",
        "incentive compatible",
    )
    # Drawn with half the chance, the dear type's item is no longer worth as much to a liar.
    rare = replace(menu, chance=np.array([0.5, 1.0]))
    assert audit_menu(contract, rare).broken == ()
    favoured = replace(menu, chance=np.array([1.0, 0.5]))
    assert audit_menu(contract, favoured).broken == ("incentive compatible",)


def test_auctions_promise_by_rule() -> None:
    values, bids = np.array([2.0, 2.0, 2.0]), np.array([0.5, 1.0, 1.5])
    for rule in (Vcg(values=values, winners_max=1), ProportionalShare(values=values, budget=3.0)):
        assert rule.promises == tuple(Promise)
        assert audit_auction(rule, bids).broken == ()
    asked = audit_auction(PayAsBid(scores=values, winners_max=1), bids)
    assert not asked.incentive_compatible
    assert asked.broken == ()
    assert broken(asked, tuple(Promise)) == ("incentive compatible",)
