"""Settings objects: what goes out as flags, environment or a table comes back the same."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.fields import Table
from edgepact.market.device_config import DeviceConfig
from edgepact.market.serve_config import ServeConfig
from edgepact.settings import (
    arguments,
    check,
    environment,
    fields_in,
    from_arguments,
    from_table,
    setting,
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
    host=st.sampled_from(["127.0.0.1", "::1", "localhost"]),  # beyond, no seed may be said
    port=st.integers(0, 65535),
    ready_file=PATHS,
    rounds=st.one_of(st.none(), st.integers(1, 9)),
    devices_min=st.integers(1, 9),
    gather_timeout_s=st.one_of(st.none(), st.floats(1e-9, 86400)),
    units_per_round=st.integers(1, 99),
    commit_timeout_s=st.floats(1e-9, 86400),
    round_timeout_s=st.floats(1e-9, 86400),
    enrol_tokens=st.lists(TOKENS, max_size=3).map(tuple),
    allow_hosts=st.lists(WORDS, max_size=3).map(tuple),
    audit_probability=st.floats(0, 1),
    seed=st.one_of(st.none(), st.integers(0, 2**31 - 1)),
).map(lambda said: said if said["seed"] is None else said | {"host": "127.0.0.1"})
DEVICES = st.builds(
    dict,
    server_url=st.just("http://127.0.0.1:80"),
    name=st.text("abc-._", min_size=1, max_size=8).filter(lambda name: name not in (".", "..")),
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
    seed=st.integers(0, 2**31 - 1),
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
            value = list(value) if isinstance(value, tuple) else value
            table[each.key] = str(value) if isinstance(value, Path) else value
    back = from_table(type(config), "file.toml", table)
    for each in settings_of(type(config)):
        expected = each.default if each.secret else getattr(config, each.name)
        assert getattr(back, each.name) == expected


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"rouns": 3}, r"rouns: .*; did you mean `rounds`\?"),
        ({"units_per_round": 3}, r"units_per_round: .*; did you mean `images`\?"),
        ({"images": 0}, "file.toml: images: expected a whole number from 1"),
        ({"rounds": "3"}, "rounds: expected a whole number"),
        ({"rounds": True}, "rounds: expected a whole number"),
        ({"enrol_tokens": ["x"]}, "enrol_tokens: expected one of"),
        ({"rounds": 0}, "rounds: expected a whole number of at least 1"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Every:
    """A field of each kind."""

    SOURCE: ClassVar[str] = "every"

    count: int = setting("Things.", default=1, least=1, most=9)
    share: float = setting("A share.", default=0.5, above=0, most=1)
    spread: float | None = setting("May be infinite.", above=0, infinite=True)
    form: str = setting("A form.", default="log", choices=("log", "sqrt"))
    part: str | None = setting("Looked up.", choices=lambda: ("int8", "fp16"))
    short: bool = setting("Whether it is short.", default=False)
    out: Path = setting("A folder.", default=Path("out"))

    def __post_init__(self) -> None:
        check(self)


IMPOSSIBLE = [
    ("count", 0, "a whole number from 1 to 9"),
    ("count", 10, "a whole number from 1 to 9"),
    ("count", 10**400, "a whole number from 1 to 9"),
    ("share", 0.0, "a number above 0, at most 1"),
    ("share", 1.5, "a number above 0, at most 1"),
    ("share", float("nan"), "a number above 0, at most 1"),
    ("spread", -1.0, "a number above 0, or inf"),
    ("form", "lin", "one of log, sqrt"),
    ("part", "zip", "one of int8, fp16"),
]
OF_ANOTHER_TYPE = [
    ("count", True, "a whole number from 1 to 9"),
    ("count", 1.0, "a whole number from 1 to 9"),
    ("count", "1", "a whole number from 1 to 9"),
    ("count", None, "a whole number from 1 to 9"),
    ("share", 10**400, "a number above 0, at most 1"),
    ("share", "0.5", "a number above 0, at most 1"),
    ("form", 3, "one of log, sqrt"),
    ("short", 1, "true or false"),
    ("out", 3, "a path"),
]


def _every(**fields: Any) -> _Every:
    """As Python makes it outside of tests, where no checker of types comes first."""
    made = object.__new__(_Every)
    for each in settings_of(_Every):
        object.__setattr__(made, each.name, fields.get(each.name, each.default))
    made.__post_init__()
    return made


@pytest.mark.parametrize(("field", "value", "expected"), IMPOSSIBLE)
def test_every_way_in_refuses_the_same(field: str, value: Any, expected: str) -> None:
    said = f"expected {expected}, found "
    with pytest.raises(InputError) as by_python:
        _every(**{field: value})
    with pytest.raises(InputError) as by_file:
        from_table(_Every, "every.toml", {field: value})
    with pytest.raises(InputError) as by_process:
        from_arguments(_Every, [f"--{field}", str(value)], {})
    found = str(by_python.value).removeprefix(f"every: {field}: {said}")
    assert str(by_python.value) == f"every: {field}: {said}{found}"
    assert str(by_file.value) == f"every.toml: {field}: {said}{found}"
    assert str(by_process.value) == f"arguments: --{field}: {said}{found}"


@pytest.mark.parametrize(("field", "value", "expected"), OF_ANOTHER_TYPE)
def test_another_type_is_refused_in_the_same_words(field: str, value: Any, expected: str) -> None:
    for source, made in (
        ("every", lambda: _every(**{field: value})),
        ("every.toml", lambda: from_table(_Every, "every.toml", {field: value})),
    ):
        with pytest.raises(InputError) as error:
            made()
        assert str(error.value).startswith(f"{source}: {field}: expected {expected}, found ")


def test_other_spellings_of_a_value_are_put_right() -> None:
    every = _every(out="folder", share=np.float32(0.5), count=np.int64(3), spread=math.inf)
    assert (every.out, every.share, every.count) == (Path("folder"), 0.5, 3)
    assert {type(every.share), type(every.count)} == {float, int}
    assert every.spread == math.inf


@pytest.mark.parametrize(("field", "value", "expected"), IMPOSSIBLE + OF_ANOTHER_TYPE)
def test_a_table_of_a_scenario_refuses_in_the_same_words(
    field: str, value: Any, expected: str
) -> None:
    if value is None:  # TOML has none
        return
    table = Table(Path("scenario.toml"), "job", {field: value})
    with pytest.raises(InputError) as error:
        fields_in(_Every, table, field)
    said = f"scenario.toml: job.{field}: expected {expected}, found "
    assert str(error.value).startswith(said)


def test_a_table_of_a_scenario_states_what_it_states() -> None:
    said = {"count": 3, "out": "folder", "spread": math.inf, "other": 1}
    table = Table(Path("scenario.toml"), "job", said)
    told = fields_in(_Every, table, "count", "out", "spread", "form")
    assert told == {"count": 3, "out": Path("folder"), "spread": math.inf}
    with pytest.raises(InputError, match=r"job\.other: expected one of count, out, spread, form"):
        table.close()
