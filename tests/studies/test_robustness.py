"""The verdict of the study of robustness, on figures made up for it."""

from edgepact.studies.methods import GDM
from edgepact.studies.robustness import SPECIAL, verdict

WITHOUT, ALONE = SPECIAL


def of(**means: list[float]) -> dict[str, dict[str, dict[str, list[float]]]]:
    named = {"ship": GDM, "without": WITHOUT, "alone": ALONE}
    return {named[name]: {"posted": {"mean": mean}} for name, mean in means.items()}


def measured(ship: float, third: float) -> dict[str, dict[str, object]]:
    believed = of(ship=[0.9, ship, 0.99], alone=[0.9, 0.97, 0.99])
    unseen = of(without=[0.5, 0.7, third], alone=[0.5, 0.7, 0.98])
    kinds = ("continuous", "integer")
    return {
        "as believed": dict.fromkeys(kinds, believed),
        "satisfaction exp": dict.fromkeys(kinds, unseen),
    }


def test_marks_are_held_at_the_worst_quote_and_the_third() -> None:
    _, good = verdict(measured(0.966, 0.971))
    assert "**no**" not in good
    assert "| -0.50 | -0.40 | yes |" in good
    _, bad = verdict(measured(0.964, 0.969))
    assert bad.count("**no**") == 4
    assert "| 97.00 | 96.90 | **no** |" in bad


def test_without_other_policies_nothing_is_claimed() -> None:
    ship_alone = {
        case: {kind: of(ship=[0.9, 0.9, 0.9]) for kind in ("continuous", "integer")}
        for case in ("as believed", "satisfaction exp")
    }
    assert verdict(ship_alone) == []
