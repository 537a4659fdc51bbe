"""Marks and what came of them."""

from edgepact.studies.marks import Verdict, verdict_table


def test_a_mark_holds_from_its_own_side() -> None:
    assert Verdict("share", 0.97, 0.97).reached
    assert not Verdict("share", 0.97, 0.9699).reached
    assert Verdict("ms", 40.0, 40.0, most=True).reached
    assert not Verdict("ms", 40.0, 40.1, most=True).reached


def test_the_table_tells_what_was_missed() -> None:
    text = verdict_table([Verdict("one", 0.97, 0.98), Verdict("two", 0.97, 0.96)])
    assert text.startswith("1 of 2 marks are reached.")
    assert "| one | at least 97.00 | 98.00 | reached |" in text
    assert "| two | at least 97.00 | 96.00 | **missed** |" in text
    text = verdict_table([Verdict("one", 0.97, 0.98, error=0.0012)])
    assert "| 98.00 ± 0.12 | reached |" in text
    text = verdict_table([Verdict("time", 40.0, 50.0, most=True)], "{:g}".format)
    assert "| time | at most 40 | 50 | **missed** |" in text
