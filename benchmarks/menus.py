"""The exact optimal menu against a linear program, and its time for ten thousand types.

Run by `python -m benchmarks menus`. The rival states what the theory makes needless: every
incentive, over a grid of qualities. It is given one grid of 33 qualities and no refinement, so
that its time is that of one call of HiGHS; what the grid loses is shown. Both in turns, CPU
seconds, medians.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgepact.mechanisms.contract.lottery import WideContract, linear_program_menu
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Log1p
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.terms import Contract

SMALL = (4, 8, 16, 24)
LARGE = (1_000, 10_000)
LARGE_MAX_S = 0.1
"""For ten thousand types."""
LEAST_RATIO = 10.0
"""The program takes at least so many times as long, from eight types on."""
TURNS = 11
GRID = 33
SEED = 0


def contract_of(types: int) -> Contract:
    """Costs and frequencies at random: most menus need ironing."""
    rng = np.random.default_rng([SEED, types])
    return Contract(
        psi=rng.uniform(0.3, 6.0, types),
        probability=rng.dirichlet(np.ones(types)) * 0.9 + 0.1 / types,
        value=Log1p(scale=10.0),
        quality_max=20.0,
    )


def measure(turns: int) -> dict[str, Any]:
    """Medians of CPU seconds, and of the ratios of neighbouring turns."""
    rows: list[dict[str, Any]] = []
    for types in SMALL:
        contract = contract_of(types)
        wide = WideContract(
            psi=contract.psi[:, None],
            costs=(contract.cost,),
            probability=contract.probability,
            value=contract.value,
            quality_max=contract.quality_max,
        )
        exact, program = [], []
        for _ in range(turns):
            exact.append(_seconds(lambda contract=contract: optimal_menu(contract)))
            program.append(_seconds(lambda wide=wide: linear_program_menu(wide, GRID)))
        best = profit(contract, optimal_menu(contract))
        rows.append(
            {
                "types": types,
                "menu s": statistics.median(exact),
                "program s": statistics.median(program),
                "ratio": statistics.median(b / a for a, b in zip(exact, program, strict=True)),
                "program misses": f"{1.0 - linear_program_menu(wide, GRID) / best:.1e}",
            }
        )
    for types in LARGE:
        contract = contract_of(types)
        times = [_seconds(lambda contract=contract: optimal_menu(contract)) for _ in range(turns)]
        rows.append({"types": types, "menu s": statistics.median(times)})
    largest = rows[-1]["menu s"]
    slowest = min(row["ratio"] for row in rows if 8 <= row["types"] <= SMALL[-1])
    return {
        "title": "Exact optimal menus against a linear program, one thread, medians",
        "rows": rows,
        "seed": SEED,
        "threads": 1,
        "target": f"below {LARGE_MAX_S} s for {LARGE[-1]:,} types, "
        f"{LEAST_RATIO:.0f} times as fast as the program from 8 types on",
        "largest_s": largest,
        "least_ratio": slowest,
        "reached": largest < LARGE_MAX_S and slowest >= LEAST_RATIO,
    }


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    print(json.dumps(measure(3 if "--quick" in sys.argv[1:] else TURNS)))


if __name__ == "__main__":
    main()
