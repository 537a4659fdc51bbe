"""Settings objects: one frozen dataclass from which flags, files and subprocesses derive.

A field says what it is once, with `setting`: its words for help, its flag if that is not its name,
and the environment variable that carries it if it is a secret, which no command line shows. From
the object come the arguments of a process (`arguments`, `environment`) and from arguments or a
table of a file comes the object (`from_arguments`, `from_table`). What a dataclass checks when it
is made is checked on every way in.
"""

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from edgepact.errors import InputError
from edgepact.fields import check_flag, check_number, check_path, check_whole, nearest, shown

PUBLIC = "public"
SECRET = "secret"

_META = "edgepact"

_T = TypeVar("_T")


def setting(
    about: str,
    *,
    default: Any = None,
    required: bool = False,
    flag: str = "",
    env: str = "",
    kind: str = PUBLIC,
) -> Any:
    """A field of a settings object.

    Args:
        about: a sentence for help.
        default: its value if nothing is said.
        required: whether something must be said.
        flag: its option on a command line; the name with hyphens if empty.
        env: environment variable that may state it; must be there for a secret.
        kind: `SECRET` for what must not stand on a command line or in a file.
    """
    meta = {_META: {"about": about, "flag": flag, "env": env, "kind": kind}}
    if required:
        return dataclasses.field(metadata=meta)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of one field of a settings object.

    Attributes:
        name: of the field.
        about: for help.
        flag: on a command line.
        env: environment variable that may state it; empty for none.
        secret: whether it must not stand on a command line or in a file.
        type: `str`, `int`, `float`, `bool`, `Path`, `dict` (JSON on a command line), or `tuple` (of
            texts).
        optional: whether None is a value of it.
        default: if nothing is said; `dataclasses.MISSING` if something must be.
    """

    name: str
    about: str
    flag: str
    env: str
    secret: bool
    type: type
    optional: bool
    default: Any


def settings_of(cls: type) -> tuple[Setting, ...]:
    """All fields of a settings class, in order."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        meta = field.metadata.get(_META, {})
        plain, optional = _plain(hints[field.name])
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        found.append(
            Setting(
                name=field.name,
                about=meta.get("about", ""),
                flag=meta.get("flag") or "--" + field.name.replace("_", "-"),
                env=meta.get("env", ""),
                secret=meta.get("kind") == SECRET,
                type=plain,
                optional=optional,
                default=default,
            )
        )
    return tuple(found)


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
        value = _read(source, flag, rest.pop(0), each)
        many = each.type is tuple
        values[each.name] = (*values.get(each.name, ()), value) if many else value
    return cls(**from_environment(cls, environ), **values)


def from_table(cls: type[_T], source: object, table: Mapping[str, Any]) -> _T:
    """The settings object that a table of a file states.

    Raises:
        InputError: a field nobody knows, a secret, or a value of another type.
    """
    known = {each.name: each for each in settings_of(cls) if not each.secret}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            meant = nearest(name, known)
            hint = f" (did you mean {meant}?)" if meant else ""
            raise InputError(source, name, f"one of {', '.join(known)}", f"this field{hint}")
        values[name] = _typed(source, name, value, known[name])
    for each in known.values():
        if each.default is MISSING and each.name not in values:
            raise InputError(source, each.name, _expected(each), "nothing")
    return cls(**values)


def from_environment(cls: type, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The secrets that environment variables state, by field."""
    return {
        each.name: tuple(environ[each.env].split()) if each.type is tuple else environ[each.env]
        for each in settings_of(cls)
        if each.secret and environ.get(each.env)
    }


SIZE_MAX = 2**62
"""Beyond this no setting is a number of anything."""


def expect_types(source: str, settings: Any) -> None:
    """Holds the fields of a dataclass against their types, for those that come from Python.

    Files and command lines state nothing else; in Python anything can be passed. Called before a
    class looks at ranges. Text becomes a path where one is wanted, a scalar of NumPy a number, a
    list a tuple; infinity is a number, and whether it is one too many is left to the class.

    Raises:
        InputError: a value of another type; of the source and the field.
    """
    cls: Any = type(settings)
    for name, hint in _hints(cls).items():
        value = _fitting(source, name, getattr(settings, name), hint)
        object.__setattr__(settings, name, value)


@lru_cache(maxsize=64)
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _fitting(source: str, name: str, value: Any, hint: Any) -> Any:
    """A value as a type wants it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        rest = [each for each in options if each is not type(None)]
        if len(rest) > 1:
            return _one_of(source, name, value, rest)
        hint = rest[0]
    origin = typing.get_origin(hint) or hint
    if hint is float:
        if isinstance(value, float) and math.isinf(value):
            return float(value)
        return check_number(source, name, value, sized=False)
    if hint is int:
        return check_whole(source, name, value, least=-SIZE_MAX, most=SIZE_MAX)
    if hint is bool:
        return check_flag(source, name, value)
    if hint is Path:
        return check_path(source, name, value)
    if hint is str or origin is typing.Literal:
        if not isinstance(value, str):
            options = typing.get_args(hint)
            expected = f"one of {', '.join(options)}" if options else "a text"
            raise InputError(source, name, expected, shown(value))
        return value
    if origin is tuple:
        return _entries(source, name, value, typing.get_args(hint))
    return _one_of(source, name, value, [hint])


def _entries(source: str, name: str, value: Any, of: tuple[Any, ...]) -> tuple[Any, ...]:
    many = len(of) == 2 and of[1] is ...
    if not isinstance(value, list | tuple) or (not many and len(value) != len(of)):
        expected = "a list" if many else f"a list of {len(of)}"
        raise InputError(source, name, expected, shown(value))
    hints = [of[0]] * len(value) if many else of
    return tuple(
        _fitting(source, f"{name}[{at}]", each, hint)
        for at, (each, hint) in enumerate(zip(value, hints, strict=True))
    )


def _one_of(source: str, name: str, value: Any, hints: list[Any]) -> Any:
    """An object of one of some classes."""
    origins = tuple(typing.get_origin(each) or each for each in hints)
    classes = tuple(each for each in origins if isinstance(each, type))
    if len(classes) == len(origins) and not isinstance(value, classes):
        words = " or ".join(each.__name__ for each in classes)
        raise InputError(source, name, f"a {words}", shown(value))
    return value


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
    origin = typing.get_origin(hint) or hint
    return (dict if isinstance(origin, type) and issubclass(origin, Mapping) else origin), optional


def _spelt(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)


def _read(source: object, place: str, text: str, each: Setting) -> Any:
    """A value as `_spelt` spells it."""
    if each.type in (str, tuple):
        return text
    try:
        if each.type is dict:
            return as_object(source, place, text)
        return each.type(text)
    except (ValueError, RecursionError):
        raise InputError(source, place, _expected(each), shown(text)) from None


def _typed(source: object, name: str, value: Any, each: Setting) -> Any:
    """A value of a file."""
    wanted: dict[type, tuple[type, ...]] = {
        str: (str,),
        Path: (str,),
        int: (int,),
        float: (int, float),
        bool: (bool,),
        dict: (dict,),
        tuple: (list,),
    }
    fits = isinstance(value, wanted[each.type])
    if isinstance(value, bool) and each.type is not bool:
        fits = False
    if each.type is tuple and fits:
        fits = all(isinstance(item, str) for item in value)
    if not fits:
        raise InputError(source, name, _expected(each), shown(value))
    return value if each.type in (dict, bool) else each.type(value)


def _expected(each: Setting) -> str:
    words = {
        str: "a text",
        Path: "a path",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        dict: "a JSON object",
        tuple: "a list of texts",
    }
    return words[each.type]
