"""Pictures for a price per step: what a scenario states, what is refused, a whole run."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.framework import Run
from edgepact.inference.models import garments
from edgepact.live.serving import asked
from edgepact.market.serve_config import ServeOptions
from edgepact.pacts.partition_stackelberg_picture import PACT, PictureTerms
from tests.pacts.bought import EXAMPLES
from tests.tiny_generator import write_tiny

EXAMPLE = EXAMPLES / "scenario-picture.toml"


def scenario(folder: Path, **changed: str) -> Path:
    """The example with lines changed; `line=new`, where line is how it begins."""
    text = EXAMPLE.read_text()
    for begins, line in changed.items():
        text, count = re.subn(rf"(?m)^{begins} = .*$", line, text)
        assert count
    path = folder / "scenario.toml"
    path.write_text(text)
    return path


def terms_of(path: Path, *, smoke: bool = False) -> PictureTerms:
    terms = read_scenario(path, smoke=smoke).terms
    assert isinstance(terms, PictureTerms)
    return terms


def test_the_example_fits_the_shipped_generator(tmp_path: Path) -> None:
    terms = terms_of(EXAMPLE)
    PACT.expect_runnable(terms)
    measured = PACT.measure(terms, Run(out=tmp_path / "out"))
    flow = measured.generator.flow
    assert terms.market is not None
    assert measured.market is terms.market
    # Its devices compute what the generator's steps take, to a tenth.
    assert pytest.approx(flow.step_gmac, rel=0.1) == terms.market.game.fleet.A
    assert pytest.approx(flow.decode_gmac, rel=0.1) == terms.market.game.fleet.B
    assert PACT.decide(terms, measured).asked["saving"] == pytest.approx(1.0, rel=0.1)


def test_a_fleet_is_drawn_in_the_units_of_the_generator(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    head = text[text.index("[efficiency]") : text.index("[server]")]
    path = tmp_path / "drawn.toml"
    path.write_text('mechanism = "stackelberg"\n' + head.replace("rounds", "devices = 4\nrounds"))
    measured = PACT.measure(terms_of(path), Run(out=tmp_path / "out"))
    assert len(measured.market.names) == 4
    assert measured.market.game.layers_max == 8
    assert pytest.approx(measured.generator.flow.step_gmac) == measured.market.game.fleet.A


def test_it_serves_by_itself_too() -> None:
    options, _ = asked(ServeOptions(scenario=EXAMPLE))
    assert options.job == "picture"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"shared": "steps = 4"}, "server.layers_max"),
        ({"shared": "steps = 0"}, "job.steps"),
        ({"shared": "shared = true"}, "job.shared"),
        ({"shared": 'prompts_from = "none.txt"'}, "job.prompts_from"),
        ({"layers": 'layers = "continuous"'}, "layers"),
        ({"layers_max": "layers_max = 12"}, "server.layers_max"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changed: dict[str, str], field: str) -> None:
    path = scenario(tmp_path, **changed)
    with pytest.raises(InputError) as refused:
        PACT.expect_runnable(terms_of(path))
    assert (refused.value.source, refused.value.field) == (str(path), field)


@pytest.mark.parametrize("line", ["pictures = 0", "pictures = 8\npicturez = 1"])
def test_impossible_lines_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"job\.picture"):
        read_scenario(scenario(tmp_path, pictures=line))


@pytest.mark.slow
def test_the_best_price_of_the_example_leaves_work_to_the_server() -> None:
    best = PACT.optimum(terms_of(EXAMPLE), None)
    assert not best.broken
    assert 0 < best.outcome.layers.sum() < 3 * 8


@pytest.mark.slow
def test_a_market_draws_pictures_and_shows_them(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a photo of a bag\nmy coat\na <b>dress</b>\n")
    write_tiny(tmp_path / "generator", steps=8)
    path = scenario(
        tmp_path,
        method='method = "partition"\nmodel = "generator"',
        shared='prompts_from = "prompts.txt"\naudit_probability = 1.0',
    )
    terms, run = terms_of(path, smoke=True), Run(out=tmp_path / "out")
    measured = PACT.measure(terms, run)
    run.out.mkdir()
    drawn = PACT.engage(terms, measured, PACT.decide(terms, measured), run)
    told = drawn.to_dict()
    assert told["pictures"] == 2 * 2 * 3
    assert told["books_balance"]
    assert told["paid_as_earned"]
    assert not drawn.lost
    for each in drawn.pictures:
        assert each.audited == (each.steps > 0)
        assert each.state == "paid"
        with Image.open(io.BytesIO(base64.b64decode(each.png))) as image:
            assert image.size == (28, 28)
    page = (run.out / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(drawn.pictures)
    assert "<b>dress" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert json.dumps(told)


def test_the_shipped_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in garments().iterdir()) < 4_000_000
