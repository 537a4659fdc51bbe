"""What is called from Python is refused in words, whatever is passed for any one argument."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from inspect import signature
from pathlib import Path
from typing import Any

import jax
import jaxtyping
import numpy as np
import pytest

import edgepact
from edgepact import api, studies
from edgepact.live import run as live_run
from edgepact.live import scenario as live_scenario
from edgepact.mechanisms.contract.lottery import WideContract
from edgepact.mechanisms.contract.quality import Log1p
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.solvers.learners import training
from edgepact.studies.asked import Asked
from edgepact.training.federated import run as federated
from edgepact.training.federated.task_config import TaskConfig

WRONG = (None, "text", "", -1, 2.5, True, 10**12, float("nan"), [], {}, object(), np.array([1.0]))
"""Passed for each argument; some of it is right for some of them."""

COLUMNS = {"alpha": [3.0], "capacity": [4.2], "A": [0.3577], "B": [0.1156]}


def a_fleet() -> edgepact.Fleet:
    return edgepact.Fleet(**COLUMNS)


def terms() -> dict[str, Any]:
    numbers = {"revenue": 100.0, "beta": 10.0, "price_min": 0.1, "price_max": 3.577}
    rules = {"integer": True, "outside_option": False, "layers_max": 12}
    return {"fleet": a_fleet(), **numbers, **rules, "satisfaction": a_family()}


def a_family() -> object:
    from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES

    return FAMILIES["log"]


def a_study() -> Path:
    """Results that a study may have left in the working folder."""
    facts = {"provenance": {"study": "speed", "config": {}}}
    Path("metrics.json").write_text(json.dumps(facts))
    return Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A public name with a call of it that is right.

    Attributes:
        call: what is called.
        right: arguments that are.
        optional: further arguments, by name, that have defaults.
    """

    call: Callable[..., Any]
    right: dict[str, Any]
    optional: tuple[str, ...] = field(default=())


def fields_of(cls: Any, *but: str) -> tuple[str, ...]:
    return tuple(each.name for each in fields(cls) if each.name not in but)


ENTRIES: dict[str, Callable[[], Entry]] = {
    "quote": lambda: Entry(
        call=edgepact.quote, right={"market": edgepact.Game(**terms())}, optional=("rounds", "seed")
    ),
    "run": lambda: Entry(
        call=edgepact.run,
        right={"what": "scenario.toml"},
        optional=("out", "smoke", "on_live"),
    ),
    "solve": lambda: Entry(
        call=edgepact.solve, right={"terms": edgepact.Game(**terms())}, optional=("mechanism",)
    ),
    "study": lambda: Entry(
        call=edgepact.study,
        right={"name": "fig4"},
        optional=tuple(signature(edgepact.study).parameters)[1:],
    ),
    "load_study": lambda: Entry(call=edgepact.load_study, right={"folder": a_study()}),
    "train": lambda: Entry(
        call=edgepact.train, right={"settings": edgepact.TrainConfig()}, optional=("on_progress",)
    ),
    "installed": lambda: Entry(call=edgepact.installed, right={"kind": "jobs"}),
    "part": lambda: Entry(call=edgepact.part, right={"kind": "solvers", "name": "gdm"}),
    "parts": lambda: Entry(call=edgepact.parts, right={"kind": "codecs"}),
    "Contract": lambda: Entry(
        call=edgepact.Contract,
        right={"psi": [1.0, 2.0], "probability": [0.5, 0.5], "value": Log1p(scale=3.0)},
        optional=fields_of(edgepact.Contract, "psi", "probability", "value"),
    ),
    "WideContract": lambda: Entry(
        call=WideContract,
        right={
            "psi": [[1.0, 0.5], [2.0, 0.0]],
            "costs": ("linear", "quadratic"),
            "probability": [0.5, 0.5],
            "value": Log1p(scale=3.0),
        },
        optional=fields_of(WideContract, "psi", "costs", "probability", "value"),
    ),
    "Fleet": lambda: Entry(call=edgepact.Fleet, right=dict(COLUMNS)),
    "Game": lambda: Entry(call=edgepact.Game, right=terms()),
    "RunConfig": lambda: Entry(
        call=edgepact.RunConfig, right={}, optional=fields_of(edgepact.RunConfig)
    ),
    "TrainConfig": lambda: Entry(
        call=edgepact.TrainConfig, right={}, optional=fields_of(edgepact.TrainConfig)
    ),
    "TaskConfig": lambda: Entry(call=TaskConfig, right={}, optional=fields_of(TaskConfig)),
    "Diffusion": lambda: Entry(
        call=edgepact.Diffusion, right={}, optional=fields_of(edgepact.Diffusion)
    ),
    "PPO": lambda: Entry(call=edgepact.PPO, right={}, optional=fields_of(edgepact.PPO)),
    "Random": lambda: Entry(call=edgepact.Random, right={}, optional=("rounds",)),
    "learn": lambda: Entry(
        call=edgepact.learn,
        right={
            "solver": edgepact.Random(),
            "problem": RepeatedPricing(a_fleet()),
            "key": jax.random.key(0),
            "seeds": 1,
            "epochs": 1,
        },
        optional=("lanes", "chunk", "on_epochs"),
    ),
}
"""All that can be called, by name."""

