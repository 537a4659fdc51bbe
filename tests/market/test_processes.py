"""What is told of processes that leave nothing behind."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from edgepact.market.processes import LiveMarket

Usage = namedtuple("Usage", "total used free")


def test_a_log_that_found_no_room_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.log").touch()
    live = LiveMarket(tmp_path)
    assert live._last_words("server") == "it said nothing"
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(24_576, 24_576, 0))
    assert live._last_words("server").startswith(f"no space is left in {tmp_path}; free some")
    (tmp_path / "server.log").write_text("began\nended\n")
    assert live._last_words("server") == "ended"
