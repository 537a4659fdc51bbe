"""Settings objects: what goes out as flags, environment or a table comes back the same."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.market.device_config import DeviceConfig
from edgepact.market.serve_config import ServeConfig
from edgepact.settings import (
    arguments,
    environment,
    from_arguments,
    from_table,
    settings_of,
)

WORDS = st.text("abc-._ /", min_size=1, max_size=8)
TOKENS = st.text("abc123", min_size=1, max_size=8)
PATHS = st.one_of(st.none(), WORDS.map(Path))
JSON = st.dictionaries(WORDS, st.one_of(st.integers(-9, 9), WORDS, st.booleans()), max_size=2)

# Objects are made in the tests: the checker of types draws from `random`, as strategies must not.
SERVERS = st.builds(
    dict,
    job=WORDS,
    model=PATHS,
    job_settings=JSON,
    ledger_url=WORDS,
    host=WORDS,
    port=st.integers(0, 65535),
    ready_file=PATHS,
    rounds=st.one_of(st.none(), st.integers(1, 9)),
    devices_min=st.integers(1, 9),
    gather_timeout_s=st.one_of(st.none(), st.floats(1e-9, 86400)),
    units_per_round=st.integers(1, 99),
    commit_timeout_s=st.floats(1e-9, 86400),
    round_timeout_s=st.floats(1e-9, 86400),
    enrol_tokens=st.lists(TOKENS, max_size=3).map(tuple),
    audit_probability=st.floats(0, 1),
    seed=st.one_of(st.none(), st.integers(0, 2**31)),
)
DEVICES = st.builds(
    dict,
    server_url=st.just("http://127.0.0.1:80"),
    name=st.text("abc-._", min_size=1, max_size=8),
    alpha=st.floats(1e-9, 1e9),
    capacity=st.floats(0, 1e9),
    A=st.floats(1e-9, 1e9),
    B=st.floats(0, 1e9),
    satisfaction=st.sampled_from(["log", "log1p", "sqrt", "exp"]),
    job=WORDS,
    model=PATHS,
    inputs=PATHS,
    job_settings=JSON,
    results=PATHS,
    enrol_token=st.one_of(st.none(), TOKENS),
    token_file=PATHS,
    codec=st.one_of(st.none(), st.sampled_from(["int8", "fp16", "fp32"])),
    layers_max=st.one_of(st.none(), st.integers(0, 99)),
    seed=st.integers(0, 2**31),
    away_timeout_s=st.floats(1e-9, 86400),
)


@settings(max_examples=60, deadline=None)
@given(
    said=st.one_of(
        st.tuples(st.just(ServeConfig), SERVERS), st.tuples(st.just(DeviceConfig), DEVICES)
    )
)
def test_arguments_and_environment_tell_all(said: tuple[type, dict[str, Any]]) -> None:
    config: Any = said[0](**said[1])
    flags, secret = arguments(config), environment(config)
    assert from_arguments(type(config), flags, secret) == config


def test_secrets_go_by_environment() -> None:
    server = ServeConfig(enrol_tokens=("one", "two"))
    assert not {"one", "two"} & set(arguments(server))
    assert environment(server) == {"EDGEPACT_ENROL_TOKENS": "one\ntwo"}
    with pytest.raises(InputError, match="--enrol-tokens"):
        from_arguments(ServeConfig, ["--enrol-tokens", "one"], {})


@settings(max_examples=60, deadline=None)
@given(
    said=st.one_of(
        st.tuples(st.just(ServeConfig), SERVERS), st.tuples(st.just(DeviceConfig), DEVICES)
    )
)
def test_a_table_of_a_file_tells_all_but_secrets(said: tuple[type, dict[str, Any]]) -> None:
    config: Any = said[0](**said[1])
    table = {}
    for each in settings_of(type(config)):
        value = getattr(config, each.name)
        if value is not None and not each.secret:
            table[each.name] = str(value) if isinstance(value, Path) else value
    back = from_table(type(config), "file.toml", table)
    for each in settings_of(type(config)):
        expected = each.default if each.secret else getattr(config, each.name)
        assert getattr(back, each.name) == expected


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"rouns": 3}, r"rouns: .* \(did you mean rounds\?\)"),
        ({"rounds": "3"}, "rounds: expected a whole number"),
        ({"rounds": True}, "rounds: expected a whole number"),
        ({"enrol_tokens": ["x"]}, "enrol_tokens: expected one of"),
        ({"rounds": 0}, "rounds: expected at least 1"),
    ],
)
def test_what_a_table_cannot_say_names_the_field(table: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        from_table(ServeConfig, "file.toml", table)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (["--rouns", "3"], "--rouns: expected one of"),
        (["--rounds"], "--rounds: expected a value"),
        (["--rounds", "x"], "--rounds: expected a whole number"),
        (["--job-settings", "[]"], "--job-settings: expected a JSON object"),
    ],
)
def test_what_arguments_cannot_say_names_the_flag(said: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        from_arguments(ServeConfig, said, {})


@pytest.mark.parametrize(("cls", "command"), [(ServeConfig, "serve"), (DeviceConfig, "device")])
def test_the_commands_have_every_flag(cls: type, command: str) -> None:
    """A process is started with all flags, so its command must know them."""
    import typer

    from edgepact.cli import app

    known = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    flags = {flag for each in known.params for flag in each.opts}
    assert {each.flag for each in settings_of(cls) if not each.secret} <= flags
