"""What a study found as a page of the documentation: Markdown that nobody types by hand."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

SMOKE = "**A smoke run: it shows that everything works; its figures mean nothing.**"


def write_page(
    folder: Path,
    name: str,
    title: str,
    parts: Iterable[str],
    *,
    smoke: bool,
    format: str = "png",
) -> None:
    """Writes `page.md`, headed by the command that made it.

    Args:
        folder: of the results; links of the page lead to files in it.
        name: of the study.
        title: of the page.
        parts: paragraphs, tables and headings.
        smoke: whether it was a smoke run.
        format: of its pictures, which `parts` name as PNG.
    """
    command = f"edgepact study {name}" + (" --smoke" if smoke else "")
    head = [
        f"# {title}",
        f"```console\n$ {command}\n```",
        "The command writes this page into its folder, as `page.md`; the tables in full, the "
        "settings, versions and commit lie beside it there, in CSV and `metrics.json`.",
    ]
    text = "\n\n".join([*head, *([SMOKE] if smoke else []), *parts])
    if format != "png":
        # No browser shows a PDF in a page: it is linked.
        shown = "" if format == "pdf" else "!"
        text = re.sub(r"!(\[[^]]*\]\([\w-]+)\.png\)", rf"{shown}\1.{format})", text)
    (folder / "page.md").write_text(text + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, its first column aligned left and the rest right."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def count(number: int, noun: str) -> str:
    """So many of what a noun says.

    Example:
        >>> count(1, "seed"), count(2, "seed")
        ('1 seed', '2 seeds')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(share: float, error: float | None = None) -> str:
    """A share in percent, with its standard error if there is one."""
    text = f"{100.0 * share:.2f}"
    return text if error is None else f"{text} ± {100.0 * error:.2f}"


def points(difference: float, error: float | None = None) -> str:
    """A difference of shares in points of percent, signed, with its standard error if any."""
    text = f"{100.0 * difference:+.3f}"
    return text if error is None else f"{text} ± {100.0 * error:.3f}"


def spans(numbers: Sequence[int]) -> str:
    """Rising numbers in words: 1, 2, 3, 5 become `1 to 3, 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
