"""The live market in the terminal: one line a round while it is played."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from edgepact.credits import in_credits

ROUNDS_SHOWN = 16

BESIDE = 3
"""Characters of a column beside what it says: a line and two blanks."""

LEAST = 4
"""Characters that the column of a device says at least, its name broken."""

HEADING = 8
"""Characters of the column of pay, its heading in two lines."""


@contextmanager
def watching(
    names: Sequence[str], rounds: int, units: int, unit: str = "image", step: str = "layer"
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Shows the rounds while the block runs.

    Args:
        names: the devices.
        rounds: rounds that will be played.
        units: units of work, such as images, of each device in a round.
        unit: what one is called.
        step: what one step of an amount is called.

    Yields:
        A function that is told each status of the market.
    """
    progress = Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    task = progress.add_task("Start a server and its devices", total=rounds * len(names) * units)
    console = Console(stderr=True)
    with Live(progress, console=console, refresh_per_second=8) as live:

        def on_status(status: dict[str, Any]) -> None:
            done = sum(sum(each["units"].values()) for each in status["rounds"])
            here = len(status["devices_present"])
            what = (
                f"Play rounds on real {unit}s" if done else f"{here} of {len(names)} devices here"
            )
            progress.update(task, completed=done, description=what)
            table = _table(names, status["rounds"], unit, step, room=console.width)
            live.update(Group(table, progress))

        yield on_status
    if not console.is_terminal:
        console.print()  # what follows must not start on the last line of the bar


def _table(
    names: Sequence[str], rounds: Sequence[dict[str, Any]], unit: str, step: str, *, room: int
) -> Table:
    """The latest rounds; where there is no room for a column of each device, what all run."""
    shown = rounds[-ROUNDS_SHOWN:]
    paid = [f"{in_credits(sum(each['paid_microcredits'].values())):.3f}" for each in shown]
    priced = any(each["price"] is not None for each in rounds) or not rounds
    others = (len("round"), 6 * priced, len(f"{unit}s"), max([HEADING, *map(len, paid)]))
    left = room - 1 - sum(width + BESIDE for width in others if width)
    each_has_one = len(names) * (LEAST + BESIDE) <= left
    asked = [max(LEAST, len(name)) for name in names]
    whole = sum(width + BESIDE for width in asked) <= left
    share = left // max(1, len(names)) - BESIDE
    whose = "each device runs" if each_has_one else "all devices run"
    table = Table(title=f"{step.capitalize()}s {whose}", title_justify="left")
    table.add_column("round", justify="right", no_wrap=True)
    if priced:
        table.add_column("price", justify="right", no_wrap=True, min_width=6)
    if each_has_one:
        for name, width in zip(names, asked, strict=True):
            own = width if whole else min(width, share)
            table.add_column(name, justify="right", overflow="fold", width=own)
    else:
        table.add_column(f"{step}s", justify="right", no_wrap=True)
    table.add_column(f"{unit}s", justify="right", no_wrap=True)
    table.add_column("paid, credits", justify="right", min_width=others[-1])
    for each, credits in zip(shown, paid, strict=True):
        layers = [str(each["amounts"].get(name, "")) for name in names]
        if not each_has_one:
            layers = [f"{sum(each['amounts'].values()):g}"]
        delivered = str(sum(each["units"].values()))
        price = ("" if each["price"] is None else f"{each['price']:.4f}",) if priced else ()
        table.add_row(str(each["round"]), *price, *layers, delivered, credits)
    return table
