"""Files that state a Stackelberg game: what right ones mean; wrong ones are in test_cli.py."""

from pathlib import Path

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.files.stackelberg import read_game

SERVER = """
[server]
revenue = 100
beta = 10.0
layers_max = 12
price_min = 0.5
price_max = 3
"""
TWO = """
[[device]]
alpha = 3
capacity = 4.2
A = 0.3577
B = 0.1156
[[device]]
name = "hall"
alpha = 5.0
capacity = 2.0
A = 0.5
B = 0
"""


def market_file(folder: Path, top: str = "", body: str = SERVER + TWO) -> Path:
    path = folder / "market.toml"
    path.write_text('mechanism = "stackelberg"\n' + top + body)
    return path


def test_every_field_arrives_where_it_belongs(tmp_path: Path) -> None:
    market = read_game(market_file(tmp_path))
    game = market.game
    assert (game.revenue, game.beta, game.layers_max) == (100.0, 10.0, 12)
    assert (game.price_min, game.price_max) == (0.5, 3.0)
    assert game.fleet.alpha.tolist() == [3.0, 5.0]
    assert game.fleet.capacity.tolist() == [4.2, 2.0]
    assert game.fleet.A.tolist() == [0.3577, 0.5]
    assert game.fleet.B.tolist() == [0.1156, 0.0]
    assert all(
        column.dtype == np.float64
        for column in (game.fleet.alpha, game.fleet.capacity, game.fleet.A, game.fleet.B)
    )
    assert market.names == ["device-1", "hall"]


def test_defaults_are_those_of_the_article(tmp_path: Path) -> None:
    game = read_game(market_file(tmp_path)).game
    assert game.integer
    assert game.satisfaction.name == "log1p"
    assert not game.outside_option


@pytest.mark.parametrize("family", ["log1p", "log", "sqrt", "exp"])
def test_choices(tmp_path: Path, family: str) -> None:
    top = f'layers = "continuous"\nsatisfaction = "{family}"\noutside_option = true\n'
    game = read_game(market_file(tmp_path, top)).game
    assert not game.integer
    assert game.satisfaction.name == family
    assert game.outside_option


def test_one_price_may_be_all_there_is(tmp_path: Path) -> None:
    fixed = SERVER.replace("price_min = 0.5", "price_min = 3")
    game = read_game(market_file(tmp_path, body=fixed + TWO)).game
    assert game.price_min == game.price_max


def test_a_fleet_stands_beside_its_market_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "fleet.csv").write_text("alpha,capacity,A,B\n1,2,3,4\n")
    path = market_file(tmp_path / "sub", 'devices = "fleet.csv"\n', SERVER)
    monkeypatch.chdir(tmp_path)
    market = read_game(path.relative_to(tmp_path))
    assert market.game.fleet.B.tolist() == [4.0]
    assert market.names == ["device-1"]


def test_integer_games_too_large_for_memory_are_refused_before_solving(tmp_path: Path) -> None:
    rows = 200_001
    (tmp_path / "fleet.csv").write_text("alpha,capacity,A,B\n" + "1,2,1,0\n" * rows)
    many_layers = SERVER.replace("layers_max = 12", "layers_max = 1000")
    whole = market_file(tmp_path, 'devices = "fleet.csv"\n', many_layers)
    with pytest.raises(InputError, match="devices times layers"):
        read_game(whole)
    smooth = market_file(tmp_path, 'layers = "continuous"\ndevices = "fleet.csv"\n', many_layers)
    assert len(read_game(smooth).game.fleet) == rows


LINKED = """
[traffic]
sent_bytes = [500, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 250]
[[device]]
alpha = 3
capacity = 4.2
A = 0.3577
B = 0.1156
link_mbit = 0.8
round_trip_ms = 10
time_cost = 2
energy_cost = 100
"""


def test_links_cost_what_they_send_beyond_the_image(tmp_path: Path) -> None:
    market = read_game(market_file(tmp_path, body=SERVER + LINKED))
    assert market.links is not None
    assert market.links.link_mbit.tolist() == [0.8]
    more, less = 500 * (2 * 8 / 0.8e6 + 100 / 1e6), -250 * (2 * 8 / 0.8e6 + 100 / 1e6)
    assert market.game.link.tolist() == [pytest.approx([more] * 11 + [less])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("link_mbit = 0.8", ""), r"device\[1\]\.link_mbit: expected a finite number above 0"),
        (("link_mbit = 0.8", "link_mbit = 0"), r"device\[1\]\.link_mbit: .* above 0, found 0"),
        (("1000, 250]", "250]"), "traffic.sent_bytes: expected a list of 13 numbers, found 12"),
        (("[500,", "[-500,"), r"traffic\.sent_bytes\[1\]: expected .* found -500"),
        (("sent_bytes", "sent_byte"), "traffic.sent_bytes: .*did you mean"),
        (("[traffic]", "[other]"), "other"),
        (("[[device]]", "x = 1\n[[device]]"), "traffic.x: expected one of"),
    ],
)
def test_links_that_cannot_be_are_refused(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_game(market_file(tmp_path, body=SERVER + LINKED.replace(*change)))


def test_links_need_whole_layers(tmp_path: Path) -> None:
    path = market_file(tmp_path, 'layers = "continuous"\n', SERVER + LINKED)
    with pytest.raises(InputError, match="layers: expected 'integer'"):
        read_game(path)
