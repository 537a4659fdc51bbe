"""What pictures are compared with: labels and templates, from a TOML file.

```toml
labels = ["cat", "dog"]
templates = ["a photo of a {}", "a drawing of a {}"]   # optional
```
"""

from dataclasses import dataclass
from pathlib import Path

from edgepact.errors import InputError
from edgepact.fields import Table, check_list, check_text, load
from edgepact.inference.zero_shot import (
    LABELS_MAX,
    TEMPLATES_MAX,
    checked_labels,
    checked_templates,
)

TEMPLATES: tuple[str, ...] = ("a photo of a {}",)
"""What CLIP was shown to classify with, where a file names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Labels and templates of a knowledge base.

    Attributes:
        labels: names of the classes, each once.
        templates: prompts with one `{}` each, where the label goes.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...] = TEMPLATES


def read_words(path: Path) -> Words:
    """The words of a file.

    Raises:
        InputError: it is no TOML file, or a field is missing or impossible.
    """
    table = Table(path, "", load(path))
    labels = _texts(table, path, "labels", LABELS_MAX)
    templates = TEMPLATES
    if "templates" in table:
        templates = _texts(table, path, "templates", TEMPLATES_MAX)
    table.close()
    try:
        return Words(labels=checked_labels(labels), templates=checked_templates(templates))
    except InputError as error:
        raise InputError(path, error.field, error.expected, error.found) from None


def _texts(table: Table, path: Path, name: str, most: int) -> tuple[str, ...]:
    found = check_list(
        path, name, table.raw(name, "a list of texts"), of="texts", least=1, most=most
    )
    return tuple(check_text(path, f"{name}[{at}]", text) for at, text in enumerate(found))
