"""How device-rounds end: what is drawn for audits."""

import random

import numpy as np

from edgepact.market.ledger import Pending
from edgepact.market.settling import AuditRules


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
