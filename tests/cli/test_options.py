"""A command has an option for each field of its settings object, and refuses what it refuses."""

import contextlib
import math
from dataclasses import MISSING
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from edgepact.cli import app
from edgepact.cli.run import BESIDE_SCENARIO
from edgepact.errors import InputError
from edgepact.live.run_config import RunConfig
from edgepact.market.device import DeviceSummary
from edgepact.market.device_config import DeviceConfig
from edgepact.market.serve_config import ServeConfig, ServeOptions
from edgepact.settings import arguments, environment, from_table, settings_of
from edgepact.training.federated.options import TrainOptions, TrainSettings
from edgepact.training.federated.task_config import TaskConfig

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

CLASSES: dict[str, type] = {
    "serve": ServeOptions,
    "device": DeviceConfig,
    "run": RunConfig,
    "train": TrainOptions,
}

FIELDS = [
    pytest.param(command, each, id=f"{command}-{each.name}")
    for command, cls in CLASSES.items()
    for each in settings_of(cls)
    if each.flag
]

NEEDED = {
    "serve": {"price": 1.0},
    "device": {
        "server_url": "http://127.0.0.1:9",
        "alpha": 1.0,
        "capacity": 1.0,
        "A": 1.0,
        "B": 0.0,
    },
    "run": {},
    "train": {},
}


