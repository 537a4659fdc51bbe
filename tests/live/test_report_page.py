"""Pages of reports: escaped, self-contained, told to whoever cannot see them."""

import base64
import hashlib
import json
import os
import re
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.live import report, report_page
from edgepact.live.job_told import JobTold
from edgepact.live.report_charts import Bars, Chart, Line, Shades, spread_out, table
from edgepact.market.statement import Statement
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_results import TimeSplit


def test_a_page_runs_its_own_script_alone_and_asks_nobody() -> None:
    written = report_page.page(
        kind="<b>",
        title="<script>",
        verdict=["<q>"],
        good=True,
        intro="a & b",
        tiles=report_page.tiles([("<i>", "<u>", "<em>")]),
        sections=[report_page.section("<h1>", table(["<td>"], [["<p>"]]), "<a>", before="<hr>")],
        origin="<img>",
    )
    body = written[written.index("<body>") : written.index('<script type="text/javascript">')]
    for tag in ("<script>", "<i>", "<u>", "<q>", "<em>", "<h1><", "<a>", "<hr>", "<img>"):
        assert tag not in body.replace("<h1>&lt;script&gt;</h1>", "")
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", written, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in written
    assert not re.search(r"(?:src|href|url\()=?[\"']?https?:", written)
    assert len(written) < 120_000


LINES = Chart(
    title="Price & <more>",
    unit="credits",
    across="round",
    x=[1.0, 2.0, 3.0],
    lines=[
        Line(name='quo"ted', ink="device", values=[0.5, None, 0.25], dots=True),
        Line(name="best", ink="server", values=[0.3] * 3, dash=(6, 4)),
    ],
)


def test_a_chart_is_drawn_said_and_has_its_numbers() -> None:
    drawn = LINES.figure()
    said = unescape(re.findall(r'aria-label="(Price[^"]*)"', drawn)[0])
    assert 'quo"ted: from 0.5 to 0.25, at most 0.5 at 1; best: from 0.3 to 0.3' in said
    rows = re.findall(r"<tr>(.*?)</tr>", drawn)
    cells = [re.findall(r">([^<]+)</t[hd]>", row) for row in rows]
    assert cells[1:] == [["1", "0.5", "0.3"], ["2", "none", "0.3"], ["3", "0.25", "0.3"]]
    (data,) = re.findall(r'data-lines="([^"]*)"', drawn)
    columns = json.loads(unescape(data))["columns"]
    assert columns == [[1.0, 2.0, 3.0], [0.5, None, 0.25], [0.3, 0.3, 0.3]]
    # A line that is broken begins anew.
    first = re.findall(r'<path d="([^"]*)" style="stroke:var\(--device\)"', drawn)[0]
    assert first.count("M") == 2


finite = st.floats(-1e9, 1e9).map(lambda value: round(value, 6))


@given(st.lists(st.one_of(st.none(), finite), min_size=1, max_size=12), st.booleans())
def test_any_line_is_drawn_within_its_place(values: list[float | None], log: bool) -> None:
    x = [float(at + 1) for at in range(len(values))]
    line = Line(name="l", ink="ink", values=values, dots=True)
    drawn = Chart(title="t", unit="u", across="x", x=x, lines=[line], log=log).figure()
    for left, top in re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', drawn):
        if float(left) != 14:  # that of the legend
            assert 0 <= float(left) <= 720
            assert 0 <= float(top) <= 220
    assert "nan" not in drawn


def test_bars_are_as_long_as_their_values_and_say_them() -> None:
    parts = (("own", "device"), ("left", "server"))
    rows = [("fast", (1.0, 1.0)), ("slow<", (1.0, 3.0))]
    drawn = Bars(title="Work", unit="GMAC", parts=parts, rows=rows).figure()
    widths = [float(each) for each in re.findall(r"width:([\d.]+)%", drawn)]
    assert widths == [25.0, 25.0, 25.0, 75.0]
    assert 'aria-label="slow&lt;: own 1, left 3 GMAC"' in drawn
    beside = Bars(title="Work", unit="GMAC", parts=parts, rows=rows, stacked=False).figure()
    longest = [float(each) for each in re.findall(r"width:([\d.]+)%", beside)]
    assert max(longest) == 100.0
    assert Bars(title="None", unit="s", parts=parts, rows=[]).figure()


