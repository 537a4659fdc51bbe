"""Auctions of a thousand bids to a million against sorting them, and against a plain loop.

Run by `python -m benchmarks auctions`. Nobody can award by price without looking at every bid,
and the rule for a budget cannot without ranking them, so the yardstick is `np.sort` of as
many bids, in turns with the auction in the same run. The rival is what one writes straight from
the definition: each winner's threshold by bisection, an auction a step, for few bids only.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgepact.mechanisms.auction.optimal_procurement import OptimalProcurement
from edgepact.mechanisms.auction.prior import Histogram, uniform
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.terms import Auction
from edgepact.mechanisms.auction.vcg import Vcg
from edgepact.mechanisms.auction.virtual_cost import virtual_cost

BIDS = (1_000, 10_000, 100_000, 1_000_000)
TURNS = {1_000: 41, 10_000: 21, 100_000: 11, 1_000_000: 5}
LOOP_BIDS_MAX = 1_000
SECONDS_MAX = 2.0
"""For the most bids."""
SEED = 0


def auctions_of(bids: int) -> dict[str, Auction]:
    """A third of the bidders may win, or a tenth of the budget that all would take."""
    values = np.random.default_rng(SEED).uniform(1.0, 2.0, bids)
    ironed = Histogram(bins=np.array([0.0, 0.5, 0.6, 1.0]), weights=np.array([0.3, 0.5, 0.2]))
    most = bids // 3
    return {
        "proportional share": ProportionalShare(values=values, budget=0.1 * bids),
        "VCG": Vcg(values=values, winners_max=most),
        "optimal, uniform prior": OptimalProcurement(
            values=values, virtual=virtual_cost(uniform(0.0, 1.0)), winners_max=most
        ),
        "optimal, ironed prior": OptimalProcurement(
            values=values, virtual=virtual_cost(ironed), winners_max=most
        ),
    }


def measure(sizes: tuple[int, ...], turns_max: int) -> dict[str, Any]:
    """Medians of CPU seconds, and of the ratios of neighbouring turns."""
    rows = []
    for size in sizes:
        bids = np.random.default_rng(SEED + 1).random(size)
        for rule, auction in auctions_of(size).items():
            rows.append(_measured(rule, auction, bids, min(TURNS[size], turns_max)))
    worst = max(row["auction s"] for row in rows if row["bids"] == sizes[-1])
    return {
        "title": "Auctions against np.sort of their bids, one thread, medians",
        "rows": rows,
        "seed": SEED,
        "threads": 1,
        "target": f"at most {SECONDS_MAX:g} s for {sizes[-1]:,} bids",
        "longest_s": worst,
        "reached": worst <= SECONDS_MAX,
    }


def _measured(rule: str, auction: Auction, bids: np.ndarray, turns: int) -> dict[str, Any]:
    award: list[float] = []
    sort: list[float] = []
    for _ in range(turns):
        award.append(_seconds(lambda: auction.award(bids)))
        sort.append(_seconds(lambda: np.sort(bids)))
    row = {
        "rule": rule,
        "bids": len(bids),
        "sort s": statistics.median(sort),
        "auction s": statistics.median(award),
        "in sorts": statistics.median(a / b for a, b in zip(award, sort, strict=True)),
        "loop s": None,
        "loop in auctions": None,
    }
    if len(bids) <= LOOP_BIDS_MAX:
        row["loop s"] = _seconds(lambda: _one_by_one(auction, bids))
        row["loop in auctions"] = row["loop s"] / row["auction s"]
    return row


def _one_by_one(auction: Auction, bids: np.ndarray) -> np.ndarray:
    """Payments as bisection finds each winner's threshold, one auction at a time."""
    payments = np.zeros(len(bids))
    for own in np.flatnonzero(auction.award(bids).wins):
        low, high, told = bids[own], 4.0, bids.copy()
        for _ in range(20):
            told[own] = middle = 0.5 * (low + high)
            low, high = (middle, high) if auction.award(told).wins[own] else (low, middle)
        payments[own] = low
    return payments


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    result = measure(BIDS[:-1] if quick else BIDS, 3 if quick else max(TURNS.values()))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
