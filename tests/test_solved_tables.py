"""What `edgepact solve` and its help say in words: tables that cannot be misread."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer.main
from hypothesis import given
from rich.console import Console

from edgepact import cli
from edgepact.api import solve
from edgepact.files.auction import read_auction
from edgepact.files.stackelberg import read_game
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.audit import gains_over_staying_away
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.tables import figure
from tests.strategies import games
from tests.test_cli import edgepact

EXAMPLES = Path(__file__).parents[1] / "examples"


def printed(renderable: object) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("auction*.toml")), ids=lambda p: p.stem)
def test_sellers_are_paid_beyond_and_buyers_pay_below_their_bids(example: Path) -> None:
    read = read_auction(example)
    award = read.auction.award(read.bids)
    text = printed(solve(read))
    margin = read.bids - award.payments if read.auction.sells else award.payments - read.bids
    assert np.all(margin[award.wins] >= -1e-9)
    assert ("below its bid" in text) == read.auction.sells
    assert ("beyond its bid" in text) == (not read.auction.sells)


def test_the_scored_example_is_paid_as_its_comment_says() -> None:
    example = EXAMPLES / "auction-scored.toml"
    read = read_auction(example)
    score = 2.0 * np.sqrt(np.array([4.0 * 1.0, 1.0 * 4.0, 2.0 * 2.0]))
    left = score - read.bids
    best = np.sort(np.argsort(-left)[:2])
    lost = max(0.0, float(np.sort(left)[0]))
    award = read.auction.award(read.bids)
    assert np.flatnonzero(award.wins).tolist() == best.tolist()
    assert award.payments[best] == pytest.approx(score[best] - lost)
    assert "paid its s(q) less the highest s(q) - bid that lost" in example.read_text()


@given(games())
def test_at_the_best_price_no_device_would_rather_stay_away(game: Game) -> None:
    result = equilibrium(game)
    gains = gains_over_staying_away(game, result)
    assert np.all(gains >= -1e-9 * (1.0 + np.max(np.abs(result.device_utility))))
    assert np.all(np.abs(gains[result.layers == 0]) <= 1e-12)


def test_a_utility_below_zero_stands_beside_the_gain_over_staying_away(tmp_path: Path) -> None:
    path = tmp_path / "market.toml"
    path.write_text(
        'mechanism = "stackelberg"\nlayers = "continuous"\nsatisfaction = "log"\n'
        "[server]\nrevenue = 10.0\nbeta = 30.0\nlayers_max = 4\nprice_min = 0.0\nprice_max = 3.0\n"
        '[[device]]\nname = "poor"\nalpha = 1.0\ncapacity = 0.1\nA = 0.01\nB = 0.01\n'
    )
    market = read_game(path)
    result = equilibrium(market.game)
    assert result.device_utility[0] < 0.0
    text = printed(solve(market))
    gain = gains_over_staying_away(market.game, result)[0]
    assert gain > 0.0
    assert "over staying away" in text
    assert f"The least a device gains over staying away is {gain:.4f} credits." in text


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_what_rounding_left_is_nothing_at_every_size(size: float, sign: float) -> None:
    assert figure(sign * 1.77636e-15 * size, beside=8.0 * size) == "0"
    assert float(figure(sign * 1.5 * size, beside=8.0 * size)) == sign * 1.5 * size
    assert figure(0.0, beside=0.0) == "0"


def test_rents_of_nothing_are_printed_as_nothing_and_stay_as_they_are_in_json(
    tmp_path: Path,
) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(
        'mechanism = "contract"\nquality_max = 20.0\n'
        'value = { form = "log1p", scale = 10.0 }\ncost = { form = "linear" }\nbudget = 3.0\n'
        + "".join(f"[[type]]\ncost = {cost}\nprobability = 0.25\n" for cost in (1.2, 1.8, 4.1, 3.1))
    )
    exact = json.loads(edgepact("solve", path, "--json").out)["rents"]
    text = edgepact("solve", path).out
    assert not re.search(r"e-1\d", text)
    rows = [line for line in text.splitlines() if re.match(r"│ \d", line)]
    rents = [float(line.rstrip("│ ").split()[-1]) for line in rows]
    assert rents == [pytest.approx(each, rel=1e-5, abs=1e-9) for each in exact]
    assert [each > 0.0 for each in rents] == [True, True, False, False]


def test_no_help_points_down_to_what_stands_above() -> None:
    # Options follow the text in which lists stand.
    group = typer.main.get_command(cli.app)
    pending, seen = [(group, "edgepact")], 0
    while pending:
        command, name = pending.pop()
        pending += [
            (each, f"{name} {word}") for word, each in getattr(command, "commands", {}).items()
        ]
        text = command.get_help(command.make_context(name, [], resilient_parsing=True))
        assert "see below" not in text, name
        # What Click cuts of a command's line ends in dots.
        commands = text.partition("Commands:")[2].splitlines()
        assert not [line for line in commands if line.endswith("...")], name
        seen += 1
    assert seen > 12


def test_a_market_in_which_nobody_works_says_what_may_be_wrong() -> None:
    fleet = Fleet(alpha=[3.0], capacity=[0.2], A=[0.5], B=[0.0])
    game = Game(fleet, revenue=100.0, beta=10.0, price_min=0.0, price_max=1.0, layers_max=12)
    notes = solve(game).sheets[0].notes
    assert any("Nobody takes a layer" in note and "GMAC" in note for note in notes)
