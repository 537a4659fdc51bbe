"""What `import edgepact` offers, and that it loads nothing until it is used."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgepact
from edgepact.files import scenario
from edgepact.framework import Document, Run, Sheet, Solution, Told
from edgepact.registry import KINDS, installed, parts
from edgepact.solvers.by_name import quoter, quoters, solvers_of
from tests.test_cli import assert_refused
from tests.test_cli import edgepact as command

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SURFACE = {
    *(
        "quote",
        "run",
        "solve",
        "study",
        "load_study",
        "train",
        "installed",
        "part",
        "parts",
        "learn",
    ),
    *("Contract", "Fleet", "Game", "Payoff", "Problem", "RunConfig", "TrainConfig"),
    *("Diffusion", "PPO", "Random"),
    *("EdgepactError", "InputError", "InputWarning", "MarketError", "MissingExtraError"),
    "__version__",
}
SOLVED = ("five-cameras", "contract", "two-costs", "auction", "auction-reserve")


def test_the_public_surface() -> None:
    assert set(edgepact.__all__) == SURFACE
    assert set(dir(edgepact)) >= SURFACE
    for name in SURFACE:
        assert getattr(edgepact, name) is not None
    name = "partition-stackelberg-classification"
    assert edgepact.part("pacts", name) is edgepact.parts("pacts")[name]
    assert edgepact.pacts.__name__ == "edgepact.pacts"
    with pytest.raises(AttributeError, match="bribe"):
        edgepact.bribe  # type: ignore[attr-defined]  # noqa: B018


def test_the_types_name_the_same() -> None:
    stub = Path(edgepact.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    for name in SURFACE:
        assert f" as {name}\n" in stub or f"\n{name} = " in stub or f"\n{name}: " in stub, name


def test_importing_it_loads_nothing_heavy() -> None:
    script = """
import sys
import edgepact
dir(edgepact), edgepact.InputError, edgepact.installed("solvers")
heavy = {"jax", "equinox", "numpy", "scipy", "onnx", "onnxruntime", "pyarrow", "sqlalchemy",
         "matplotlib", "starlette", "httpx", "rich", "typer"}
assert not heavy & set(sys.modules), sorted(heavy & set(sys.modules))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")


@functools.cache
def solved(name: str) -> Solution:
    """The solution of an example: it cannot be changed, and its audit takes seconds."""
    return edgepact.solve(EXAMPLES / f"{name}.toml")


@pytest.mark.parametrize("name", SOLVED)
def test_solve_gives_what_the_command_prints(name: str) -> None:
    path = EXAMPLES / f"{name}.toml"
    solution = solved(name)
    assert isinstance(solution, Solution)
    assert solution.broken == ()
    printed = command("solve", path, "--json")
    assert printed.status == 0
    assert json.loads(printed.out) == json.loads(json.dumps(solution.to_dict()))
    shown = command("solve", path).out
    for sheet in solution.sheets:
        assert sheet.title[:60] in shown


@pytest.mark.parametrize("name", SOLVED)
def test_results_show_themselves_in_notebooks(name: str) -> None:
    solution = solved(name)
    page = solution._repr_html_()
    for sheet in solution.sheets:
        assert sheet.title.replace("'", "&#x27;") in page
    assert page.count("<table>") == len(solution.sheets)


