"""What the study of quotes makes of shares: the GDM and its rivals are counted alike."""

import numpy as np
import pytest

from edgepact.studies.methods import CEILING, GDM, LOOKS, POSTED, TRANSFORMER
from edgepact.studies.quoting import COUNTED, KINDS, Config, Play, Plays, draw, measures, page

TOLD = (POSTED, "Bayesian posterior", CEILING, "identify, then solve")


@pytest.fixture(scope="module")
def plays() -> Plays:
    rng = np.random.default_rng(0)
    return {
        kind: {name: Play(1.0 - rng.uniform(size=(7, 20)), name in TOLD, 1.0) for name in LOOKS}
        for kind in KINDS
    }


def test_a_lead_is_over_the_best_rival_counted_in_the_same_way(plays: Plays) -> None:
    found = measures(plays)["layers"]["integer"]
    of_kind = plays["integer"]
    for counted, count in COUNTED.items():
        means = {name: count(each.shares).mean(axis=0) for name, each in of_kind.items()}
        for sort, told in (("without", False), ("with", True)):
            rivals = [name for name in means if name != GDM and of_kind[name].knows_form == told]
            for at, lead in enumerate(found[f"ahead_of_best_{sort}_form"][counted]):
                best = max(rivals, key=lambda name: means[name][at])
                assert lead["rival"] == best
                assert lead["ahead"] == pytest.approx(means[GDM][at] - means[best][at])


def test_no_two_methods_look_alike(plays: Plays) -> None:
    assert len(set(LOOKS.values())) == len(LOOKS)
    labels = [each.get_text() for each in draw(plays).legends[0].get_texts()]
    assert {GDM, CEILING, TRANSFORMER} <= set(labels)


def test_the_page_speaks_of_the_transformer_only_where_it_is_shown(plays: Plays) -> None:
    without = {
        kind: {name: each for name, each in of_kind.items() if name != TRANSFORMER}
        for kind, of_kind in plays.items()
    }
    assert TRANSFORMER in "\n".join(page(plays, Config()))
    assert TRANSFORMER not in "\n".join(page(without, Config()))
