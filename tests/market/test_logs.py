"""What a server tells of itself: shapes of lines, no secrets, no floods; traces."""

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.market import logs
from edgepact.market.logs import Complaints, Log
from edgepact.market.tracing import read_traceparent, trace_of, traceparent
from tests.market.harness import PATIENCE_S, Device, Processes, finish, image, served, wait_until


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


def test_who_is_late_again_and_again_is_no_warning() -> None:
    """Honest devices are, when their round ends; a flood of anything else is worth a line."""
    for status, level in ((409, "info"), (400, "warning")):
        log, lines = told()
        complaints = Complaints(log, clock=lambda: 0.0)
        for _ in range(logs.TOLD_EACH + 1):
            complaints.note("10.0.0.1", status, "the round is over")
        complaints.sum_up()
        again = json.loads(lines[-1])
        assert (again["event"], again["level"]) == ("refused again", level)


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


def test_the_way_of_a_piece_is_found_in_the_results_the_log_and_the_metrics(
    tmp_path: Path, processes: Processes, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"log_format": "json", "log_level": "info", "units_per_round": 3}
    with served(tmp_path, **settings) as server:
        device = processes.device(server.url, 0)
        wait_until(lambda: len(processes.pieces(0)) > 3)
        device.terminate()
        _, said = finish(device)
        assert device.returncode == 0, said
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as stranger:
            for _ in range(50):
                assert stranger.get("/market/offer").status_code == 401
            shown = {"Authorization": f"Bearer {server.operator_token}"}
            metrics = stranger.get("/metrics", headers=shown).text
        token = (tmp_path / "cam-0.token").read_text().strip()
    lines = processes.pieces(0)
    told = capfd.readouterr().err
    assert not any(secret in told for secret in (server.operator_token, token, "once-0", "://"))
    rows = [json.loads(line) for line in told.splitlines()]
    steps = {row["trace"]: row for row in rows if row["event"] == "exchange"}
    for line in lines:
        step = steps[line["trace"]]
        assert line["trace"] == trace_of("cam-0", line["piece"])
        assert (step["device"], step["piece"], step["round"]) == (
            "cam-0",
            line["piece"],
            line["round"],
        )
        parts = [step[f"{part}_s"] for part in ("queue", "compute", "ledger")]
        assert all(part >= 0 for part in parts)
        assert sum(parts) <= step["server_s"] + 1e-5
        assert sum(line[f"{part}_seconds"] for part in ("queue", "compute", "ledger")) > 0
    assert len(lines) == len(steps)
    events = [row["event"] for row in rows]
    assert {"started", "enrolled", "round open", "round closed", "stopped"} <= set(events)
    assert events.count("refused") == logs.TOLD_EACH
    assert [row["times"] for row in rows if row["event"] == "refused again"] == [50]
    assert 'edgepact_refused_total{status="401"} 50.0' in metrics
    assert f"edgepact_queue_seconds_count {len(steps)}.0" in metrics
    assert f"edgepact_ledger_seconds_count {len(steps)}.0" in metrics


def test_a_trace_that_a_client_brings_is_kept_and_passed_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"log_format": "json", "log_level": "info"}
    with served(tmp_path, **settings) as server:
        device = Device(server.url, "once-0", "cam-0")
        assert device.offer()["round"] == 1
        assert device.commit(1, 0).status_code == 200
        trace = "0af7651916cd43dd8448eb211c80319c"
        device.http.headers["traceparent"] = f"00-{trace}-b7ad6b7169203331-01"
        answer = device.infer(0, 1, "p", {"image": (image(),)})
        device.http.close()
        assert answer.status_code == 200, answer.text
        assert read_traceparent(answer.headers["traceparent"]) == trace
    (row,) = [
        row
        for row in map(json.loads, capfd.readouterr().err.splitlines())
        if row["event"] == "exchange"
    ]
    assert row["trace"] == trace


@given(st.text())
def test_no_header_is_an_error(text: str) -> None:
    found = read_traceparent(text)
    assert found is None or len(found) == 32
