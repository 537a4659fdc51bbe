"""Dataclasses that hold what their types say, for those that are made in Python."""

import dataclasses
import math
import types
import typing
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.fields import check_flag, check_number, check_path, check_whole, shown
from edgepact.settings import check, settings_of

SIZE_MAX = 2**62
"""Beyond this no setting is a number of anything."""


def expect_types(source: str, settings: Any) -> None:
    """Holds the fields of a dataclass against their types, for those that come from Python.

    Files and command lines state nothing else; in Python anything can be passed. Called before a
    class looks at ranges. Fields that `settings.setting` has made say more of themselves and are
    held against that (`settings.check`). Of all others text becomes a path where one is wanted, a
    scalar of NumPy a number, a list a tuple; infinity is a number, and whether it is one too many
    is left to the class.

    Raises:
        InputError: a value of another type; of the source and the field.
    """
    cls: Any = type(settings)
    hints = _hints(cls)
    if len(hints) < len(dataclasses.fields(cls)):
        check(settings)
    for name, hint in hints.items():
        value = _fitting(source, name, getattr(settings, name), hint)
        object.__setattr__(settings, name, value)


@lru_cache(maxsize=64)
def _hints(cls: type) -> dict[str, Any]:
    """Types of the fields that are not made by `setting`."""
    hints, described = typing.get_type_hints(cls), {each.name for each in settings_of(cls)}
    names = (field.name for field in dataclasses.fields(cls))
    return {name: hints[name] for name in names if name not in described}


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
