"""The live market in the terminal."""

from typing import Any

import pytest
from rich.console import Console

from edgepact.pacts.partition_watching import _table


@pytest.mark.parametrize(("width", "each_has_one"), [(80, False), (100, True), (200, True)])
def test_no_column_is_cut_off_however_many_devices_there_are(
    width: int, each_has_one: bool
) -> None:
    names = [f"new-phone-{at}" for at in range(7)]
    played: dict[str, Any] = {
        "round": 4,
        "price": 0.25,
        "amounts": dict.fromkeys(names, 11.0),
        "units": dict.fromkeys(names, 3),
        "paid_microcredits": dict.fromkeys(names, 1_000_000),
    }
    console = Console(width=width)
    with console.capture() as shown:
        console.print(_table(names, [played], "image", "layer", room=width))
    said = shown.get()
    assert ("all devices" in said) != each_has_one
    assert max(map(len, said.splitlines())) <= width
    assert any(line.endswith("┓") for line in said.splitlines()), "no column is cut off"
    assert ("77" in said) != each_has_one, "layers of all"
    assert "7.000" in said
    assert "paid, credits" in " ".join(said.split())
    assert "…" not in said


def test_names_are_whole_where_they_have_room() -> None:
    names = ["camera", "phone", "drone", "kiosk", "robot"]
    played: dict[str, Any] = {
        "round": 12,
        "price": 0.2843,
        "amounts": dict.fromkeys(names, 12),
        "units": dict.fromkeys(names, 12),
        "paid_microcredits": dict.fromkeys(names, 27_292_400),
    }
    console = Console(width=80)
    with console.capture() as shown:
        console.print(_table(names, [played], "image", "layer", room=80))
    for word in (*names, "136.462"):
        assert word in shown.get()
