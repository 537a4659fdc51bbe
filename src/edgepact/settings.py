"""Settings objects: one frozen dataclass from which flags, files and subprocesses derive.

A field says what it is once, with `setting`: its words for help, its limits or choices, its flag if
that is not its name, and the environment variable that carries it if it is a secret, which no
command line shows. From the object come the arguments of a process (`arguments`, `environment`) and
from arguments or a table of a file comes the object (`from_arguments`, `from_table`); the command
line takes its options from the class (`edgepact.cli.options`). What a field may be is checked when
the object is made (`check`), so that every way in refuses the same in the same words; each way says
how it spells a field (`spelt`).

A command line loads this module before it knows what it is asked, so it imports nothing large.
"""

import dataclasses
import json
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgepact.errors import InputError, shown

if TYPE_CHECKING:
    from edgepact.fields import Table

SEED_MAX = 2**31 - 1
"""Largest seed that every generator of random numbers here takes."""

DAY_S = 86400.0
"""Longest time to wait for anything, seconds."""

PUBLIC = "public"
SECRET = "secret"

_META = "edgepact"

_T = TypeVar("_T")

Choices = tuple[str, ...] | Callable[[], tuple[str, ...]]
"""Words that a field may be; a function where they are looked up, such as installed parts."""


def setting(
    about: str,
    *,
    default: Any = None,
    required: bool = False,
    flag: str = "",
    env: str = "",
    kind: str = PUBLIC,
    least: int | float | None = None,
    above: int | float | None = None,
    most: int | float | None = None,
    infinite: bool = False,
    choices: Choices = (),
    metavar: str = "",
) -> Any:
    """A field of a settings object.

    Args:
        about: a sentence for help.
        default: its value if nothing is said; None may be any field's whose type has it.
        required: whether something must be said.
        flag: its option on a command line; the name with hyphens if empty, and none for a secret.
        env: environment variable that may state it; must be there for a secret.
        kind: `SECRET` for what must not stand on the command line of a process, or in a file.
        least, above: what a number must not be below, or must be larger than.
        most: what a number must not exceed.
        infinite: whether a number may be infinity.
        choices: words it may be; empty for any.
        metavar: what help calls its value; its type if empty.
    """
    meta = {
        _META: {
            "about": about,
            "flag": flag,
            "env": env,
            "kind": kind,
            "least": least,
            "above": above,
            "most": most,
            "infinite": infinite,
            "choices": choices,
            "metavar": metavar,
        }
    }
    if required:
        return dataclasses.field(metadata=meta)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def same(cls: type, name: str) -> Any:
    """The same field as another settings object's: its words, default and limits."""
    field = next(each for each in dataclasses.fields(cls) if each.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of one field of a settings object.

    Attributes:
        name: of the field.
        about: for help.
        flag: on a command line; empty for a secret that has none there.
        env: environment variable that may state it; empty for none.
        secret: whether it must not stand on a command line or in a file.
        type: `str`, `int`, `float`, `bool`, `Path`, `dict` (JSON on a command line), or `tuple` (of
            texts).
        optional: whether None is a value of it.
        default: if nothing is said; `dataclasses.MISSING` if something must be.
        least, above, most, infinite: limits of a number.
        choices: words it may be; empty for any.
        metavar: what help calls its value; empty for its type.
    """

    name: str
    about: str
    flag: str
    env: str
    secret: bool
    type: type
    optional: bool
    default: Any
    least: int | float | None
    above: int | float | None
    most: int | float | None
    infinite: bool
    choices: Choices
    metavar: str

    @property
    def key(self) -> str:
        """What a file calls it: as a command line does, in one word."""
        return self.flag.removeprefix("--").replace("-", "_") or self.name

    @property
    def words(self) -> tuple[str, ...]:
        """What it may be; empty for any."""
        return self.choices if isinstance(self.choices, tuple) else self.choices()

    @property
    def expected(self) -> str:
        """What is accepted, as a noun phrase."""
        if self.choices:
            return f"one of {', '.join(self.words)}"
        noun = _NOUNS[self.type]
        least, above, most = self.least, self.above, self.most
        if least is not None and most is not None:
            return f"{noun} from {least:.12g} to {most:.12g}"
        limits = [] if least is None else [f"of at least {least:.12g}"]
        limits += [] if above is None else [f"above {above:.12g}"]
        limits += [] if most is None else [f"at most {most:.12g}"]
        return f"{noun} {', '.join(limits)}".rstrip() + ", or inf" * self.infinite


def settings_of(cls: type) -> tuple[Setting, ...]:
    """The fields of a settings class that `setting` made, in order."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        meta = field.metadata.get(_META)
        if meta is None:
            continue
        plain, optional = _plain(hints[field.name])
        default, secret = field.default, meta.get("kind") == SECRET
        if field.default_factory is not MISSING:
            default = field.default_factory()
        found.append(
            Setting(
                name=field.name,
                about=meta.get("about", ""),
                flag=meta.get("flag") or ("" if secret else "--" + field.name.replace("_", "-")),
                env=meta.get("env", ""),
                secret=secret,
                type=plain,
                optional=optional,
                default=default,
                least=meta.get("least"),
                above=meta.get("above"),
                most=meta.get("most"),
                infinite=meta.get("infinite", False),
                choices=meta.get("choices", ()),
                metavar=meta.get("metavar", ""),
            )
        )
    return tuple(found)


def check(settings: Any) -> None:
    """Expects each field of a settings object to be what it says it may be.

    For `__post_init__`. What is another spelling of the same value is put right: a path as text, a
    number of NumPy. Errors name the class's `SOURCE`.

    Raises:
        InputError: a value of another type, beyond a limit, not finite, or none of the choices.
    """
    cls = type(settings)
    for each in settings_of(cls):
        value = getattr(settings, each.name)
        if value is None and each.optional:
            continue
        fitting = _fitted(value, each.type)
        if fitting is None or not _within(fitting, each):
            found = f"{shown(value)}{_meant(value, each)}"
            raise InputError(source_of(cls), each.name, each.expected, found)
        if fitting is not value:
            object.__setattr__(settings, each.name, fitting)


def source_of(cls: type) -> str:
    """What errors in fields of a settings class name as their source: its `SOURCE`."""
    return getattr(cls, "SOURCE", cls.__name__)


@contextmanager
def spelt(cls: type, spell: Callable[[str], tuple[object, str]]) -> Iterator[None]:
    """Has errors in fields of a settings class name them as they were stated.

    Args:
        cls: the settings class; other errors pass as they are.
        spell: from a field to the file or command that stated it, and how that spells it.

    Raises:
        InputError: an error in the settings, in these words.
    """
    try:
        yield
    except InputError as error:
        if error.source != source_of(cls):
            raise
        places = [spell(name) for name in error.field.split(", ")]
        source, field = places[0][0], ", ".join(name for _, name in places)
        raise InputError(source, field, error.expected, error.found) from None


def flags_of(cls: type) -> dict[str, str]:
    """How a command line spells the fields of a settings class."""
    return {each.name: each.flag or each.name for each in settings_of(cls)}


def keys_of(cls: type) -> dict[str, str]:
    """How a file spells the fields of a settings class."""
    return {each.name: each.key for each in settings_of(cls)}


def arguments(settings: Any) -> list[str]:
    """All that a settings object says, secrets left out, as arguments of a process.

    What has its default is said too, so that a process that was built of another edition does
    the same; None is said by silence, so its default must be None.

    Raises:
        InputError: a field is None and has another default.
    """
    said: list[str] = []
    for each in settings_of(type(settings)):
        value = getattr(settings, each.name)
        if each.secret:
            continue
        if value is None:
            if each.default is not None:
                raise InputError(type(settings).__name__, each.name, "a value", None)
        elif each.type is bool:
            said += [each.flag] if value else []
        elif each.type is tuple:
            said += [part for item in value for part in (each.flag, item)]
        else:
            said += [each.flag, _spelt(value)]
    return said


def environment(settings: Any) -> dict[str, str]:
    """The secrets of a settings object, by environment variable."""
    return {
        each.env: value if isinstance(value, str) else "\n".join(value)
        for each in settings_of(type(settings))
        if each.secret and (value := getattr(settings, each.name))
    }


def from_arguments(
    cls: type[_T], said: Sequence[str], environ: Mapping[str, str] = os.environ
) -> _T:
    """The settings object that `arguments` and `environment` tell of.

    Raises:
        InputError: an unknown flag, a flag without a value, or an impossible value.
    """
    by_flag = {each.flag: each for each in settings_of(cls) if not each.secret}
    source, values = "arguments", dict[str, Any]()
    rest = list(said)
    while rest:
        flag = rest.pop(0)
        each = by_flag.get(flag)
        if each is None:
            raise InputError(source, flag, f"one of {', '.join(by_flag)}", "this one")
        if each.type is bool:
            values[each.name] = True
            continue
        if not rest:
            raise InputError(source, flag, "a value", "nothing")
        value = read(source, flag, rest.pop(0), each)
        many = each.type is tuple
        values[each.name] = (*values.get(each.name, ()), value) if many else value
    flags = flags_of(cls)
    with spelt(cls, lambda name: (source, flags.get(name, name))):
        return cls(**from_environment(cls, environ), **values)


def from_table(cls: type[_T], source: object, table: Mapping[str, Any]) -> _T:
    """The settings object that a table of a file states.

    Raises:
        InputError: a field nobody knows, a secret, or an impossible value.
    """
    values = stated(cls, source, table)
    for each in settings_of(cls):
        if each.default is MISSING and each.name not in values:
            raise InputError(source, each.key, each.expected, "nothing")
    keys = keys_of(cls)
    with spelt(cls, lambda name: (source, keys.get(name, name))):
        return cls(**values)


def stated(cls: type, source: object, table: Mapping[str, Any]) -> dict[str, Any]:
    """What a table of a file states of a settings object, by field.

    Raises:
        InputError: a field nobody knows, a secret, or a value of another type.
    """
    known = {each.key: each for each in settings_of(cls) if not each.secret}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            from edgepact.fields import nearest  # it takes NumPy along

            by_name = {each.name: each.key for each in known.values()}
            meant = by_name.get(key.replace("-", "_")) or nearest(key, known)
            hint = f"; did you mean `{meant}`?" if meant else ""
            raise InputError(source, key, f"one of {', '.join(known)}", f"this field{hint}")
        values[known[key].name] = _typed(source, key, value, known[key])
    return values


def fields_in(cls: type, table: "Table", *names: str) -> dict[str, Any]:
    """What a table of a scenario states of some fields of a settings class, by field.

    What it leaves out is left to the default of whoever takes it.

    Raises:
        InputError: a value that the settings class refuses, in the same words.
    """
    by_name = {each.name: each for each in settings_of(cls)}
    values: dict[str, Any] = {}
    for name in names:
        if name in table:
            each, (source, place) = by_name[name], table.place(name)
            value = table.raw(name, each.expected)
            values[name] = _typed(source, place, value, each)
            if not _within(values[name], each):
                found = f"{shown(value)}{_meant(value, each)}"
                raise InputError(source, place, each.expected, found)
    return values


def from_environment(cls: type, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The secrets that environment variables state, by field."""
    return {
        each.name: tuple(environ[each.env].split()) if each.type is tuple else environ[each.env]
        for each in settings_of(cls)
        if each.secret and environ.get(each.env)
    }


def as_object(source: object, place: str, text: str) -> dict[str, Any]:
    """A JSON object as a command line spells it.

    Raises:
        InputError: anything else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(source, place, "a JSON object", shown(text))
    return value


def _plain(hint: Any) -> tuple[type, bool]:
    """A type without its `None` and without what it holds."""
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [each for each in typing.get_args(hint) if each is not type(None)]
        optional = len(rest) < len(typing.get_args(hint))
        hint = rest[0]
    if typing.get_origin(hint) is typing.Literal:
        return str, optional
    origin = typing.get_origin(hint) or hint
    return (dict if isinstance(origin, type) and issubclass(origin, Mapping) else origin), optional


def _spelt(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)


def read(source: object, place: str, text: str, each: Setting) -> Any:
    """A value as a command line spells it.

    Raises:
        InputError: text of no such value.
    """
    if each.type in (str, tuple):
        return text
    try:
        if each.type is dict:
            return as_object(source, place, text)
        return each.type(text)
    except (ValueError, RecursionError):
        raise InputError(source, place, each.expected, shown(text)) from None


def _typed(source: object, name: str, value: Any, each: Setting) -> Any:
    """A value of a file."""
    said = list if each.type is tuple else each.type
    fits = isinstance(value, str if each.type is Path else said)
    if each.type in (int, float):
        fits = isinstance(value, (int, float) if each.type is float else int)
        fits = fits and not isinstance(value, bool)
    fitting = _fitted(tuple(value) if said is list and fits else value, each.type)
    if not fits or fitting is None:
        raise InputError(source, name, each.expected, shown(value))
    return fitting


def _fitted(value: Any, wanted: type) -> Any:
    """A value as the type that a field has; None if it is of another kind."""
    if wanted in (int, float):
        kind: type = numbers.Integral if wanted is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            return None
        plain: Any = value
        try:
            return plain if type(plain) is wanted else wanted(plain)
        except OverflowError:  # a whole number beyond the range of floats
            return None
    if wanted is Path and isinstance(value, str):
        return Path(value) if value and "\0" not in value else None
    if wanted is dict:
        return value if isinstance(value, Mapping) else None
    if wanted is tuple and isinstance(value, tuple):
        return value if all(isinstance(item, str) for item in value) else None
    return value if isinstance(value, wanted) else None


def _meant(value: Any, each: Setting) -> str:
    """Which of the choices a word is probably a misspelling of, as the end of a sentence."""
    if not each.choices or not isinstance(value, str):
        return ""
    from edgepact.fields import nearest  # it takes NumPy along

    meant = nearest(value, each.words)
    return f"; did you mean {shown(meant)}?" if meant else ""


def _within(value: Any, each: Setting) -> bool:
    """Whether a value keeps the limits of its field."""
    if each.choices:
        return value in each.words
    if not isinstance(value, int | float):
        return True
    return (
        value == value  # no NaN; a whole number may be too large to be asked by math.isnan
        and (each.infinite or abs(value) != math.inf)
        and (each.least is None or value >= each.least)
        and (each.above is None or value > each.above)
        and (each.most is None or value <= each.most)
    )


_NOUNS: dict[type, str] = {
    str: "a text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a JSON object",
    tuple: "a list of texts",
}
