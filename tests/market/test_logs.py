"""What a server tells of itself: shapes of lines, no secrets, no floods; traces."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.market import logs
from edgepact.market.logs import Complaints, Log
from edgepact.market.tracing import read_traceparent, trace_of, traceparent


def told(level: str = "info", format: str = "json") -> tuple[Log, list[str]]:
    lines = list[str]()
    return Log(format=format, level=level, write=lines.append), lines


def test_lines_are_json_of_event_level_time_and_facts() -> None:
    log, lines = told()
    log.info("exchange", device="cam-1", piece="1-0", round=3, compute_s=0.12345678)
    log.debug("not this")
    (line,) = lines
    row = json.loads(line)
    assert row.pop("timestamp").endswith("Z")
    assert row == {
        "event": "exchange",
        "level": "info",
        "device": "cam-1",
        "piece": "1-0",
        "round": 3,
        "compute_s": 0.123457,
    }


def test_text_is_one_line_whatever_is_in_it() -> None:
    log, lines = told(format="text")
    log.warning("refused", why="two\nlines", device="a b")
    assert len(lines) == 1
    assert "level='warning'" in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize("format", logs.FORMATS)
def test_no_secret_is_told(format: str) -> None:
    log, lines = told(format=format)
    token = "0123456789abcdef" * 3
    url = "postgresql://user:hunter2@host/market"
    try:
        raise OSError(f"cannot reach {url} with Bearer abc.def")
    except OSError:
        log.error("failed", exc_info=True)
    log.error("x", device_token="hunter2", ledger_url=url, why=f"{url} {token}", said=[token])
    assert not any(bad in line for line in lines for bad in ("hunter2", token, "abc.def", "@host"))
    assert "OSError" in lines[0]


def test_a_flood_is_counted_and_summed_up() -> None:
    now = [0.0]
    log, lines = told()
    complaints = Complaints(log, clock=lambda: now[0])
    for n in range(100_000):
        complaints.note("10.0.0.1", 401, "wrong token", n=n)
    complaints.note("10.0.0.2", 500, "defect")
    assert len(lines) == logs.TOLD_EACH + 1
    assert json.loads(lines[-1])["level"] == "error"
    now[0] = logs.WINDOW_S
    complaints.note("10.0.0.1", 401, "wrong token")
    again = json.loads(lines[logs.TOLD_EACH + 1])
    assert (again["event"], again["times"], again["status"]) == ("refused again", 100_000, 401)


def test_a_flood_of_many_addresses_is_bounded_too() -> None:
    now = [0.0]
    log, lines = told()
    complaints = Complaints(log, clock=lambda: now[0])
    for n in range(20_000):
        complaints.note(f"10.0.{n % 256}.{n % 5000}", 400, "malformed")
    assert len(lines) == logs.TOLD_MAX
    assert len(complaints._counts) <= logs.KINDS_MAX
    complaints.sum_up()
    assert len(lines) <= 2 * logs.TOLD_MAX + 1
    assert not complaints._counts


def test_a_trace_travels_and_nothing_else_is_one() -> None:
    trace = trace_of("cam-1", "1-0")
    assert read_traceparent(traceparent(trace)) == trace
    assert traceparent(trace) != traceparent(trace), "each part has a name of its own"
    assert trace_of("cam-1", "1-1") != trace != trace_of("cam-2", "1-0")
    zeros = f"00-{'0' * 32}-{'1' * 16}-01"
    for bad in (None, "", trace, zeros, f"ff{traceparent(trace)[2:]}", traceparent(trace) + "-x"):
        assert read_traceparent(bad) is None


@given(st.text())
def test_no_header_is_an_error(text: str) -> None:
    found = read_traceparent(text)
    assert found is None or len(found) == 32
