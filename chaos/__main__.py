"""Runs the parts one after another, shows a table, and exits 1 if a promise was broken."""

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos import __doc__ as about
from chaos.parts import PARTS, CannotHere, Given, Outcome, part, there

BROKEN_SHOWN = 20


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=50, help="length; 1000 is the long form")
    parser.add_argument("--seed", type=int, default=None, help="of all that is drawn")
    parser.add_argument("--json", type=Path, default=None, help="where to write what was found")
    parser.add_argument("--folder", type=Path, default=None, help="to work in")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    told = parser.parse_args()
    if told.rounds < 1:
        parser.error("--rounds: expected at least 1")
    unknown = [name for name in told.parts if name not in there()]
    if unknown:
        parser.error(f"expected parts of {', '.join(there())}, found {', '.join(unknown)}")
    seed = secrets.randbelow(10**6) if told.seed is None else told.seed
    names = tuple(told.parts) or there()
    root = Path(tempfile.mkdtemp(prefix="edgepact-chaos-", dir=told.folder))
    console = Console()
    again = f"python -m chaos {' '.join(names)} --rounds {told.rounds} --seed {seed}"
    console.print(f"Seed {seed}; to repeat it: {again}", highlight=False, soft_wrap=True)
    found, kept = [], told.keep
    for name in names:
        one = _run(name, seed, told.rounds, root / name, console)
        kept = kept or one["state"] == "broken"
        found.append(one)
    _show(console, found)
    if kept:
        console.print(f"What is left of it: {root}", highlight=False, soft_wrap=True)
    else:
        shutil.rmtree(root, ignore_errors=True)
    if told.json is not None:
        document = {
            "seed": seed,
            "rounds": told.rounds,
            "again": again,
            "cores": os.cpu_count(),
            "load_1min": os.getloadavg()[0],
            "parts": found,
        }
        told.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if any(one["state"] == "broken" for one in found) else 0)


def _run(name: str, seed: int, rounds: int, folder: Path, console: Console) -> dict[str, Any]:
    """One part, and what has become of it."""
    folder.mkdir()
    module, began = part(name), time.monotonic()
    console.print(f"{name}: {module.ABOUT}", highlight=False, soft_wrap=True)
    reason = ""
    with console.status(name) as shown:

        def say(line: str) -> None:
            shown.update(f"{name}: {line}")
            if not console.is_terminal:
                print(f"  {time.monotonic() - began:6.0f} s  {line}", flush=True)

        given = Given(seed=seed, rounds=rounds, folder=folder, say=say)
        try:
            outcome = module.run(given)
            state = "broken" if outcome.broken else "kept"
        except CannotHere as error:
            outcome, state, reason = Outcome(did="nothing"), "not here", str(error)
        except Exception as error:
            console.print_exception()
            broken = (f"the part itself ended with {type(error).__name__}: {error}",)
            outcome, state = Outcome(did="it did not come to its end", broken=broken), "broken"
    # At once, so that it is known if a later part is stopped.
    console.print(f"{name}: {state}: {outcome.did}", highlight=False, soft_wrap=True)
    for sentence in outcome.broken[:BROKEN_SHOWN]:
        console.print(f"BROKEN {name}: {sentence}", highlight=False, soft_wrap=True)
    return {
        "part": name,
        "about": module.ABOUT,
        "state": state,
        "reason": reason,
        "did": outcome.did,
        "seconds": round(time.monotonic() - began, 1),
        "broken": list(outcome.broken),
        "figures": dict(outcome.figures),
    }


def _show(console: Console, found: list[dict[str, Any]]) -> None:
    table = Table(title="Promises under chaos")
    for head in ("part", "promises", "did", "seconds", "figures"):
        table.add_column(head, justify="right" if head == "seconds" else "left")
    for one in found:
        figures = "\n".join(f"{name}: {_told(value)}" for name, value in one["figures"].items())
        did = one["did"] + (f" ({one['reason']})" if one["reason"] else "")
        table.add_row(one["part"], one["state"], did, f"{one['seconds']:.0f}", figures)
    console.print(table)
    for one in found:
        if len(one["broken"]) > BROKEN_SHOWN:
            console.print(f"... and {len(one['broken']) - BROKEN_SHOWN} more")


def _told(value: object) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


if __name__ == "__main__":
    main()