def numbers_of(value: object) -> list[float]:
    if isinstance(value, dict):
        return [each for inner in value.values() for each in numbers_of(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in numbers_of(inner)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("name", ["five-cameras", "contract", "auction"])
def test_every_figure_of_a_table_is_in_the_json(name: str) -> None:
    solution = solved(name)
    told = np.array(numbers_of(solution.to_dict()))
    # A row of sums and a column of differences follow from what is told.
    derived = {"all", "over doing it alone", "beyond its bid", "type"}
    for sheet in solution.sheets:
        for row in sheet.rows:
            for title, cell in zip(sheet.head, row, strict=True):
                word = cell.removeprefix("at least ").removesuffix(" credits")
                if {title, row[0]} & derived or not word.replace(".", "").isdigit():
                    continue
                places = len(word.partition(".")[2])
                assert np.any(np.abs(told - float(word)) <= 0.5001 * 10.0**-places), (title, cell)


def test_terms_in_hand_are_solved_as_their_file_is() -> None:
    fleet = edgepact.Fleet(
        alpha=np.array([3.0]), capacity=np.array([4.2]), A=np.array([0.3577]), B=np.array([0.1156])
    )
    game = edgepact.Game(
        fleet, revenue=100.0, beta=10.0, price_min=0.0, price_max=3.577, layers_max=12
    )
    solution = edgepact.solve(game)
    assert solution.names == ("device-1",)
    assert solution.layers.tolist() == [11.0]
    assert edgepact.solve(solution_terms(game), mechanism="stackelberg").price == solution.price
    with pytest.raises(edgepact.InputError, match="terms"):
        edgepact.solve(3.0)
    with pytest.raises(edgepact.InputError, match="bribery"):
        edgepact.solve(game, mechanism="bribery")


def solution_terms(game: "edgepact.Game") -> object:
    from edgepact.files.stackelberg import GameFile

    return GameFile(source=Path("market.toml"), game=game, names=["device-1"])


def test_a_broken_promise_ends_with_status_1(tmp_path: Path) -> None:
    # A lowest price above what a layer saves makes the server lose by buying.
    path = tmp_path / "market.toml"
    path.write_text(
        'mechanism = "stackelberg"\n[server]\nrevenue = 1.0\nbeta = 1.0\nlayers_max = 2\n'
        "price_min = 3.0\nprice_max = 4.0\n[[device]]\nalpha = 0.1\ncapacity = 9.0\nA = 1.0\n"
        "B = 0.0\n"
    )
    assert edgepact.solve(path).broken
    answer = command("solve", path, "--json")
    assert answer.status == 1
    assert json.loads(answer.out)["audit"]["budget_balanced"] is False
    (line,) = answer.err.splitlines()
    assert "promises: " in line


def test_quotes_say_themselves() -> None:
    quotes = edgepact.quote(EXAMPLES / "five-cameras.toml", rounds=2)
    assert isinstance(quotes, Told)
    told = quotes.to_dict()
    assert [len(each["layers"]) for each in told["rounds"]] == [5, 5]
    assert told["rounds"][-1]["share"] == quotes.shares[-1]
    assert len(quotes.sheets[0].rows) == 3
    with pytest.raises(edgepact.InputError, match="rounds"):
        edgepact.quote(EXAMPLES / "five-cameras.toml", rounds=0)


def test_a_menu_is_quoted_from_past_take_up() -> None:
    answer = command("quote", EXAMPLES / "past-menus.toml", "--json")
    assert (answer.status, answer.err) == (0, "")
    told = json.loads(answer.out)
    assert len(told["menu"]) == len(told["taken"])
    assert told["profit"] > 0.0
    assert "expected to take it" in command("quote", EXAMPLES / "past-menus.toml").out
    answer = command("quote", EXAMPLES / "past-menus.toml", "--rounds", "2")
    assert answer.status == 2
    assert "past rounds stand in the file" in answer.err


class TestList:
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_kind_as_objects(self, kind: str) -> None:
        answer = command("list", kind, "--json")
        assert (answer.status, answer.err) == (0, "")
        told = json.loads(answer.out)
        known = list(installed(kind))
        if kind == "jobs":  # what a pact names as its job is found in the list
            known = sorted({*known, *(pact.job for pact in parts("pacts").values())})
        assert [each["name"] for each in told] == known
        keys = ["name", "method", "mechanism", "job", "package"]
        for each in told:
            assert list(each) == (keys if kind == "pacts" else ["name", "package", "about"])
            assert all(each.values())

    def test_all_kinds(self) -> None:
        assert list(json.loads(command("list", "--json").out)) == list(KINDS)
        shown = command("list").out
        for kind in KINDS:
            for name in installed(kind):
                assert f" {name} " in shown

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pacts"])
    def test_each_part_says_in_one_sentence_what_it_does(self, kind: str) -> None:
        for each in json.loads(command("list", kind, "--json").out):
            assert re.fullmatch(r"[A-Z][^.`]+ [^.`]+\.", each["about"]), each

    def test_a_kind_that_is_none(self) -> None:
        assert_refused(command("list", "bribes"), "KIND", "pacts", "bribes")


def test_version() -> None:
    assert command("--version").out == f"{edgepact.__version__}\n"


class TestSolvers:
    def test_who_decides_for_what(self) -> None:
        assert quoters()[0] == "gdm"
        assert set(quoters()) == {
            *("gdm", "golden-section", "grid", "cma-es", "gaussian-process", "random")
        }
        assert solvers_of("contract") == ("gdm", "optimum")
        assert solvers_of("auction") == ("exact",)
        assert solvers_of("stackelberg", sees_costs=True) == ("optimum",)

    @pytest.mark.parametrize("name", sorted(installed("solvers")))
    def test_each_makes_what_it_says(self, name: str) -> None:
        solver = installed("solvers")[name].load()
        for mechanism in solver.decides:
            made = solver.make(mechanism)
            assert (
                hasattr(made, "quote")
                if name in quoters() and mechanism == "stackelberg"
                else (callable(made))
            )
        with pytest.raises(edgepact.InputError, match="bribery"):
            solver.make("bribery")

    def test_a_yardstick_posts_no_prices(self) -> None:
        with pytest.raises(edgepact.InputError, match="optimum"):
            quoter("optimum")


class Pairing:
    """A pact of nobody's, for a file without the mechanism's own terms."""

    name, method, mechanism, job = "selection-auction-training", "selection", "auction", "training"
    compress, solvers = None, ("exact",)

    def read(self, source: Path, document: Document, *, smoke: bool) -> float:
        return float(document["budget"])

    def measure(self, terms: float, run: Run) -> Told:
        raise NotImplementedError

    def decide(self, terms: float, measured: object) -> Told:
        raise NotImplementedError

    def engage(self, terms: float, measured: object, decision: object, run: Run) -> Told:
        raise NotImplementedError

    def optimum(self, terms: float, measured: object) -> "Answer":
        assert measured is None
        return Answer(terms)


class Answer:
    broken: tuple[str, ...] = ()

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.sheets = (Sheet(title="Answer", head=("budget",), rows=((f"{budget:g}",),)),)

    def to_dict(self) -> dict[str, float]:
        return {"budget": self.budget}


def test_a_scenario_without_terms_is_solved_by_its_pact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "parts", lambda kind: {Pairing.name: Pairing()})
    path = EXAMPLES / "scenario-selection.toml"
    assert edgepact.solve(path).to_dict()["budget"] > 0.0
    assert "Answer" in command("solve", path).out
