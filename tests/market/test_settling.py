"""How device-rounds end: what is drawn for audits, and what the server cannot audit."""

import random
from dataclasses import replace

import numpy as np
import pytest

from edgepact.engagement import Item, Question, posted
from edgepact.market.ledger import Pending
from edgepact.market.settling import AuditRules, least_reward, rates_of, told_rates
from edgepact.mechanisms.audit_rate import audit_rate


def derived(units: list[int], reward: int, least: int) -> float:
    return audit_rate(units, margin=0.25, reward=reward, least_reward=least)


def pieces(count: int, *, auditable: bool = True) -> list[Pending]:
    return [
        Pending(piece=f"{i}", units=2, microcredits=6, auditable=auditable, picked=False)
        for i in range(count)
    ]


def test_share_of_audited_pieces_is_the_rate() -> None:
    heard = list[tuple[list[int], int, int]]()

    def rate(units: list[int], reward: int, least: int) -> float:
        heard.append((units, reward, least))
        return 0.05

    rules = AuditRules(rate=rate, timeout_s=1.0, strikes_max=2)
    picked, told = rules.drawn(pieces(20_000), 1)
    assert told == 0.05
    assert 0.04 < len(picked) / 20_000 < 0.06
    assert heard == [([2] * 20_000, 3, 1)]
    assert rules.drawn(pieces(5, auditable=False), 1) == ([], 0.0)
    # What was offered least cannot be more than what was paid, and nothing is no reward.
    for least in (0, 7):
        rules.drawn(pieces(1), least)
        assert heard[-1] == ([2], 3, 3)


def test_draws_of_a_seed_are_the_same_and_others_are_nobodys() -> None:
    def drawn(**chance: object) -> list[str]:
        rules = AuditRules(rate=lambda *_: 0.5, timeout_s=1.0, strikes_max=2, **chance)  # type: ignore[arg-type]
        return rules.drawn(pieces(64), 1)[0]

    assert drawn(chance=random.Random(3).random) == drawn(chance=random.Random(3).random)
    assert drawn() != drawn()
    assert np.mean([len(drawn()) for _ in range(200)]) > 20


def test_whoever_failed_an_audit_is_audited_as_if_its_margin_were_half() -> None:
    rules = AuditRules(rate=derived, timeout_s=1.0, strikes_max=9)
    margins = [0.25, 0.125, 0.0625, 0.03125]
    alike = {"reward": 4, "least_reward": 4}
    exact = [audit_rate([2] * 16, margin=each, **alike) for each in margins]
    paid = [replace(each, microcredits=2 * 10**6) for each in pieces(16)]
    rates = [rules.drawn(paid, 10**6, strikes)[1] for strikes in range(4)]
    assert rates == pytest.approx(exact, rel=1e-5)
    assert rules.drawn(paid, 1, 60)[1] < 1  # however many they are


def test_a_fixed_share_is_audited_whatever_is_derived() -> None:
    rules = AuditRules(rate=derived, timeout_s=1.0, strikes_max=2, fixed=0.05)
    assert rules.drawn(pieces(3), 1)[1] == 0.05


def test_least_reward_of_a_menu_and_of_what_bidders_are_paid() -> None:
    assert least_reward(posted(7, 12), {}) == 7
    bids = Question(bid_amounts=(2.0, 4.0))
    paid = {
        "a": Item(amount=4.0, reward_microcredits=100),
        "b": Item(amount=2.0, reward_microcredits=70),
        "c": Item(amount=0.0, reward_microcredits=0),
        "d": Item(amount=4.0, reward_microcredits=0),
    }
    assert least_reward(bids, paid) == 50  # half of 100 for half of the steps
    assert least_reward(bids, {"b": paid["b"]}) == 70
    assert least_reward(bids, {}) == least_reward(bids, {"d": paid["d"]}) == 0


def test_rates_are_told_and_too_few_audits_are_warned_of() -> None:
    rules = AuditRules(rate=derived, timeout_s=1.0, strikes_max=2)
    rewards = [item.reward_microcredits for item in posted(10**6, 12).menu]
    found = rates_of(rules, rewards, 10**6, 16)
    least, most = derived([1] * 16, 1, 1), derived([1] * 16, 12, 1)
    assert found == [least, most]
    assert rates_of(rules, [0], 0, 16) == rates_of(rules, [], 0, 16) == []
    told = told_rates(rules, found, 16)
    assert f"{100 * least:.3g} % to {100 * most:.3g} %" in told
    assert told.startswith("audits: ")
    assert told_rates(rules, [least, least], 16).count("%") == 1
    for fixed, warns in ((0.05, True), (least, True), (most, False), (1.0, False)):
        said = told_rates(replace(rules, fixed=fixed), found, 16)
        assert said.startswith("warning: ") == warns
        assert f"{100 * most:.3g} %" in said
