"""Writes what `edgepact solve` and `edgepact quote` answer to the shipped examples.

    python tests/golden/write.py [FOLDER]

Without FOLDER, they become what every build is held against. Do that only where numbers are
meant to change, and say which and why under "Changed numbers" in CHANGELOG.md:
`tests/test_golden.py` compares to the digit. Keys may join those that stand here; none may go.
"""

import contextlib
import io
import sys
from pathlib import Path

from edgepact import cli

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"

SOLVED = (
    "auction",
    "auction-bandwidth",
    "auction-optimal",
    "auction-reserve",
    "auction-scored",
    "contract",
    "crowd",
    "five-cameras",
    "live",
    "may-decline",
    "measured",
    "scenario-block",
    "scenario-compression",
    "scenario-layer-menu",
    "scenario-local-work",
    "scenario-partition",
    "scenario-supply-curves",
    "two-costs",
    "two-peaks",
    "train-contract",
    "train-price",
)
QUOTED = ("crowd", "five-cameras", "live", "may-decline", "scenario-partition", "two-peaks")


def write(folder: Path) -> None:
    """Writes all of them into a folder."""
    for command, names in (("solve", SOLVED), ("quote", QUOTED)):
        for name in names:
            sys.argv = ["edgepact", command, str(EXAMPLES / f"{name}.toml"), "--json"]
            with contextlib.redirect_stdout(io.StringIO()) as out:
                try:
                    cli.main()
                except SystemExit as ended:
                    if ended.code:
                        raise
            (folder / f"{command}-{name}.json").write_text(out.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