def made(
    monkeypatch: pytest.MonkeyPatch, command: str, *said: str, environ: dict[str, str] | None = None
) -> Any:
    """The settings object that a command is called with; nothing is done with it."""
    calls: list[Any] = []
    for name, value in (environ or {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("edgepact.live.serving.serve_market", calls.append)
    monkeypatch.setattr("edgepact.market.device.run_device", _noted(calls))
    monkeypatch.setattr("edgepact.api.run", _ran(calls))
    monkeypatch.setattr("edgepact.training.federated.config.config_of", _train(calls))
    with contextlib.suppress(_Noted):
        COMMANDS[command].main(list(said), standalone_mode=False)
    (called,) = calls
    return called


def _ran(calls: list[Any]) -> Any:
    def run(what: Any, **beside: Any) -> Any:
        calls.append(what)
        return SimpleNamespace(page=Path("report.html"), broken=())

    return run


class _Noted(Exception):
    """The end of a command whose work is not wanted."""


def _train(calls: list[Any]) -> Any:
    def config_of(options: TrainOptions) -> Any:
        calls.append(options)
        raise _Noted

    return config_of


def _noted(calls: list[Any]) -> Any:
    def run(config: DeviceConfig) -> Any:
        calls.append(config)
        return DeviceSummary(
            rounds=0,
            units=0,
            paid_microcredits=0,
            pending_microcredits=0,
            bytes_sent=0,
            bytes_received=0,
        )

    return run


@pytest.mark.parametrize(("command", "field"), FIELDS)
def test_every_field_is_an_option_in_its_words(command: str, field: Any) -> None:
    options = {flag: each for each in COMMANDS[command].params for flag in each.opts}
    option = options[field.flag]
    assert field.about in option.help
    assert option.required is (field.default is MISSING)
    if not option.required and field.default is not None:
        many = isinstance(field.default, tuple)
        found = tuple(option.default) if many else option.default
        assert str(found) == str(field.default)


@pytest.mark.parametrize("command", CLASSES)
def test_what_is_not_said_is_the_default(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = CLASSES[command]
    needed = cls(**NEEDED[command])
    required = [part for pair in _flags(cls, NEEDED[command]).items() for part in pair]
    assert made(monkeypatch, command, *required) == needed


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        (
            "serve",
            ServeOptions(
                model=Path("m"),
                rounds=3,
                devices_min=2,
                gather_timeout_s=0.1,
                enrol_tokens=("a", "b"),
                saving=0.3,
                price_min=1e-9,
                solver="grid",
                job_settings={"texts": ["x y"]},
                tokens=Path("t"),
                new_tokens=4,
            ),
        ),
        (
            "device",
            DeviceConfig(
                server_url="http://127.0.0.1:9",
                alpha=0.1,
                capacity=0.2,
                A=1e-7,
                B=0.0,
                name="cam-1",
                satisfaction="exp",
                codec="int8",
                enrol_token="secret",
                layers_max=0,
                job_settings={"k": 1},
            ),
        ),
        (
            "train",
            TrainOptions(
                dirichlet=math.inf, deadline_s=9.5, smoke=True, contract=Path("c"), priced="epochs"
            ),
        ),
        ("run", RunConfig(rounds=3, samples=Path("s"), solver="optimum", smoke=True, seed=9)),
    ],
)
def test_a_process_is_told_all(
    command: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = made(monkeypatch, command, *arguments(settings), environ=environment(settings))
    assert told == settings


BAD = [
    ("serve", "port", 70_000),
    ("serve", "price", -1.0),
    ("serve", "price", float("nan")),
    ("serve", "saving", 0.0),
    ("serve", "units_per_round", 0),
    ("serve", "audit_probability", 1.5),
    ("serve", "new_tokens", 10_001),
    ("device", "satisfaction", "linear"),
    ("device", "codec", "zip"),
    ("device", "alpha", 0.0),
    ("device", "B", float("inf")),
    ("device", "server_url", "nowhere"),
    ("run", "devices", 0),
    ("run", "devices", 65),
    ("run", "images", 0),
    ("run", "rounds", 1001),
    ("run", "seed", -1),
    ("run", "solver", "newton"),
    ("train", "clients", 0),
    ("train", "dirichlet", 0.0),
    ("train", "mechanism", "barter"),
    ("train", "deadline_s", -1.0),
    ("train", "layers", 49),
    ("train", "aggregate", "mean"),
    ("train", "rate", 1.5),
    ("train", "per_round", 0),
]


@pytest.mark.parametrize(("command", "field", "value"), BAD)
def test_a_command_a_file_and_python_refuse_the_same(
    command: str, field: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = CLASSES[command]
    values = NEEDED[command] | {field: value}
    table_of = {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}
    each = next(each for each in settings_of(cls) if each.name == field)
    with pytest.raises(InputError) as by_python:
        cls(**values)
    keys = {each.name: each.key for each in settings_of(cls)}
    table = {keys[name]: value for name, value in table_of.items()}
    with pytest.raises(InputError) as by_file:
        from_table(cls, "it.toml", table)
    with pytest.raises(InputError) as by_command:
        made(monkeypatch, command, *(p for pair in _flags(cls, values).items() for p in pair))
    said = str(by_python.value).removeprefix(f"{command}: {field}: ")
    assert "expected" in said
    assert str(by_file.value) == f"it.toml: {each.key}: {said}"
    assert str(by_command.value) == f"{command}: {each.flag}: {said}"


class TestConfigFile:
    def test_options_win_over_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "market.toml"
        file.write_text('price = 2\nimages = 4\nrounds = 3\ntokens = "t.txt"\nhost = "::1"\n')
        # An option wins though it says no more than the default.
        said = ("--config", str(file), "--rounds", "9", "--images", "16")
        told = made(monkeypatch, "serve", *said)
        assert told == ServeOptions(
            price=2.0, units_per_round=16, rounds=9, tokens=tmp_path / "t.txt", host="::1"
        )

    @pytest.mark.parametrize(
        ("stated", "meant"),
        [
            ("sqlite:///m.db", "sqlite:///{folder}/m.db"),
            ("sqlite:///sub/m.db?timeout=3", "sqlite:///{folder}/sub/m.db?timeout=3"),
            ("sqlite:////srv/m.db", "sqlite:////srv/m.db"),
            ("postgresql://user@host/market", "postgresql://user@host/market"),
        ],
    )
    def test_a_ledger_in_it_is_beside_it(
        self, stated: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "market.toml"
        file.write_text(f'price = 1\nledger = "{stated}"\n')
        told = made(monkeypatch, "serve", "--config", str(file))
        assert told.ledger_url == meant.format(folder=tmp_path)

    @pytest.mark.parametrize(
        ("said", "left"),
        [
            (("--price", "0.2"), {"price": 0.2}),
            (("--scenario", "s.toml"), {"scenario": Path("s.toml"), "quote_seed": 3}),
            (("--saving", "0.5"), {"saving": 0.5, "price_min": 0.1, "quote_seed": 3}),
            (("--rounds", "2"), {"saving": 0.4, "price_min": 0.1, "quote_seed": 3, "rounds": 2}),
        ],
    )
    def test_what_an_option_asks_of_devices_replaces_what_it_asks(
        self,
        said: tuple[str, ...],
        left: dict[str, Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        file = tmp_path / "market.toml"
        file.write_text("saving = 0.4\nprice_min = 0.1\nquote_seed = 3\nimages = 4\n")
        told = made(monkeypatch, "serve", "--config", str(file), *said)
        assert told == ServeOptions(units_per_round=4, **left)

    @pytest.mark.parametrize(
        ("text", "said", "told"),
        [
            ("prise = 1", (), "prise: .*did you mean `price`"),
            ("enrol_tokens = ['x']", (), "enrol_tokens: expected one of"),
            ("port = 70000", (), "market.toml: port: expected a whole number from 0 to 65535"),
            ("port = 'x'", (), "market.toml: port: expected a whole number from 0 to 65535"),
            ("port = 80", ("--port", "-1"), "serve: --port: expected a whole number from 0"),
            ("port = ", (), "market.toml"),
        ],
    )
    def test_what_it_cannot_say_is_named(
        self,
        text: str,
        said: tuple[str, ...],
        told: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        file = tmp_path / "market.toml"
        file.write_text(text)
        with pytest.raises(InputError, match=told):
            made(monkeypatch, "serve", "--config", str(file), *said)

    def test_a_file_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match="none"):
            made(monkeypatch, "serve", "--config", "none.toml")


def test_options_of_the_server_are_those_of_the_market_and_what_is_asked() -> None:
    assert issubclass(ServeOptions, ServeConfig)
    own = {each.name for each in settings_of(ServeOptions)}
    assert {each.name for each in settings_of(ServeConfig)} < own


def test_an_option_of_several_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    told = made(monkeypatch, "serve", "--price=1", "--allow-host=a", "--allow-host", "b")
    assert told.allow_hosts == ("a", "b")


def test_choices_are_completed() -> None:
    from typer.testing import CliRunner

    environ = {
        "_EDGEPACT_COMPLETE": "complete_bash",
        "COMP_WORDS": "edgepact device --satisfaction s",
        "COMP_CWORD": "3",
    }
    said = CliRunner().invoke(app, [], env=environ, prog_name="edgepact").output
    assert said.split() == ["sqrt"]


def test_options_of_a_training_are_its_settings() -> None:
    from edgepact.training.federated.aggregate import AGGREGATES
    from edgepact.training.federated.config import TrainConfig, config_of
    from edgepact.training.federated.options import AGGREGATE_NAMES

    assert config_of(TrainOptions()) == TrainConfig()
    assert tuple(AGGREGATES) == AGGREGATE_NAMES
    told = config_of(TrainOptions(clients=9, cost_max=3.0, seed=5, layers=2, data="d"))
    assert told == TrainConfig(
        clients=9, costs=(0.5, 3.0), task=TaskConfig(seed=5, layers=2, data="d")
    )
    assert config_of(TrainOptions(smoke=True)) == TrainConfig().smoke()
    with pytest.raises(InputError, match=r"train: cost_min, cost_max: expected the first"):
        TrainOptions(cost_min=2.0)


@pytest.mark.parametrize(("field", "value"), [each[1:] for each in BAD if each[0] == "train"])
def test_a_training_refuses_what_its_command_refuses(field: str, value: Any) -> None:
    """As a field of its own, or of its task."""
    from edgepact.training.federated.config import TrainConfig

    told = refused(TrainOptions, **{field: value})
    cls = TrainConfig if field in {each.name for each in settings_of(TrainSettings)} else TaskConfig
    by_python = refused(cls, **{field: value})
    assert (by_python.field, by_python.expected) == (told.field, told.expected)
    assert by_python.found == told.found


def test_a_fleet_is_played_or_drawn_not_both() -> None:
    assert refused(RunConfig, fleet=Path("f"), devices=3).field == "fleet, devices"


def test_a_scenario_says_its_settings_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, "run", "s.toml", "--out", "o", "--smoke") == Path("s.toml")
    for each in settings_of(RunConfig):
        if each.name not in BESIDE_SCENARIO:
            value = {int: "3", str: "grid", Path: "p"}[each.type]
            with pytest.raises(InputError, match=f"run: {each.flag}: expected the setting in s"):
                made(monkeypatch, "run", "s.toml", each.flag, value)


def test_a_misspelt_choice_is_told_what_was_meant() -> None:
    assert refused(TrainOptions, mechanism="auctoin").found == '"auctoin"; did you mean "auction"?'
    assert refused(TrainOptions, mechanism="barter").found == '"barter"'


def refused(cls: type, **values: Any) -> InputError:
    with pytest.raises(InputError) as error:
        cls(**values)
    return error.value


def _flags(cls: type, values: dict[str, Any]) -> dict[str, str]:
    flags = {each.name: each.flag for each in settings_of(cls)}
    return {flags[name]: str(value) for name, value in values.items()}
