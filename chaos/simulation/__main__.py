"""One interleaving of a seed, again, or several from there on."""

import sys
import tempfile
from pathlib import Path

from chaos.simulation import Simulation, in_memory


def main() -> None:
    """The command line."""
    if not 3 <= len(sys.argv) <= 4:
        sys.exit("usage: python -m chaos.simulation SEED NUMBER [COUNT]")
    seed, number, *rest = map(int, sys.argv[1:])
    broken = 0
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        simulation = Simulation(seed, Path(folder))
        for each in range(number, number + (rest or [1])[0]):
            found = simulation.happen(each)
            print(
                f"{each}: {found.steps} steps, {found.virtual_s:.1f} s, {found.requests} "
                f"requests, {dict(found.pieces)}, {found.verdicts} verdicts"
            )
            if not rest:
                print(*found.story, sep="\n")
                print(found.said, end="")
            for sentence in found.broken:
                print(f"BROKEN {sentence}")
            broken += bool(found.broken)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
