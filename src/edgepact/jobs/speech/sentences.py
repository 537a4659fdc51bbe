"""What there is to speak, and how: sentences of a text file, settings of a scenario."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, check_choice, shown
from edgepact.work import Json

SENTENCES_MAX = 20_000
FILE_BYTES_MAX = 4 << 20

CHARS_MAX = 400
"""Most characters of a sentence."""

PHONEMES_MAX = 300
"""Most phonemes of a sentence: twenty seconds, as people speak."""

SPEED_MIN, SPEED_MAX = 0.5, 2.0

ACCENTS = ("american", "british")


def own_sentences() -> Path:
    """Sentences that come with the job, a line each."""
    return Path(__file__).with_name("sentences.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """How sentences are spoken, as `[job]` of a scenario states it; both halves hold it alike.

    Attributes:
        speed: what durations are divided by; 1 is as the voice was trained.
        accent: by whose rules spelling is read; it should be the voice's.

    Raises:
        InputError: a value is out of range.
    """

    speed: float = 1.0
    accent: str = ACCENTS[0]

    def __post_init__(self) -> None:
        if not SPEED_MIN <= self.speed <= SPEED_MAX:
            expected = f"a number from {SPEED_MIN} to {SPEED_MAX}"
            raise InputError("job", "speed", expected, self.speed)
        check_choice("job", "accent", self.accent, ACCENTS)

    @classmethod
    def of(cls, settings: Mapping[str, Json]) -> "SpeechSettings":
        """From a job's settings.

        Raises:
            InputError: there is no such setting, or a value cannot be.
        """
        known = {each.name: each.type for each in fields(cls)}
        for name, value in settings.items():
            if name not in known:
                raise InputError("job", name, f"settings: {', '.join(known)}", "this field")
            kind: Any = known[name]
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise InputError("job", name, f"a value of type {kind.__name__}", shown(value))
        return cls(**settings)


def read_sentences(path: Path) -> list[str]:
    """The sentences of a text file, a line each; empty lines are passed over.

    Raises:
        InputError: there is no such file, no sentence in it, or one that is too long or holds
            what no voice can say; it names the line.
    """
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise InputError(path, "", f"at most {FILE_BYTES_MAX} bytes of sentences", size)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(path, "", "a file of sentences", error.strerror or "none") from None
    except UnicodeDecodeError:
        raise InputError(path, "", "UTF-8 text", "other bytes") from None
    found = []
    for number, line in enumerate(lines, 1):
        if sentence := " ".join(line.split()):
            try:
                check_sentence(sentence)
            except InputError as error:
                raise InputError(path, f"line {number}", error.expected, error.found) from None
            found.append(sentence)
    if not 1 <= len(found) <= SENTENCES_MAX:
        raise InputError(path, "", f"1 to {SENTENCES_MAX} sentences, a line each", len(found))
    return found


def check_sentence(sentence: str) -> None:
    """Refuses what no English voice can say, before anything looks at it.

    Raises:
        InputError: the sentence is too long, holds control characters or letters of another script,
            or nothing to say.
    """
    if len(sentence) > CHARS_MAX:
        raise InputError("sentence", "", f"at most {CHARS_MAX} characters", f"{len(sentence)}")
    for character in sentence:
        if unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn"):
            raise InputError("sentence", "", "no control characters", f"U+{ord(character):04X}")
        if character.isalpha() and not _is_latin(character):
            raise InputError("sentence", "", "letters of the Latin script", shown(character))
    if not any(character.isalnum() for character in sentence):
        raise InputError("sentence", "", "something to say", shown(sentence))


def _is_latin(character: str) -> bool:
    # FEMININE ORDINAL INDICATOR and its like are letters too, and Latin.
    name = unicodedata.name(character, "")
    return "LATIN" in name or "ORDINAL INDICATOR" in name or name == "MICRO SIGN"
