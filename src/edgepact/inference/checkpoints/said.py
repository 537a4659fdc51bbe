"""Fields of a checkpoint's JSON files: bounded, and named with their path where they are wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, shown
from edgepact.fields import check_choice, check_number, check_whole

_NOTHING = object()

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's filters, as preprocessing files number them."""


@dataclass(frozen=True, slots=True)
class Said:
    """A JSON object of a file.

    Attributes:
        path: of the file.
        table: the object.
        within: the fields that lead to it, with a dot behind each.
    """

    path: Path
    table: Mapping[str, Any]
    within: str = ""

    def __contains__(self, name: str) -> bool:
        return self.table.get(name) is not None

    def inside(self, name: str) -> "Said":
        """The object in a field.

        Raises:
            InputError: there is none.
        """
        found = self.table.get(name)
        if not isinstance(found, dict):
            raise InputError(self.path, self.within + name, "a JSON object", shown(found))
        return Said(self.path, found, f"{self.within}{name}.")

    def whole(self, name: str, most: int, usual: int | None = None) -> int:
        """A whole number from 1.

        Raises:
            InputError: another value.
        """
        found = self._of(name, usual)
        return check_whole(self.path, self.within + name, found, least=1, most=most)

    def number(self, name: str, usual: float | None = None) -> float:
        """A number above 0.

        Raises:
            InputError: another value.
        """
        return check_number(self.path, self.within + name, self._of(name, usual), above=0.0)

    def choice(self, name: str, options: Mapping[Any, str], usual: Any = None) -> str:
        """What one of a few values stands for.

        Raises:
            InputError: another value.
        """
        found = self._of(name, usual)
        if isinstance(found, int) and not isinstance(found, bool) and found in options:
            return options[found]
        words = {key: value for key, value in options.items() if isinstance(key, str)}
        if not words:
            expected = f"one of {', '.join(map(str, options))}"
            raise InputError(self.path, self.within + name, expected, shown(found))
        return words[check_choice(self.path, self.within + name, found, words)]

    def three(self, name: str, *, above: float | None = None) -> tuple[float, float, float]:
        """A number for each of red, green and blue.

        Raises:
            InputError: another value.
        """
        found = self._of(name, None)
        if not isinstance(found, list) or len(found) != 3:
            raise InputError(self.path, self.within + name, "a list of three numbers", shown(found))
        red, green, blue = (
            check_number(self.path, f"{self.within}{name}[{at}]", one, above=above)
            for at, one in enumerate(found)
        )
        return red, green, blue

    def expect(self, name: str, value: Any, usual: Any = _NOTHING) -> None:
        """Refuses what is not built here.

        Raises:
            InputError: the field has another value.
        """
        found = self.table.get(name, value if usual is _NOTHING else usual)
        if found != value:
            raise InputError(self.path, self.within + name, shown(value), shown(found))

    def _of(self, name: str, usual: Any) -> Any:
        found = self.table.get(name)
        return usual if found is None else found
