"""Prompts from a file."""

from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.jobs.picture.prompts import Prompt, read_prompts

LABELS = ("shirt", "t-shirt", "ankle boot")


def test_a_line_is_a_prompt_and_means_the_longest_label_in_it(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    lines = "# of summer\n\na T-shirt with sleeves\n  my shirt\nan ankle boot\nsomething\n"
    path.write_text(f"\ufeff{lines}")  # the mark that some editors begin files with
    assert read_prompts(path, labels=LABELS) == [
        Prompt("a T-shirt with sleeves", "t-shirt"),
        Prompt("my shirt", "shirt"),
        Prompt("an ankle boot", "ankle boot"),
        Prompt("something", None),
    ]


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe"])
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_prompts(path, labels=LABELS)
    assert refused.value.source == str(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one a line"):
        read_prompts(tmp_path / "none.txt", labels=LABELS)
