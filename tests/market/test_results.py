"""The file that a device keeps, when the disk has no room for it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepact.errors import MarketError
from edgepact.market.results import Results


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_in_a_line_and_what_was_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "cam-1.jsonl"
    with Results(path) as results:
        kept = results.bind("1-0", 1, 0, b"source")
        results.add({"round": 1, "piece": "1-0", "state": "pending"})
        with no_room():
            with pytest.raises(
                MarketError, match=r"cam-1\.jsonl cannot be written: File too large"
            ):
                results.add({"round": 1, "piece": "1-1", "state": "pending"})
            with pytest.raises(MarketError, match=r"cam-1\.jsonl\.sources cannot be written"):
                results.bind("1-2", 1, 2, b"another")
            # It has not bound itself to what it could not show after a restart.
            assert results.bound("1-2") is None
    with Results(path) as results:
        assert results.bound("1-0") == kept
        assert set(results.open_lines()[1]) >= {"1-0"}
        assert results.has("1-0")