def test_of_many_rounds_and_devices_some_are_drawn_and_all_have_numbers() -> None:
    rows = [(f"device-{at}", [float(at)] * 30 + [None]) for at in range(200)]
    columns = [f"{at}" for at in range(31)]
    shades = Shades(title="Who", unit="layers", columns=columns, rows=rows, most=200.0)
    drawn, _, numbers = shades.figure().partition("<details")
    assert drawn.count('<th scope="row">') == 48
    assert "48 of 200 devices are drawn" in drawn
    assert "16 of 31 rounds are drawn" in drawn
    assert numbers.count('<th scope="row">') == 200


def test_who_did_what_is_drawn_and_said() -> None:
    drawn = report_page.strip(2, 6, words='a "b" did 2 of 8', device_first=False)
    assert re.findall(r'class="(\w+)" style="flex-grow:(\d+)"', drawn) == [
        ("server", "6"),
        ("device", "2"),
    ]
    assert 'role="img" aria-label="a &quot;b&quot; did 2 of 8"' in drawn
    assert "device" not in report_page.strip(0, 8, words="all the server's")


def test_times_have_a_legend_with_all_their_parts() -> None:
    fast, slow = TimeSplit(0.001, 0.002, 0.001, 0.0), TimeSplit(0.002, 0.004, 0.001, 0.001)
    drawn = report_page.times([("fast", fast), ("slow", slow)], unit="a token")
    widths = [float(each) for each in re.findall(r"width:([\d.]+)%", drawn)]
    assert sum(widths[:4]) == 50.0
    assert sum(widths[4:]) == 100.0
    legend = drawn[drawn.index('class="key"') : drawn.index("</p>")]
    assert re.findall(r'<i class="(\w+)">', legend) == ["device", "link", "server", "ledger"]
    assert report_page.times([], unit="a token")


@pytest.mark.parametrize("devices", [3, 40])
def test_payments_have_room_for_many_devices(devices: int) -> None:
    names = [f"d-{at}" for at in range(devices)]
    paid = {number: {name: 1_500_000 * number for name in names} for number in (1, 2)}
    statement = Statement(
        balances={}, debits=1, credits=1, unbalanced=(), jobs={}, audited=0, paid=paid, members=()
    )
    drawn = report_page.payments(statement, names)
    assert len(re.findall('scope="col"', drawn)) <= 2 + report_page.COLUMNS_MAX
    assert f'class="number">{4.5 * devices:.6f}</td></tr></tbody>' in drawn
    assert all(f">{name}<" in drawn for name in names)


@given(st.integers(0, 50), st.integers(1, 12))
def test_some_of_all_are_shown_from_first_to_last(count: int, most: int) -> None:
    shown = spread_out(range(count), most)
    assert len(shown) == min(count, most) == len(set(shown))
    assert shown == sorted(shown)
    assert shown[:1] == list(range(min(count, 1)))
    assert most == 1 or shown[-1:] == list(range(count))[-1:]


def test_a_file_whose_name_is_no_utf8_has_its_row(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    bought = LayersBought.__new__(LayersBought)
    pieces = JobTold(
        kind="images",
        title="Images",
        intro="",
        file="images.csv",
        columns=["file"],
        rows=[{"device": "cam", "file": name}],
        made=("", "", ""),
        timed="",
        head=[],
        devices=[],
    )
    report._write_tables(tmp_path, pieces, bought)
    rows = (tmp_path / "images.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1:] == [r"cam,caf\udce9.png"]
