"""Partitions of a picture's chain: what scenarios state, what is refused, whole runs."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.framework import Run
from edgepact.inference.models import garments
from edgepact.jobs.picture.chain import read_generator
from edgepact.live.scenario import run_scenario
from edgepact.live.serving import asked
from edgepact.market.serve_config import ServeOptions
from edgepact.market.statement import read_statement
from edgepact.pacts.partition_pictures import PICTURES, PictureResult
from edgepact.pacts.partition_stackelberg import PICTURE, PartitionTerms
from tests.pacts.bought import EXAMPLES
from tests.tiny_generator import write_tiny

EXAMPLE = EXAMPLES / "scenario-picture.toml"

SERVER = "[server]\nrevenue = 40.0\nbeta = 294.0\n"
PRIOR = "[prior]\nalpha_min = 1.0\nalpha_max = 6.0\ncapacity_min = 0.03\ncapacity_max = 0.06\n"
TOPS = {
    "stackelberg": ('mechanism = "stackelberg"\n', ""),
    "contract": ('mechanism = "contract"\n', f"{SERVER}{PRIOR}"),
    "auction": ('mechanism = "auction"\nrule = "vcg"\nlayers_total = 6\n', f"{SERVER}{PRIOR}"),
}


def scenario(folder: Path, **changed: str) -> Path:
    """The example with lines changed; `line=new`, where line is how it begins."""
    text = EXAMPLE.read_text()
    for begins, line in changed.items():
        text, count = re.subn(rf"(?m)^{begins} = .*$", line, text)
        assert count
    path = folder / "scenario.toml"
    path.write_text(text)
    return path


def drawn(folder: Path, mechanism: str, *job: str, model: Path | None = None) -> Path:
    """A scenario of any mechanism whose devices are drawn."""
    top, rest = TOPS[mechanism]
    named = "" if model is None else f'model = "{model}"\n'
    lines = "\n".join(("devices = 3", "rounds = 2", "pictures = 2", *job))
    path = folder / f"{mechanism}.toml"
    path.write_text(
        f'{top}[efficiency]\nmethod = "partition"\n{named}[solver]\n'
        f'[job]\nname = "picture"\n{lines}\n{rest}'
    )
    return path


def terms_of(path: Path, *, smoke: bool = False) -> PartitionTerms:
    terms = read_scenario(path, smoke=smoke).terms
    assert isinstance(terms, PartitionTerms)
    return terms


def test_the_example_fits_the_shipped_generator() -> None:
    terms = terms_of(EXAMPLE)
    PICTURE.expect_runnable(terms)
    assert (terms.units, terms.settings, terms.inputs_place) == (8, {"shared": 1}, None)
    flow = read_generator(garments(), {}).flow
    assert terms.market is not None
    # Its devices compute what the generator's steps take, to a tenth.
    assert pytest.approx(flow.step_gmac, rel=0.1) == terms.market.game.fleet.A
    assert pytest.approx(flow.decode_gmac, rel=0.1) == terms.market.game.fleet.B
    assert PICTURE.decide(terms, None).asked["saving"] == pytest.approx(1.0, rel=0.1)
    assert terms_of(EXAMPLE, smoke=True).units == 2


@pytest.mark.parametrize("mechanism", list(TOPS))
def test_every_mechanism_prices_the_steps_of_a_chain(tmp_path: Path, mechanism: str) -> None:
    write_tiny(tmp_path / "generator", steps=3)
    path = drawn(tmp_path, mechanism, "steps = 5", model=tmp_path / "generator")
    stated = read_scenario(path)
    assert stated.pact.name == f"partition-{mechanism}-picture"
    terms: Any = stated.terms
    generator = read_generator(tmp_path / "generator", {"steps": 5})
    costs = PICTURES.costs(terms.model_folder, terms.settings)
    assert costs.per_stage == (
        generator.flow.decode_gmac,
        *[generator.flow.step_gmac] * 5,
        0.0,
    )
    best = stated.pact.optimum(terms, None)
    assert best.broken == ()
    words = " ".join(
        [cell for sheet in best.sheets for cell in (sheet.title, *sheet.head, *sheet.notes)]
    )
    assert "steps" in words
    assert "layer" not in words


def test_a_fleet_is_drawn_in_the_units_of_the_generator(tmp_path: Path) -> None:
    path = drawn(tmp_path, "stackelberg", "steps = 6")
    best = PICTURE.optimum(terms_of(path), None)
    assert len(best.market.names) == 3
    assert best.market.game.layers_max == 6
    assert pytest.approx(read_generator(garments(), {}).flow.step_gmac) == best.market.game.fleet.A


def test_it_serves_by_itself_as_it_is_stated(tmp_path: Path) -> None:
    options, _ = asked(ServeOptions(scenario=EXAMPLE))
    assert (options.job, options.job_settings) == ("picture", {"shared": 1})
    with pytest.raises(InputError, match="serve: job_settings: expected none beside a scenario"):
        asked(ServeOptions(scenario=EXAMPLE, job_settings={"steps": 4}))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"shared": "steps = 4"}, "server.layers_max"),
        ({"shared": "steps = 0"}, "job.steps"),
        ({"shared": "shared = true"}, "job.shared"),
        ({"shared": "guidance = -1.0"}, "job.guidance"),
        ({"shared": 'prompts_from = "none.txt"'}, "job.prompts_from"),
        ({"layers": 'layers = "continuous"'}, "layers"),
        ({"layers_max": "layers_max = 12"}, "server.layers_max"),
        ({"pictures": "pictures = 0"}, "job.pictures"),
        ({"pictures": "picturez = 1"}, "job.picturez"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changed: dict[str, str], field: str) -> None:
    path = scenario(tmp_path, **changed)
    with pytest.raises(InputError) as refused:
        PICTURE.expect_runnable(terms_of(path))
    assert (refused.value.source, refused.value.field) == (str(path), field)


def test_prompts_are_everybodys_and_read_before_anything_is_started(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    with PICTURES.shared_out(prompts, ["a", "b"], per_round=1, rounds=3, seed=0) as shares:
        assert dict(shares.folders) == {"a": prompts, "b": prompts}
        assert shares.repeat_rounds == 0
    prompts.write_text("# nothing else\n")
    path = scenario(tmp_path, shared='prompts_from = "prompts.txt"')
    with pytest.raises(InputError, match=r"prompts.txt.*: expected 1 to 100000 prompts"):
        PICTURE.measure(terms_of(path), Run(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_pictures_that_were_not_finished_are_passed_over() -> None:
    assert PictureResult.from_line(json.dumps({"round": 1, "piece": "1-0"})) is None


@pytest.mark.slow
def test_the_best_price_of_the_example_leaves_work_to_the_server() -> None:
    best = PICTURE.optimum(terms_of(EXAMPLE), None)
    assert not best.broken
    assert 0 < best.outcome.layers.sum() < 3 * 8


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", list(TOPS))
def test_pictures_are_drawn_paid_audited_and_told(tmp_path: Path, mechanism: str) -> None:
    (tmp_path / "prompts.txt").write_text("a photo of a bag\nmy coat\na <b>dress</b>\n")
    write_tiny(tmp_path / "generator", steps=8)
    path = drawn(
        tmp_path,
        mechanism,
        'prompts_from = "prompts.txt"',
        "steps = 5",
        "audit_probability = 1.0",
        model=tmp_path / "generator",
    )
    out = tmp_path / "out"
    ran = run_scenario(read_scenario(path), Run(out=out))
    told = "\n".join(
        "\n".join((sheet.title, *sheet.head, *sheet.notes, *(c for row in sheet.rows for c in row)))
        for sheet in ran.sheets
    )
    assert "NO" not in told.split()
    assert "layer" not in told
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["pictures"] == 2 * 2 * 3
    assert metrics["books_balance"]
    assert metrics["paid_as_earned"]
    statement = read_statement(f"sqlite:///{out / 'ledger.db'}")
    assert statement.jobs.get("forfeit", 0) == 0
    assert sum(payment.units for payment in statement.payments) == metrics["pictures"]
    for name in ("camera", "phone", "drone"):
        lines = (out / f"{name}.jsonl").read_text().splitlines()
        last = {each.piece: each for each in map(PictureResult.from_line, lines) if each}
        for each in last.values():
            assert each.audited == (each.amount > 0)
            assert each.amount <= 5
            with Image.open(io.BytesIO(base64.b64decode(each.picture))) as image:
                assert image.size == (28, 28)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == metrics["pictures"]
    assert "<b>dress" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_the_shipped_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in garments().iterdir()) < 4_000_000
