"""Results of studies as tables, and figure 5 from figure 4's curves."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import edgepact
from edgepact import api
from edgepact.errors import InputError, InputWarning
from edgepact.studies import fig4
from edgepact.studies.fig4 import Curves, OneFleet, learn, write_curves
from edgepact.studies.learned_before import Learning, fitting, read
from edgepact.studies.results import write_parquet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run of fig4, 3 seeds and 6 epochs, by two learners that are made up."""
    rng = np.random.default_rng(0)
    config = OneFleet(seeds=3, epochs=6, solvers=())
    learning = {
        name: Learning(40.0 + rng.uniform(size=(3, 6)), rng.uniform(size=(3, 6)), 2.5)
        for name in ("GDM", "random")
    }
    (tmp_path / "fig4").mkdir()
    write_curves(tmp_path / "fig4", learn(config)._replace(learning=learning))
    facts = {
        "solvers": {name: {"cpu_seconds_with_compilation": 2.5} for name in learning},
        "provenance": {
            "study": "fig4",
            "smoke": True,
            "command": "edgepact study fig4",
            "commit": "abc",
            "config": {"fleet_seed": 0, "seed": 1, "seeds": 3, "epochs": 6, "solvers": [*learning]},
        },
    }
    (tmp_path / "fig4" / "metrics.json").write_text(json.dumps(facts))
    return tmp_path / "fig4"


def test_tables_are_read_as_they_were_written(folder: Path) -> None:
    assert write_parquet(folder)
    assert (folder / "curves.parquet").is_file()
    found = edgepact.load_study(folder)
    assert (found.study, found.smoke, found.config["epochs"]) == ("fig4", True, 6)
    assert "provenance" not in found.metrics
    curves = found.tables["curves"]
    rows = list(csv.DictReader((folder / "curves.csv").read_text().splitlines()))
    assert curves.column_names == list(rows[0])
    assert curves.num_rows == len(rows) == 2 * 3 * 6
    for name in ("solver", "seed", "utility"):
        kind = {"solver": str, "seed": int, "utility": float}[name]
        assert curves[name].to_pylist() == [kind(row[name]) for row in rows]


def test_tables_without_parquet_are_read_from_csv(folder: Path) -> None:
    assert edgepact.load_study(folder).tables["curves"].num_rows == 36


def test_a_parquet_file_without_its_csv_is_a_table_too(folder: Path) -> None:
    assert write_parquet(folder)
    (folder / "curves.csv").unlink()
    assert edgepact.load_study(folder).tables["curves"].num_rows == 36


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"load_study: folder: .*metrics\.json"):
        edgepact.load_study(tmp_path)


def test_a_broken_parquet_file_costs_a_warning_and_no_table(folder: Path) -> None:
    assert write_parquet(folder)
    quick = folder / "curves.parquet"
    quick.write_bytes(quick.read_bytes()[:-7])
    with pytest.warns(InputWarning, match=r"curves\.parquet: expected a Parquet file, .*; the CSV"):
        assert edgepact.load_study(folder).tables["curves"].num_rows == 36


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("metrics.json", b"[" * 100_000, r"metrics\.json: expected facts of a study, found a file"),
        ("metrics.json", b"{", r"metrics\.json: expected facts of a study, found a file"),
        ("metrics.json", b"\xff", r"metrics\.json: expected facts of a study, found a file"),
        ("metrics.json", b"{}", r"metrics\.json: expected facts of a study, found none of 'prov"),
        ("more.parquet", b"PAR1", r"more\.parquet: expected a Parquet file, found"),
        (
            "curves.csv",
            b"a,b\n1,2,3\n",
            r"curves\.csv: expected a table of a study, found CSV parse",
        ),
        ("curves.csv", None, r"curves\.csv: expected a table of a study, found none there"),
        ("curves.csv/in", b"", r"curves\.csv: expected a table of a study, found a folder"),
    ],
)
def test_a_broken_folder_is_refused_by_its_file(
    folder: Path, file: str, content: bytes | None, words: str
) -> None:
    path = folder / file
    if content is None or not path.parent.is_dir():
        (folder / "curves.csv").unlink()
    if content is None:
        path.symlink_to("nowhere")
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        edgepact.load_study(folder)


@pytest.mark.parametrize(
    ("names", "value", "words"),
    [
        (("solvers",), [1], "solvers: expected a table, found"),
        (("provenance", "config"), "x", "provenance.config: expected a table, found"),
        (("provenance", "config", "epochs"), "six", "config.epochs: expected a whole number"),
        (("provenance", "config", "seeds"), -3, "config.seeds: expected a whole number"),
    ],
)
def test_facts_that_cannot_be_drawn_from_are_refused_by_their_field(
    folder: Path, names: tuple[str, ...], value: object, words: str
) -> None:
    facts = json.loads((folder / "metrics.json").read_text())
    place = facts
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value
    (folder / "metrics.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=words):
        api.study("fig5", data=folder, out=folder.parent / "fig5")


def test_curves_that_are_no_csv_are_refused(folder: Path) -> None:
    (folder / "curves.csv").write_text("a" * 300_000)
    with pytest.raises(InputError, match=r"--data: expected the curves of fig4, found .* limit"):
        api.study("fig5", data=folder, out=folder.parent / "fig5")


@pytest.mark.parametrize("place", ["a file", "a file/in it", "a link"])
def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(fig4, "run", None)
    (tmp_path / "a file").write_text("")
    (tmp_path / "a link").symlink_to("nowhere")
    with pytest.raises(InputError, match="--out: expected a folder that can be written to, found"):
        api.study("fig4", smoke=True, out=tmp_path / place)


def test_figure_5_is_drawn_from_figure_4(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig4, "train", None)  # nothing is to be learned
    out = folder.parent / "fig5"
    written = api.study("fig5", data=folder, out=out, format="svg")
    table = written.to_dict()
    mean = np.mean(read(folder).learning["GDM"].utility[:, -1])
    final = table["solvers"]["GDM"]["final_utility"]["mean"]  # type: ignore[index, call-overload]
    assert final == pytest.approx(mean)
    source: Any = table["provenance"]
    assert source["smoke"], "curves of a smoke run stay those of a smoke run"
    assert source["drawn_from"]["commit"] == "abc"
    assert "smoke run (seeds: 3, epochs: 6)" in _texts(out / "fig5.svg")


def _texts(svg: Path) -> str:
    """Texts of a picture, which stand beside their outlines in comments."""
    return svg.read_text()


def test_only_what_is_missing_is_learned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[Any] = []

    def train(solver: Any, *_: Any, **__: Any) -> Any:
        learned.append(solver)
        return SimpleNamespace(utility=np.ones((3, 6)), action=np.ones((3, 6)))

    monkeypatch.setattr(fig4, "train", train)
    config = OneFleet(seeds=3, epochs=6, solvers=("GDM", "PPO, usual settings", "random"))
    curves: Curves = learn(config, fitting(read(folder), config))
    assert learned == [fig4.SOLVERS["PPO, usual settings"]]
    assert list(curves.learning) == list(config.solvers)


def test_curves_of_other_settings_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"--data: expected curves with .*seeds 4.*seeds 3"):
        api.study("fig5", data=folder, out=folder.parent / "fig5", seeds=4)
    with pytest.raises(InputError, match="--data: expected only with fig4, fig5"):
        api.study("speed", data=folder, out=folder.parent / "speed")
    with pytest.raises(InputError, match="--data: expected a folder with results of fig4"):
        api.study("fig5", data=folder.parent, out=folder.parent / "fig5")
