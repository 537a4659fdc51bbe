"""What is asked of studies: sizes by name, workers that change nothing, folders of one study."""

import json
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer

from edgepact import api
from edgepact.cli import app
from edgepact.errors import InputError
from edgepact.studies import (
    STUDIES,
    ablation,
    auctions,
    cheating,
    contract,
    dynamics,
    fig4,
    quoting,
    robustness,
    selection,
)
from edgepact.studies.asked import Asked, check_sizes, size, sized, sizes_of
from edgepact.studies.durations import how_long, in_words, reckoned
from edgepact.studies.methods import GDM
from edgepact.studies.place import check_place, held_in
from edgepact.studies.spread import spread, stretches


@dataclass(frozen=True, slots=True, kw_only=True)
class Some:
    fleets: int = field(default=40, metadata=size("fleets"))
    seeds: tuple[int, ...] = field(default=(3, 4, 5), metadata=size("seeds", least=2))
    other: int = 7


def test_a_size_sets_what_it_names_and_nothing_else() -> None:
    assert sized(Some(), Asked(fleets=5, seeds=2)) == Some(fleets=5, seeds=(0, 1))
    assert sized(Some(), Asked()) == Some()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(epochs=3), r"study: --epochs: .* fig9 has \(--seeds and --fleets\).*--epochs 3"),
        (Asked(seeds=1), "study: --seeds: expected a whole number from 2"),
    ],
)
def test_a_size_that_there_is_not_is_refused_by_name(asked: Asked, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_sizes("fig9", Some, asked)


@pytest.mark.parametrize("name", list(STUDIES))
def test_each_study_says_its_sizes(name: str) -> None:
    config = import_module(f"edgepact.studies.{STUDIES[name].module}").Config
    taken = sizes_of(config)
    asked = Asked(**dict.fromkeys(taken, 9))
    changed = sized(config(), asked)
    assert (changed == config()) == (not taken)
    page = (Path(__file__).parents[2] / "docs/how-to/reproduce-figures.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    assert {word for word in ("seeds", "epochs", "fleets") if f"`--{word}`" in row} == set(taken)
    assert ("`--workers`" in row) == STUDIES[name].spreads


def test_the_help_says_of_each_study_what_it_is() -> None:
    told = typer.main.get_command(app).commands["study"].help  # type: ignore[attr-defined]
    assert [name for name in STUDIES if f"{name}: " not in told] == []


def test_stretches_hold_every_number_once() -> None:
    assert [list(each) for each in stretches(5, 2)] == [[0, 1], [2, 3], [4]]
    assert stretches(4, 4) == [range(4)]


def squared(number: int) -> int:
    return number**2


def test_pieces_come_back_in_order() -> None:
    seen: list[tuple[int, int]] = []
    found = spread(squared, range(5), workers=1, on_piece=lambda *done: seen.append(done))
    assert found == [0, 1, 4, 9, 16]
    assert seen[-1] == (5, 5)


@pytest.mark.slow
def test_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quoting, "FLEETS_AT_A_TIME", 2)
    config = replace(quoting.config_for(True), fleets=3, rounds=3)
    alone, shared = (quoting.play_all(config, workers=workers) for workers in (1, 2))
    for kind, of_kind in alone.items():
        assert list(of_kind) == list(shared[kind])
        for method, play in of_kind.items():
            assert np.array_equal(play.shares, shared[kind][method].shares), (kind, method)

    small, weights = contract.config_for(True), contract.SHIPPED
    scores = [contract.score_all(small, weights, workers=workers) for workers in (1, 2)]
    assert scores[0] == scores[1]


@pytest.mark.full
def test_workers_change_nothing_in_other_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = replace(dynamics.config_for(True), episodes=2)
    some = [
        dynamics.Piece(changes, change, "integer", method)
        for change in ("churn", "noise")
        for method in (GDM, "golden section", "Bayesian posterior")
    ]
    one, two = (spread(dynamics.meet_piece, some, workers=workers) for workers in (1, 2))
    for shares, other in zip(one, two, strict=True):
        assert np.array_equal(shares.quoted, other.quoted, equal_nan=True)
        assert np.array_equal(shares.earned, other.earned, equal_nan=True)

    wrong = replace(robustness.config_for(True), fleets=3, others=1, odd=1, rounds=2)
    monkeypatch.setattr(robustness, "FLEETS_AT_A_TIME", 2)
    nowhere = Path("nowhere")
    named = {case: robustness.cases(wrong)[case] for case in ("noise", "satisfaction exp")}
    first, second = (
        robustness.play_all(wrong, named, nowhere, workers=workers) for workers in (1, 2)
    )
    for case, of_case in first.items():
        for kind, met in of_case.items():
            for method, each in met.items():
                assert np.array_equal(each.posted, second[case][kind][method].posted)

    small, weights = contract.config_for(True), contract.SHIPPED
    written = [contract.write_all(small, weights, workers=workers) for workers in (1, 2)]
    for comparison, of_prior in written[0].items():
        for prior, of_rule in of_prior.items():
            for rule, shares in of_rule.items():
                assert np.array_equal(shares, written[1][comparison][prior][rule])


@pytest.mark.full
def test_workers_change_nothing_where_many_train(tmp_path: Path) -> None:
    few = replace(selection.config_for(True), rounds=1)
    found = [selection.train_all(few, True, workers=workers)[1.0] for workers in (1, 2)]
    for method, course in found[0].items():
        for part, other in zip(course, found[1][method], strict=True):
            assert np.array_equal(part, other), method

    lots = replace(auctions.config_for(True), settings=("1 bidder, 2 items, additive on [0, 1]",))
    sold = [auctions.sell_several_items(lots, workers=workers) for workers in (1, 2)]
    assert sold[0] == sold[1]

    some = ablation.config_for(True)
    pieces = [ablation.Piece(some, tmp_path, "odd, whole", name) for name in ("H = 0", "1 step")]
    one, two = (spread(ablation.play_piece, pieces, workers=workers) for workers in (1, 2))
    for result, again in zip(one, two, strict=True):
        assert np.array_equal(result.shares, again.shares)


def test_fleets_of_some_are_those_of_more() -> None:
    """So that a study of more fleets goes on where a smaller one ended."""
    few, more = (quoting._fleets(1, number, True) for number in (2, 4))
    for game, again in zip(few, more, strict=False):
        assert np.array_equal(game.fleet.alpha, again.fleet.alpha)


@pytest.mark.parametrize(
    "facts",
    [
        {"provenance": {"study": "quoting", "command": "python"}},
        {"provenance": {"command": "edgepact study quoting --smoke"}},
    ],
)
def test_a_folder_holds_one_study(facts: dict[str, object], tmp_path: Path) -> None:
    assert held_in(tmp_path) is None
    (tmp_path / "metrics.json").write_text(json.dumps(facts))
    assert held_in(tmp_path) == "quoting"
    check_place(tmp_path, "quoting")
    with pytest.raises(InputError, match=r"study: --out: .* speed.* holds quoting"):
        api.study("speed", out=tmp_path)


def test_a_smoke_run_does_not_take_the_place_of_a_full_one(tmp_path: Path) -> None:
    facts: dict[str, object] = {"study": "quoting", "command": "", "smoke": False}
    (tmp_path / "metrics.json").write_text(json.dumps({"provenance": facts}))
    check_place(tmp_path, "quoting")
    with pytest.raises(InputError, match=r"own for a smoke run, found .* quoting in full size"):
        check_place(tmp_path, "quoting", smoke=True)
    facts["smoke"] = True
    (tmp_path / "metrics.json").write_text(json.dumps({"provenance": facts}))
    check_place(tmp_path, "quoting", smoke=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds metrics\.json of something else"):
        check_place(tmp_path, "speed")


def test_workers_are_refused_where_nothing_can_be_shared(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--workers: expected 1, or one of the studies quoting"):
        api.study("speed", out=tmp_path / "new", workers=2)
    assert not (tmp_path / "new").exists()


def test_durations_grow_with_sizes_and_are_shared() -> None:
    for module in (quoting, robustness, fig4):
        usual = reckoned(module, module.Config())
        double = sized(module.Config(), Asked(fleets=2 * module.Config().fleets))
        assert usual is not None
        assert reckoned(module, double) > usual > 60.0  # type: ignore[operator]
    few, many = cheating.Config(market_seeds=2), cheating.Config()
    assert reckoned(cheating, many) > reckoned(cheating, few) > 10.0  # type: ignore[operator]
    assert how_long("quoting", 6000.0, Asked()).startswith("quoting: about 1.7 hours of one core")
    assert "about 10 minutes of each of 10 cores" in how_long("x", 6000.0, Asked(workers=10))
    assert "not been recorded" in how_long("x", None, Asked())


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.0, "10 seconds"), (80.0, "80 seconds"), (600.0, "10 minutes")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
