"""From a sentence to the numbers of its phonemes, by the front end of the package `hibari-tts`.

Text comes from users, and the front end is another's: it is handed nothing but sentences that have
been looked at, and whatever it ends with is an `InputError`.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, MissingExtraError, shown
from edgepact.jobs.speech.sentences import PHONEMES_MAX, check_sentence

PACKAGE = "hibari"

PAUSE = 0
"""Number of the silence that a sentence begins and ends with."""

PHONEMES_KNOWN = 178
"""Rows of the voices' embeddings."""

_VOCABULARY_BYTES_MAX = 1 << 16


def packaged(name: str) -> Path:
    """A file of the package's assets; the package is not imported.

    Raises:
        MissingExtraError: the package is not installed.
    """
    found = find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place) / "assets" / name
        if path.is_file():
            return path
    raise MissingExtraError("the job speech", "speech")


class FrontEnd:
    """Reads sentences; loaded with the first of them, since dictionaries take a moment.

    Args:
        accent: by whose rules: `american` or `british`.

    Raises:
        MissingExtraError: the extra `speech` is not installed.
    """

    def __init__(self, accent: str) -> None:
        self._vocabulary = _vocabulary(packaged("vocab.json"))
        self._british = accent == "british"

    def load(self) -> None:
        """Loads the dictionaries."""
        _reader(self._british)

    def phonemes(self, sentence: str) -> str:
        """As phonemes, in the alphabet of the voices.

        Raises:
            InputError: it cannot be spoken.
        """
        check_sentence(sentence)
        reads = _reader(self._british)
        try:
            found = str(reads(sentence))
        except Exception as error:  # such as a number of forty digits
            reason = f"{shown(sentence)}, which ends its front end with {type(error).__name__}"
            raise InputError("sentence", "", "words that can be read", reason) from None
        known = "".join(each for each in found if each in self._vocabulary)
        if not any(each.isalpha() for each in known):
            raise InputError("sentence", "", "words that can be read", shown(sentence))
        if len(known) > PHONEMES_MAX:
            found = f"{len(known)}: {shown(sentence)}"
            raise InputError("sentence", "", f"at most {PHONEMES_MAX} phonemes", found)
        return known

    def ids(self, phonemes: str) -> tuple[int, ...]:
        """The phonemes' numbers, between two pauses."""
        return (PAUSE, *(self._vocabulary[each] for each in phonemes), PAUSE)


def checked_ids(found: object, source: str) -> tuple[int, ...]:
    """Numbers of phonemes that a stranger tells.

    Raises:
        InputError: they are none, or too many.
    """
    expected = f"3 to {PHONEMES_MAX + 2} numbers of phonemes, below {PHONEMES_KNOWN}"
    if not isinstance(found, Sequence) or not 3 <= len(found) <= PHONEMES_MAX + 2:
        raise InputError(source, "ids", expected, shown(found))
    for each in found:
        if type(each) is not int or not 0 <= each < PHONEMES_KNOWN:
            raise InputError(source, "ids", expected, shown(each))
    return tuple(found)


@lru_cache(maxsize=2)
def _reader(british: bool) -> Any:
    """The front end and its dictionaries, once in a process."""
    from hibari.g2p import G2P

    return G2P(british=british)


@lru_cache(maxsize=2)
def _vocabulary(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        table = json.loads(file.read(_VOCABULARY_BYTES_MAX))
    return {str(sign): int(number) for sign, number in table.items()}
