"""Prompts, the pieces of the job: from a text file, or of a generator's labels and templates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepact.errors import InputError

BYTES_MAX = 4 * 2**20
PROMPTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be drawn, and the label that it means if that is known."""

    text: str
    label: str | None = None


def read_prompts(path: Path, *, labels: Sequence[str]) -> list[Prompt]:
    """A file of prompts, one a line; empty lines and those that begin with `#` are passed over.

    A prompt means the longest label that stands in it, if one does.

    Raises:
        InputError: there is no such file, it is too large or no UTF-8 text, or holds no prompt.
    """
    try:
        size = path.stat().st_size
        if size > BYTES_MAX:
            raise InputError(path, "", f"at most {BYTES_MAX} bytes of prompts", size)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "bytes that are no UTF-8 text"
        raise InputError(path, "", "a file of prompts, one a line", found) from None
    lines = [line.strip() for line in text.splitlines()]
    prompts = [Prompt(line, meant(line, labels)) for line in lines if line and line[0] != "#"]
    if not 1 <= len(prompts) <= PROMPTS_MAX:
        raise InputError(path, "", f"1 to {PROMPTS_MAX} prompts", len(prompts))
    return prompts


def built_in(labels: Sequence[str], templates: Sequence[str]) -> list[Prompt]:
    """Every label in every template; neighbours have different labels.

    Example:
        >>> [each.text for each in built_in(["bag", "coat"], ["a {}", "my {}"])]
        ['a bag', 'a coat', 'my bag', 'my coat']
    """
    return [
        Prompt(template.replace("{}", label), label) for template in templates for label in labels
    ]


def meant(text: str, labels: Sequence[str]) -> str | None:
    """The longest label that stands in a text; None if none does."""
    found = [label for label in labels if label.casefold() in text.casefold()]
    return max(found, key=len, default=None)
