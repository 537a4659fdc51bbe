"""Pages of generated work: escaped, self-contained, told to whoever cannot see them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from edgepact.live import work_page
from edgepact.pacts.partition_results import TimeSplit


def test_a_page_runs_nothing_and_asks_nobody() -> None:
    page = work_page.page(
        kind="<b>",
        title="<script>",
        intro="a & b",
        cards=work_page.cards([("<i>", "<u>")]),
        sections=[work_page.section("<h1>", work_page.table(["<td>"], [["<p>"]]), "<a>")],
        origin="<img>",
    )
    for tag in ("<script>", "<i>", "<u>", "<h1><", "<a>", "<img>"):
        assert tag not in page.replace("<h1>&lt;script&gt;</h1>", "")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)


def test_who_did_what_is_drawn_and_said() -> None:
    drawn = work_page.strip(2, 6, words='a "b" did 2 of 8', device_first=False)
    assert re.findall(r'class="(\w+)" style="flex-grow:(\d+)"', drawn) == [
        ("server", "6"),
        ("device", "2"),
    ]
    assert 'role="img" aria-label="a &quot;b&quot; did 2 of 8"' in drawn
    assert "device" not in work_page.strip(0, 8, words="all the server's")


def test_times_are_drawn_beside_the_slowest() -> None:
    fast, slow = TimeSplit(0.001, 0.002, 0.001, 0.0), TimeSplit(0.002, 0.004, 0.001, 0.001)
    drawn = work_page.time_bars([("fast", fast), ("slow", slow)], unit="a token")
    widths = [float(each) for each in re.findall(r"width:([\d.]+)%", drawn)]
    assert sum(widths[:4]) == 50.0
    assert sum(widths[4:]) == 100.0
    assert 'aria-label="slow: device 2 ms, link 4 ms, server 1 ms, waiting 1 ms a token"' in drawn
    assert work_page.time_bars([], unit="a token")


@given(st.integers(0, 50), st.integers(1, 12))
def test_some_of_all_are_shown_from_first_to_last(count: int, most: int) -> None:
    shown = work_page.spread_out(range(count), most)
    assert len(shown) == min(count, most) == len(set(shown))
    assert shown == sorted(shown)
    assert shown[:1] == list(range(min(count, 1)))
    assert most == 1 or shown[-1:] == list(range(count))[-1:]
