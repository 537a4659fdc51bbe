"""The exact Stackelberg equilibrium against sorting, from a thousand devices to a million.

Run by `python -m benchmarks oracle`. Nothing can find an exact optimum without looking
at every breakpoint (two a device with continuous layers, one a device and layer with
integer ones), so the yardstick is `np.sort` of as many random numbers, in turns with
the equilibrium in the same run. The rival is what one writes without the theory: the
best of a grid of prices, with vectorised best responses. It is not exact.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.terms import Game

DEVICES = (1_000, 10_000, 100_000, 1_000_000)
TURNS = {1_000: 41, 10_000: 21, 100_000: 11, 1_000_000: 7}
LAYERS_MAX = 12
GRID_PRICES = 201
GRID_DEVICES_MAX = 100_000
SORTS_MAX = 3.0
"""A small multiple of sorting, for the largest fleet."""
SEED = 0


def game_of(devices: int, *, integer: bool, common: bool) -> Game:
    """Devices as the default prior draws them; `common` says whether A is the same for all."""
    draws = np.random.default_rng(SEED)
    fleet = Fleet(
        alpha=draws.uniform(2.0, 6.0, devices),
        capacity=draws.uniform(8.0, 14.0, devices),
        A=np.full(devices, 1.0) if common else draws.uniform(0.8, 1.2, devices),
        B=np.full(devices, 0.5),
    )
    return Game(fleet, 100.0, 1.0, 0.05, 3.0, LAYERS_MAX, integer)


def measure(devices: tuple[int, ...], turns_max: int) -> dict[str, Any]:
    """Medians of CPU seconds, and of the ratios of neighbouring turns."""
    rows, exponents = [], {}
    for integer in (True, False):
        for common in (True, False):
            seconds = []
            for size in devices:
                row = _measured(size, integer, common, min(TURNS[size], turns_max))
                rows.append(row)
                seconds.append(row["equilibrium s"])
            kind = f"{rows[-1]['layers']}, {rows[-1]['A']}"
            # A thousand devices are mostly overhead: growth is read off above.
            slope = np.polyfit(np.log(devices[1:]), np.log(seconds[1:]), 1)[0]
            exponents[kind] = float(slope)
    worst = max(row["in sorts"] for row in rows if row["devices"] == devices[-1])
    return {
        "title": "Exact equilibrium against np.sort of its breakpoints, one thread, medians",
        "rows": rows,
        "growth_exponents": exponents,
        "seed": SEED,
        "threads": 1,
        "target": f"at most {SORTS_MAX:.0f} sorts for {devices[-1]:,} devices",
        "most_sorts": worst,
        "reached": worst <= SORTS_MAX,
    }


def _measured(devices: int, integer: bool, common: bool, turns: int) -> dict[str, Any]:
    game = game_of(devices, integer=integer, common=common)
    numbers = np.random.default_rng(SEED + 1).random(devices * (LAYERS_MAX if integer else 2))
    solve: list[float] = []
    sort: list[float] = []
    for _ in range(turns):
        solve.append(_seconds(lambda: equilibrium(game)))
        sort.append(_seconds(lambda: np.sort(numbers)))
    row = {
        "layers": "integer" if integer else "continuous",
        "A": "common" if common else "own",
        "devices": devices,
        "breakpoints": len(numbers),
        "sort s": statistics.median(sort),
        "equilibrium s": statistics.median(solve),
        "in sorts": statistics.median(a / b for a, b in zip(solve, sort, strict=True)),
        "grid s": None,
        "grid misses": None,
    }
    if devices <= GRID_DEVICES_MAX:
        found: list[float] = []
        row["grid s"] = _seconds(lambda: found.append(_grid_search(game)))
        alone = game.revenue - float(game.saving.sum()) * LAYERS_MAX
        best = float(equilibrium(game).server_utility) - alone
        row["grid misses"] = f"{(best - (found[0] - alone)) / best:.1e}"
    return row


def _grid_search(game: Game) -> float:
    """One price at a time, since all at once would not fit into memory."""
    prices = np.linspace(game.price_min, game.price_max, GRID_PRICES)
    return max(float(outcome(game, price).server_utility) for price in prices)


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    result = measure(DEVICES[:-1] if quick else DEVICES, 3 if quick else max(TURNS.values()))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