WITHOUT_CHECKS = {
    # A mechanism of another's fills in or makes these, inside of compiled functions too; `check`
    # holds what comes of them against the seam.
    *("Payoff", "Problem"),
    *("EdgepactError", "InputError", "InputWarning", "MarketError", "MissingExtraError"),
    "__version__",
}


def test_each_public_name_is_tried() -> None:
    assert set(edgepact.__all__) == {*ENTRIES, *WITHOUT_CHECKS} - {"TaskConfig", "WideContract"}


@pytest.fixture
def untyped() -> Iterator[None]:
    """Without the type checks of the tests, which would come before the package's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is worked on: it is about what is refused before."""

    def nothing(*args: Any, **kwargs: Any) -> Any:
        return Path("nothing")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live_run, "run_market", nothing)
    monkeypatch.setattr(federated, "train", nothing)
    monkeypatch.setattr("edgepact.solvers.in_context.rehearsal.quoted", nothing)
    monkeypatch.setattr(training, "check", stop)
    for name in studies.STUDIES:
        monkeypatch.setitem(studies.STUDIES, name, Idle())


class Idle(studies.Study):
    """A study that does nothing but keep its folders."""

    def __init__(self, seen: list[Path] | None = None) -> None:
        super().__init__(module="fig4", spreads=True)
        object.__setattr__(self, "seen", [] if seen is None else seen)

    def __call__(self, folder: Path, asked: Asked) -> None:
        self.seen.append(folder)  # type: ignore[attr-defined]

    def check(self, name: str, asked: Asked) -> None:
        pass

    def train(self, folder: Path, smoke: bool) -> None:
        pass


class Stopped(Exception):
    """Everything that was passed was taken."""


def stop(problem: object) -> None:
    raise Stopped


def refusal(entry: Entry, **changes: Any) -> edgepact.InputError | None:
    """What is said against arguments, if anything."""
    try:
        entry.call(**(entry.right | changes))
    except edgepact.InputError as error:
        return error
    except Stopped:
        pass
    return None


# Equinox warns of an array before anybody can refuse it.
@pytest.mark.filterwarnings("ignore:A JAX array is being set as static")
@pytest.mark.usefixtures("untyped", "idle")
@pytest.mark.parametrize("name", ENTRIES)
def test_one_wrong_argument_works_or_is_refused_in_words(name: str) -> None:
    entry = ENTRIES[name]()
    for argument in (*entry.right, *entry.optional):
        said = [refusal(entry, **{argument: wrong}) for wrong in WRONG]
        refused = [error for error in said if error is not None]
        assert len(refused) >= 3, f"{argument}: what takes whatever comes is checked by nobody"
        for error in refused:
            assert error.expected
            assert " at 0x" not in str(error)
            assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.usefixtures("untyped", "idle")
def test_what_is_right_is_taken(name: str) -> None:
    said = refusal(ENTRIES[name]())
    assert said is None or (name == "run" and said.found == "none there")


@pytest.mark.usefixtures("untyped")
class TestEnvironment:
    @pytest.mark.parametrize("argument", ["devices", "window", "rounds", "integer"])
    def test_of_nonsense(self, argument: str) -> None:
        gym = pytest.importorskip("edgepact.gym", reason="the extra `gym` is not installed")
        for wrong in (0, -1, 2.5, 10**12, "text", [], object()):
            with pytest.raises(edgepact.InputError, match=f"RepeatedPricing: {argument}: "):
                gym.stackelberg(**{argument: wrong})

    def test_that_would_see_too_much_at_once(self) -> None:
        gym = pytest.importorskip("edgepact.gym", reason="the extra `gym` is not installed")
        with pytest.raises(edgepact.InputError, match="devices, window: expected at most 10000000"):
            gym.stackelberg(devices=1_000_000, window=11)

    @pytest.mark.parametrize("wrong", WRONG[:4])
    def test_of_no_problem(self, wrong: object) -> None:
        gym = pytest.importorskip("edgepact.gym", reason="the extra `gym` is not installed")
        with pytest.raises(edgepact.InputError, match="environment: problem: expected a Problem"):
            gym.ProblemEnv(wrong)


