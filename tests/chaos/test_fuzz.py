"""Parsers of bytes from outside, and the inputs that are made for them."""

import random
import time
from pathlib import Path

import pytest

from chaos import fuzz
from chaos.fuzz import mutations
from chaos.fuzz.parsers import Parser, parsers
from edgepact.errors import InputError

SEED = 14


@pytest.mark.slow
def test_every_parser_reads_or_refuses(tmp_path: Path) -> None:
    listed = list(parsers(tmp_path))
    assert len(listed) > 20
    for parser in listed:
        count = max(len(parser.seeds), int(500 * parser.weight))
        read = fuzz.apart(parser.name, SEED, count, tmp_path) if parser.apart else None
        found = read or fuzz.fuzz(parser, SEED, count, tmp_path)
        assert found.findings == ()
        if parser.seeds_are_right:
            assert found.right >= len(parser.seeds)


def test_whatever_else_a_parser_does_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(content: bytes, place: Path) -> object:
        if content == b"right":
            return content
        if len(content) < 5:
            raise InputError("it", "", "five bytes", content)
        raise KeyError("a defect")

    def slow(content: bytes, place: Path) -> object:
        end_s = time.process_time() + 0.05
        while time.process_time() < end_s:
            pass
        return content

    def endless(content: bytes, place: Path) -> object:
        while True:
            pass

    monkeypatch.setattr(fuzz, "SLOW_S", 0.02)
    monkeypatch.setattr(fuzz, "HANG_S", 0.1)

    def found(read: object, count: int = 40) -> fuzz.Read:
        parser = Parser(
            name="it",
            read=read,  # type: ignore[arg-type]
            seeds=(b"right",),
            change=mutations.changed_bytes,
        )
        return fuzz.fuzz(parser, SEED, count, tmp_path)

    wrong = found(read)
    assert all("KeyError: 'a defect'" in each for each in wrong.findings)
    assert len(wrong.findings) == fuzz.FINDINGS_MAX
    assert "processor time" in found(slow, 2).findings[0]
    assert "were not enough" in found(endless, 1).findings[0]


@pytest.mark.parametrize(
    "change", [mutations.changed_bytes, mutations.changed_text, mutations.changed_json]
)
def test_inputs_follow_from_the_seed_and_differ(change: mutations.Mutation) -> None:
    seeds = (b'{"a": [1, 2.5, "x"], "b": {"c": null}}', b'[{"d": true}]')

    def drawn(seed: int) -> list[bytes]:
        draws = random.Random(seed)
        return [change(draws, seeds) for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) > 30
