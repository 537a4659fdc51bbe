"""The palette, as it is seen without red or green cones, and by the pictures that use it."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from edgepact.market import page
from edgepact.palette import APART, COLOURS, DASHES, LOOKS, MARKERS, Look
from edgepact.studies import contract, contract_training, dynamics, fig4, robustness, selection

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
PROTANOPE = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
DEUTERANOPE = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
READERS = {"all cones": np.eye(3), "no red cones": PROTANOPE, "no green cones": DEUTERANOPE}

TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(colour: str) -> np.ndarray:
    """Of sRGB, without its gamma."""
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB, by the white of sRGB."""
    share = TO_XYZ @ np.clip(light, 0.0, 1.0) / TO_XYZ.sum(axis=1)
    bent = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * bent[1] - 16, 500 * (bent[0] - bent[1]), 200 * (bent[1] - bent[2])])


def distance(one: str, other: str, sees: np.ndarray) -> float:
    """Of two colours as a reader sees them."""
    return float(np.linalg.norm(lab(sees @ linear(one)) - lab(sees @ linear(other))))


def test_lab_is_that_of_the_standard() -> None:
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert lab(linear("#ffffff")) == pytest.approx([100.0, 0.0, 0.0], abs=1e-3)


def test_red_and_green_are_alike_without_red_cones() -> None:
    """The simulation finds what the palette avoids: a green and a red that reports once had."""
    assert distance("#0b6e4f", "#d1495b", np.eye(3)) > 80.0
    assert distance("#0b6e4f", "#d1495b", PROTANOPE) < 8.0


@pytest.mark.parametrize("reader", READERS)
def test_everybody_tells_the_colours_apart(reader: str) -> None:
    least = min(distance(*pair, READERS[reader]) for pair in combinations(COLOURS, 2))
    assert least >= APART


def test_looks_have_nothing_in_common() -> None:
    for part in zip(*LOOKS, strict=True):
        assert len(set(part)) == len(LOOKS)
    assert (len(set(DASHES)), len(set(MARKERS))) == (len(DASHES), len(MARKERS))


TOLD = ("identify, then solve", "Bayesian posterior")
UNTOLD = ("pretrained transformer", "golden section", "grid", "CMA-ES", "Gaussian process")
METHODS = robustness.METHOD_LOOKS
PANELS: dict[str, tuple[dict[str, Look], tuple[str, ...]]] = {
    "quoting, not told": (METHODS, (dynamics.GDM, *UNTOLD, "GP-TS-M")),
    "quoting, told": (METHODS, (dynamics.GDM, *TOLD, "told posterior, our rule")),
    "robustness": (METHODS, (robustness.GDM, robustness.UNSEEN, "golden section", *TOLD)),
    "dynamics": (METHODS, dynamics.DRAWN),
    **{f"contract: {name}": (contract.LOOKS, of) for name, of in contract.SORTS.items()},
    "training under contracts": (contract_training.LOOKS, tuple(contract_training.LOOKS)),
    "fig4": (fig4.LOOKS, tuple(fig4.LOOKS)),
    "selection": (selection.LOOKS, tuple(selection.LOOKS)),
}


@pytest.mark.parametrize("panel", PANELS)
def test_curves_of_a_panel_are_told_apart(panel: str) -> None:
    looks, names = PANELS[panel]
    for one, other in combinations(names, 2):
        first, second = looks[one], looks[other]
        assert first.dashes != second.dashes, (one, other)
        assert first.marker != second.marker, (one, other)
        for sees in READERS.values():
            assert distance(first.colour, second.colour, sees) >= APART, (one, other)


LOOK = Path(page.__file__).parent / "static" / "look.css"


def tokens(paper: int) -> dict[str, str]:
    """Colours of the live page and of reports, on light paper (0) or dark (1)."""
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", LOOK.read_text())
    return {name: colours[paper] for name, *colours in found}


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 has it."""
    less, more = sorted(float(TO_XYZ[1] @ linear(each)) for each in (one, other))
    return (more + 0.05) / (less + 0.05)


@pytest.mark.parametrize("paper", [0, 1])
def test_colours_of_the_pages_are_told_apart(paper: int) -> None:
    own = tokens(paper)
    lines = [own[name] for name in ("device", "server", "link", "ledger")]
    for sees in READERS.values():
        assert min(distance(*pair, sees) for pair in combinations(lines, 2)) >= APART
    assert all(contrast(each, own["paper"]) >= 3.0 for each in lines)
    for name in ("ink", "quiet", "act", "warn"):
        assert min(contrast(own[name], own[each]) for each in ("paper", "raised")) >= 4.5


def test_no_picture_has_colours_of_its_own() -> None:
    """Colours stand in the palette alone, so that the tests above hold for every picture."""
    source = Path(__file__).parents[1] / "src/edgepact"
    found = [
        path.relative_to(source).as_posix()
        for room in ("studies", "efficiency")
        for path in sorted((source / room).rglob("*.py"))
        if re.search(r"#[0-9a-fA-F]{6}\b|color=\"(?!none|white)", path.read_text())
    ]
    assert found == []