class TestGame:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"price_min": 4.0}, "price_max: .* beside price_min = 4.0"),
            ({"price_max": np.float32(0.01)}, "price_max: .* beside price_min = 0.1"),
            ({"layers_max": 0}, "layers_max: .* from 1 to 1000, found 0"),
            ({"layers_max": True}, "layers_max: .* found true"),
            ({"beta": -1}, "beta: .* at least 0, found -1"),
            ({"revenue": float("inf")}, "revenue: .* found inf"),
            ({"satisfaction": "log1p"}, 'satisfaction: .* found "log1p"'),
        ],
    )
    @pytest.mark.usefixtures("untyped")
    def test_is_refused(self, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(edgepact.InputError, match=f"game: {said}"):
            edgepact.Game(**(terms() | changes))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"alpha": [-1.0]}, r"device\[1\].alpha: .* above 0, found -1"),
            ({"B": ["1"]}, r"device\[1\].B: .* a finite number, found \"1\""),
            ({"B": [np.nan]}, r"device\[1\].B: .* found nan"),
            ({"A": [1, 2]}, "A: expected 1 numbers, as many as of alpha, found 2"),
            ({name: [] for name in COLUMNS}, "alpha: expected one or more .* an empty list"),
            ({"A": [[1.0]]}, r"A: .* an array of shape \(1, 1\)"),
        ],
    )
    @pytest.mark.usefixtures("untyped")
    def test_of_no_such_fleet(self, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(edgepact.InputError, match=f"fleet: {said}"):
            edgepact.Fleet(**(COLUMNS | changes))

    def test_of_lists_and_of_scalars_of_numpy(self) -> None:
        lists = edgepact.Fleet(alpha=[3, 4], capacity=(4, 4), A=np.array([1, 1]), B=[0, 0.5])
        for name in COLUMNS:
            assert getattr(lists, name).dtype == np.float64
        game = edgepact.Game(**(terms() | {"beta": np.float64(2.0), "price_max": np.array(3.0)}))
        assert edgepact.solve(game).broken == ()

    def test_inside_of_a_compiled_function(self) -> None:
        def made(alpha: jax.Array, price: jax.Array) -> jax.Array:
            fleet = edgepact.Fleet(alpha=alpha, capacity=alpha, A=alpha, B=alpha)
            return edgepact.Game(**(terms() | {"fleet": fleet, "price_max": price})).saving

        shape = jax.ShapeDtypeStruct((3,), np.float32), jax.ShapeDtypeStruct((), np.float32)
        assert jax.eval_shape(made, *shape).shape == (3,)


@pytest.mark.usefixtures("untyped")
class TestSettings:
    @pytest.mark.parametrize(
        "changes", [{"devices": 0}, {"rounds": -1}, {"images": 1001}, {"seed": 2**31}, {"smoke": 1}]
    )
    def test_of_a_run_out_of_range(self, changes: dict[str, Any]) -> None:
        (name,) = changes
        with pytest.raises(edgepact.InputError, match=f"run: {name}: "):
            edgepact.RunConfig(**changes)

    def test_paths_as_text(self) -> None:
        run, training = edgepact.RunConfig(out="here"), edgepact.TrainConfig(out="there")  # type: ignore[arg-type]
        assert (run.out, training.out) == (Path("here"), Path("there"))


@pytest.mark.usefixtures("untyped", "idle")
def test_folders_as_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Path] = []
    monkeypatch.setitem(studies.STUDIES, "fig4", Idle(seen))
    monkeypatch.setattr("edgepact.files.scenario.read_scenario", lambda file, *, smoke: file)

    class Ran:
        page, broken = tmp_path / "page.md", ()

    def run_scenario(scenario: object, run: Any) -> type[Ran]:
        seen.append(run.out)
        return Ran

    monkeypatch.setattr(live_scenario, "run_scenario", run_scenario)
    api.study("fig4", out=str(tmp_path))
    api.run("scenario.toml", out=str(tmp_path))
    assert seen == [tmp_path, tmp_path]
