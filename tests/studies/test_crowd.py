"""A crowd on a server process, in small: everybody is served and paid."""

import asyncio
from pathlib import Path

import pytest

from edgepact.studies.crowd import Crowd, Round, enrolled, served

DEVICES, UNITS = 12, 4


def test_a_crowd_is_served_and_paid(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokens = enrolled(tmp_path / "ledger.db", DEVICES)

    async def played() -> tuple[list[Round], dict[str, int]]:
        with served(tmp_path, units_per_round=UNITS, devices_min=DEVICES) as server:
            crowd = Crowd(server, tokens, units=UNITS)
            rounds = [await crowd.round(in_flight=8), await crowd.round(period_s=0.02)]
            found = rounds, await crowd.pay()
            crowd.close()
            assert server.ledger_bytes() > 0
            return found

    rounds, states = asyncio.run(played())
    assert states == {"paid": 2 * DEVICES * UNITS}
    for each in rounds:
        assert len(each.seconds) == DEVICES * UNITS
        assert each.asked - each.refused == DEVICES * UNITS
        # The window ends after nine pieces in ten.
        assert each.in_window == sum(each.served.values()) == 9 * DEVICES * UNITS // 10
    assert capfd.readouterr() == ("", "")  # what the server says is for its operator


def test_what_a_server_says_that_fails_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(RuntimeError, match="did not start"),
        served(tmp_path, units_per_round=0),
    ):
        raise AssertionError("it serves")
    assert "units_per_round: expected a whole number" in capfd.readouterr().err
