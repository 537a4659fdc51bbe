"""The command line: what it prints, and what it says about input that cannot be used."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact import cli
from edgepact.inference.models import embedded, samples
from edgepact.market.ledger import Ledger
from edgepact.mechanisms.contract import optimum

HEAD = """
mechanism = "stackelberg"
layers = "integer"
satisfaction = "log1p"
outside_option = false
[server]
revenue = 100.0
beta = 10.0
layers_max = 12
price_min = 0.0
price_max = 3.577
"""
DEVICE = """
[[device]]
name = "cam-1"
alpha = 3.0
capacity = 4.2
A = 0.3577
B = 0.1156
"""
MARKET = HEAD + DEVICE
CSV = "name,alpha,capacity,A,B\n"

TIMEOUT_S = 600

LOCAL_WORK = str(Path(__file__).resolve().parents[1] / "examples" / "scenario-local-work.toml")
"""The end of all patience; nothing here is expected to take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    out: str
    err: str


def edgepact(*arguments: object) -> Answer:
    """What the installed command does, in this process: its entry point is called as it is."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["edgepact", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
        status = 0
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    finally:
        sys.argv = before
    return Answer(status=status, out=out.getvalue(), err=err.getvalue())


def process(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edgepact", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )


def write(folder: Path, text: str | bytes, name: str = "market.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def assert_refused(answer: Answer, *mentioned: object) -> None:
    """Exit status 2, nothing on standard output, one line that mentions file and field."""
    assert answer.status == 2, answer
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("edgepact: ")
    assert ": expected " in line
    assert ", found " in line
    for each in mentioned:
        assert f"{each}" in line


class TestSolve:
    """As processes: what a shell sees."""

    def test_json_has_exactly_the_promised_keys(self, tmp_path: Path) -> None:
        answer = process("solve", write(tmp_path, MARKET), "--json")
        assert (answer.returncode, answer.stderr) == (0, "")
        (line,) = answer.stdout.splitlines()
        solution = json.loads(line)
        assert list(solution) == [
            "price",
            "server_utility",
            "layers",
            "device_utility",
            "payments",
            "audit",
            # What the tables show besides.
            "benchmarks",
            "over_staying_away",
            "names",
            "alpha",
            "capacity",
        ]
        assert list(solution["audit"]) == [
            "individually_rational",
            "budget_balanced",
            "largest_gain_from_lying",
            "lies_tried",
        ]
        utility = solution["benchmarks"]["uniform_price"]
        assert utility == solution["server_utility"] <= solution["benchmarks"]["first_best"]
        assert '"layers": [11]' in line, "whole layers are whole numbers"
        assert solution["payments"] == pytest.approx([solution["price"] * 11])
        spent = 10.0 * 0.3577 * (12 - 11) + solution["payments"][0]
        assert solution["server_utility"] == pytest.approx(100.0 - spent)
        kept = 3.0 * np.log1p(4.2 - 0.3577 * 11 - 0.1156)
        assert solution["device_utility"] == pytest.approx([solution["payments"][0] + kept])

    def test_tables_name_devices_price_and_audit(self, tmp_path: Path) -> None:
        answer = process("solve", write(tmp_path, having('"integer"', '"continuous"')))
        assert (answer.returncode, answer.stderr) == (0, "")
        for told in ("cam-1", "credits per layer", "first best", "largest gain from lying"):
            assert told in answer.stdout

    def test_a_table_of_devices_means_the_same_as_toml(self, tmp_path: Path) -> None:
        columns = {
            "name": ["gate", "yard"],
            "alpha": [3.0, 5.5],
            "capacity": [4.2, 3.125],
            "A": [0.3577, 0.3577],
            "B": [0.1156, 0.0],
        }
        pyarrow.csv.write_csv(pa.table(columns), tmp_path / "fleet.csv")
        pyarrow.parquet.write_table(pa.table(columns), tmp_path / "fleet.parquet")
        listed = "".join(
            "[[device]]\n" + "".join(f"{key} = {json.dumps(columns[key][at])}\n" for key in columns)
            for at in range(2)
        )
        answers = [
            process("solve", write(tmp_path, text), "--json")
            for text in (
                HEAD + listed,
                'devices = "fleet.csv"\n' + HEAD,
                'devices = "fleet.parquet"\n' + HEAD,
            )
        ]
        assert [(each.returncode, each.stderr) for each in answers] == [(0, "")] * 3
        assert answers[0].stdout == answers[1].stdout == answers[2].stdout
        assert len(json.loads(answers[0].stdout)["layers"]) == 2


def without(line_start: str) -> str:
    return "".join(
        line for line in MARKET.splitlines(keepends=True) if not line.startswith(line_start)
    )


def having(old: str, new: str) -> str:
    assert old in MARKET
    return MARKET.replace(old, new)


BAD_MARKETS: list[tuple[str, str | bytes, str]] = [
    ("empty", "", "mechanism"),
    ("no TOML", "price = = 3", "expected TOML"),
    ("no text", b"\x80\x81\xfe", "expected TOML"),
    ("nested beyond reason", "a = " + "[" * 5000, "expected TOML"),
    ("digits beyond reason", having("alpha = 3.0", "alpha = 1" + "0" * 5000), "expected TOML"),
    ("bits beyond reason", having("alpha = 3.0", "alpha = 0x1" + "0" * 5000), "device[1].alpha"),
    ("no mechanism", without("mechanism"), "mechanism"),
    ("unknown mechanism", having('"stackelberg"', '"bribery"'), "mechanism"),
    ("mechanism of a wrong type", having('"stackelberg"', "7"), "mechanism"),
    ("unknown kind of layers", having('"integer"', '"some"'), "layers"),
    ("unknown satisfaction", having('"log1p"', '"linear"'), "satisfaction"),
    ("a number for a truth", having("outside_option = false", "outside_option = 0"), "outside_op"),
    ("unknown field", "colour = 1\n" + MARKET, "colour"),
    ("field with a line break", '"a\\nb\\u001b[31m" = 1\n' + MARKET, r'"a\nb\u001b[31m"'),
    ("unknown field of the server", having("revenue", "colour = 1\nrevenue"), "server.colour"),
    ("unknown field of a device", MARKET + "colour = 1\n", "device[1].colour"),
    ("server is no table", "server = 3\n" + HEAD.replace("[server]", "[other]"), "server"),
    ("no server", HEAD.split("[server]")[0] + DEVICE, "server"),
    ("price_min above price_max", having("price_min = 0.0", "price_min = 4.0"), "server.price_max"),
    ("no layers", having("layers_max = 12", "layers_max = 0"), "server.layers_max"),
    ("half a layer", having("layers_max = 12", "layers_max = 12.5"), "server.layers_max"),
    ("true layers", having("layers_max = 12", "layers_max = true"), "server.layers_max"),
    ("no devices", HEAD, "device"),
    ("an empty list of devices", "device = []\n" + HEAD, "device"),
    ("one table for a list", MARKET.replace("[[device]]", "[device]"), "device"),
    ("numbers for devices", "device = [1, 2]\n" + HEAD, "device[1]"),
    ("two devices of one name", MARKET + DEVICE, "device.name"),
    ("a number for a name", having('"cam-1"', "3"), "device[1].name"),
    ("a blank name", having('"cam-1"', '" "'), "device[1].name"),
    ("a name of two lines", having('"cam-1"', '"cam\\n1"'), "device[1].name"),
    ("devices twice", 'devices = "fleet.csv"\n' + MARKET, "device"),
    ("a fleet that is not there", 'devices = "none.csv"\n' + HEAD, "devices"),
    ("a fleet with an endless name", f'devices = "{"a" * 300}.csv"\n' + HEAD, "devices"),
    ("a number for a fleet", "devices = 3\n" + HEAD, "devices"),
    (
        "second device wrong",
        MARKET + DEVICE.replace("cam-1", "b").replace("3.0", "-3.0"),
        "ice[2].al",
    ),
]
NUMBERS = {
    "server.revenue": "revenue = 100.0",
    "server.beta": "beta = 10.0",
    "server.price_min": "price_min = 0.0",
    "server.price_max": "price_max = 3.577",
    "device[1].alpha": "alpha = 3.0",
    "device[1].capacity": "capacity = 4.2",
    "device[1].A": "A = 0.3577",
    "device[1].B": "B = 0.1156",
}
NO_NUMBERS = ["nan", "inf", "-inf", "true", '"3"', "[1.0]", "{}", "1979-05-27", "1e300", "1e-300"]
NEGATIVE = [field for field in NUMBERS if field != "server.revenue"]


class TestBadMarkets:
    @pytest.mark.parametrize(
        ("text", "field"),
        [pytest.param(text, field, id=name) for name, text, field in BAD_MARKETS],
    )
    def test_is_refused_in_one_line(self, tmp_path: Path, text: str | bytes, field: str) -> None:
        path = write(tmp_path, text)
        assert_refused(edgepact("solve", path), path, field)

    @pytest.mark.parametrize("value", NO_NUMBERS)
    @pytest.mark.parametrize("field", NUMBERS)
    def test_no_number_to_compute_with(self, tmp_path: Path, field: str, value: str) -> None:
        line = NUMBERS[field]
        path = write(tmp_path, having(line, f"{line.split(' = ')[0]} = {value}"))
        assert_refused(edgepact("solve", path), path, field)

    @pytest.mark.parametrize("field", NUMBERS)
    def test_a_missing_number(self, tmp_path: Path, field: str) -> None:
        path = write(tmp_path, having(NUMBERS[field] + "\n", ""))
        assert_refused(edgepact("solve", path), path, field, "found nothing")

    @pytest.mark.parametrize("field", NEGATIVE)
    def test_a_negative_number(self, tmp_path: Path, field: str) -> None:
        line = NUMBERS[field]
        path = write(tmp_path, having(line, f"{line.split(' = ')[0]} = -0.5"))
        assert_refused(edgepact("solve", path), path, field, "-0.5")

    @pytest.mark.parametrize("field", ["device[1].alpha", "device[1].A"])
    def test_zero_where_it_cannot_be(self, tmp_path: Path, field: str) -> None:
        line = NUMBERS[field]
        path = write(tmp_path, having(line, f"{line.split(' = ')[0]} = 0"))
        assert_refused(edgepact("solve", path), path, field, "above 0")

    def test_a_file_that_is_not_there_and_a_folder(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.toml", tmp_path, tmp_path / ("a" * 300)):
            assert_refused(edgepact("solve", path), path)

    def test_the_line_is_as_promised_and_comes_from_the_process_too(self, tmp_path: Path) -> None:
        path = write(tmp_path, having("alpha = 3.0", "alpha = -3.0"))
        answer = process("solve", path)
        assert answer.returncode == 2
        told = f"edgepact: {path}: device[1].alpha: expected a finite number above 0, found -3.0\n"
        assert (answer.stdout, answer.stderr) == ("", told)

    @settings(max_examples=12)
    @given(
        field=st.sampled_from(sorted(NUMBERS)),
        value=st.one_of(
            st.floats().map(repr),
            st.integers().map(str),
            st.booleans().map(lambda flag: str(flag).lower()),
            st.text(max_size=8).map(json.dumps),
        ),
        rest=st.fixed_dictionaries(
            {
                "log1p": st.sampled_from(["log1p", "log", "sqrt", "exp"]),
                "integer": st.sampled_from(["integer", "continuous"]),
                "false": st.sampled_from(["false", "true"]),
            }
        ),
    )
    def test_any_value_anywhere_is_solved_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, field: str, value: str, rest: dict[str, str]
    ) -> None:
        line = NUMBERS[field]
        text = having(line, f"{line.split(' = ')[0]} = {value}")
        for old, new in rest.items():
            text = text.replace(old, new, 1)
        path = write(tmp_path_factory.mktemp("any"), text)
        answer = edgepact("solve", path, "--json")
        if answer.status == 2:
            assert_refused(answer, path)
            return
        solution = json.loads(answer.out)
        assert np.isfinite(solution["server_utility"])
        audit = solution["audit"]
        kept = audit["individually_rational"] and audit["budget_balanced"]
        assert answer.status == (0 if kept else 1)
        assert len(answer.err.splitlines()) == answer.status


BAD_TABLES: list[tuple[str, str | bytes, Sequence[str]]] = [
    ("empty", "", ["fleet.csv"]),
    ("only a header", CSV, ["fleet.csv", "rows"]),
    ("a column is missing", "alpha,capacity,A\n1,2,3\n", ["fleet.csv: B"]),
    ("a column twice", "alpha,alpha,capacity,A,B\n1,1,2,3,4\n", ["fleet.csv: alpha"]),
    ("an empty cell", CSV + "a,1,2,1,0\nb,,2,1,0\n", ["fleet.csv: device[2].alpha", "empty"]),
    ("a row too short", CSV + "a,1,2\n", ["fleet.csv"]),
    ("a word", CSV + "a,1,2,1,0\nb,1,much,1,0\n", ["fleet.csv: device[2].capacity", '"much"']),
    ("a truth", CSV + "a,1,2,1,0\nb,true,2,1,0\n", ["fleet.csv: device[2].alpha", '"true"']),
    ("nan", CSV + "a,1,2,1,0\nb,nan,2,1,0\n", ["fleet.csv: device[2].alpha", "nan"]),
    ("inf", CSV + "a,1,2,inf,0\n", ["fleet.csv: device[1].A", "inf"]),
    ("negative", CSV + "a,1,2,1,-1\n", ["fleet.csv: device[1].B", "-1"]),
    ("too large", CSV + "a,1e200,2,1,0\n", ["fleet.csv: device[1].alpha", "1e+200"]),
    ("a name twice", CSV + "a,1,2,1,0\na,1,2,1,0\n", ["fleet.csv: device.name", '"a"']),
    ("a blank name", CSV + "a,1,2,1,0\n,1,2,1,0\n", ["fleet.csv: device[2].name"]),
    ("no text", bytes(range(128, 256)), ["fleet.csv"]),
]


class TestBadTables:
    @pytest.mark.parametrize(
        ("text", "told"), [pytest.param(text, told, id=name) for name, text, told in BAD_TABLES]
    )
    def test_a_csv(self, tmp_path: Path, text: str | bytes, told: Sequence[str]) -> None:
        write(tmp_path, text, "fleet.csv")
        market = write(tmp_path, 'devices = "fleet.csv"\n' + HEAD)
        assert_refused(edgepact("solve", market), *told)

    @pytest.mark.parametrize(
        ("alpha", "told"),
        [
            (pa.array([1.0, None]), "device[2].alpha"),
            (pa.nulls(2), "device[1].alpha"),
            (pa.array(["1", "2"]), "alpha"),
            (pa.array([True, False]), "alpha"),
            (pa.array([[1.0], [2.0]]), "alpha"),
            (pa.array([1.0, float("nan")]), "device[2].alpha"),
        ],
    )
    def test_a_parquet(self, tmp_path: Path, alpha: pa.Array, told: str) -> None:
        columns = {"alpha": alpha, "capacity": [2.0, 2.0], "A": [1.0, 1.0], "B": [0.0, 0.0]}
        pyarrow.parquet.write_table(pa.table(columns), tmp_path / "fleet.parquet")
        market = write(tmp_path, 'devices = "fleet.parquet"\n' + HEAD)
        assert_refused(edgepact("solve", market), f"fleet.parquet: {told}")

    def test_files_of_other_kinds(self, tmp_path: Path) -> None:
        write(tmp_path, b"PAR1 but not really", "fleet.parquet")
        write(tmp_path, CSV + "a,1,2,1,0\n", "fleet.xls")
        for name in ("fleet.parquet", "fleet.xls"):
            market = write(tmp_path, f'devices = "{name}"\n' + HEAD)
            assert_refused(edgepact("solve", market), name)


class TestOtherCommands:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["study", "fig99"], ["NAME", "fig4", "fig99"]),
            (["study", "fig4", "--seeds", "two"], ["study: --seeds:", "whole number", '"two"']),
            (["study", "fig4", "--workers", "1.5"], ["study: --workers:", "whole", '"1.5"']),
            (["ledger", "check", "run/l.db"], ["such as sqlite:///run/l.db", "found run/l.db"]),
            (
                ["run", "--fleet", LOCAL_WORK],
                ["mechanism", "stackelberg", "`edgepact run FILE`", '"contract"'],
            ),
            (["serve"], ["--price", "--saving", "none of them"]),
            (["serve", "--price", "1", "--saving", "1"], ["both"]),
            (
                ["serve", "--price", "1", "--scenario", "s.toml"],
                ["--scenario: ", "both price and scenario"],
            ),
            (
                ["serve", "--scenario", "s.toml"],
                ["s.toml: expected a TOML file", "`edgepact init`"],
            ),
            (["serve", "--scenario", "s.toml", "--price-max", "1"], ["--price-max", "a saving"]),
            (["serve", "--scenario", LOCAL_WORK], ["job.name: expected a job of the live market"]),
            (["serve", "--price", "1", "--policy", "p"], ["--policy"]),
            (["serve", "--saving", "0"], ["--saving"]),
            (["serve", "--saving", "1", "--price-min", "2"], ["--price-min"]),
            (["serve", "--price", "nan"], ["--price", "nan"]),
            (["serve", "--price", "-1"], ["--price", "-1"]),
            (["serve", "--price", "1", "--tokens", "none.txt"], ["none.txt"]),
            (["serve", "--saving", "1", "--policy", "none"], ["none"]),
            (["serve", "--price", "1", "--ledger", "nonsense"], ["nonsense"]),
            (["ledger", "sqlite:///none.db"], ["none.db"]),
            (["ledger", "nonsense"], ["nonsense"]),
            (["run", "--images-from", "none", "--out", "new"], ["none", "--images-from"]),
            (["run", "--model", "none", "--out", "new"], ["none", "--model"]),
        ],
    )
    def test_bad_options(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        told: list[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        answer = edgepact(*arguments)
        assert_refused(answer, *told)
        assert "Errno" not in answer.err
        assert list(tmp_path.iterdir()) == [], "nothing was left behind"

    @pytest.mark.parametrize(
        ("option", "value", "field"),
        [
            ("--alpha", "nan", "alpha"),
            ("--alpha", "0", "alpha"),
            ("--capacity", "-1", "capacity"),
            ("--A", "0", "A"),
            ("--B", "inf", "B"),
            ("--satisfaction", "linear", "satisfaction"),
            ("--codec", "zip", "codec"),
            ("--server", "nowhere", "--server: "),
            ("--name", "a b", "name"),
            ("--images", "none", "none"),
            (
                "--ca",
                "none.pem",
                "none.pem: expected a file of certificates to trust, PEM, found No",
            ),
        ],
    )
    def test_bad_devices(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        option: str,
        value: str,
        field: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        options = {
            "--server": "http://127.0.0.1:9",
            "--alpha": "1",
            "--capacity": "1",
            "--A": "1",
            "--B": "1",
            "--token": "t",
        }
        flags = [part for pair in (options | {option: value}).items() for part in pair]
        assert_refused(edgepact("device", *flags), field)

    def test_an_empty_ledger_balances(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        Ledger(url).close()
        answer = edgepact("ledger", url, "--json")
        assert answer.status == 0, answer.err
        books = json.loads(answer.out)
        assert books["balanced"] is True
        assert books["debits_microcredits"] == books["credits_microcredits"] == 0
        assert "balance" in edgepact("ledger", url).out

    def test_profile_counts_what_the_closed_form_says(self) -> None:
        answer = edgepact("profile", "--repeats", "3", "--json")
        assert answer.status == 0, answer.err
        assert json.loads(answer.out)

    @pytest.mark.usefixtures("ctrl_c")
    def test_ctrl_c_ends_quietly(self) -> None:
        started = subprocess.Popen(
            [sys.executable, "-m", "edgepact", "profile", "--repeats", "10000", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # The model is being measured as soon as its library is loaded.
        maps = Path(f"/proc/{started.pid}/maps")
        end_s = time.monotonic() + TIMEOUT_S
        while "onnxruntime_pybind" not in maps.read_text():
            assert started.poll() is None, started.communicate()
            assert time.monotonic() < end_s, "the library was never loaded"
            time.sleep(0.02)
        os.kill(started.pid, signal.SIGINT)
        _, err = started.communicate(timeout=TIMEOUT_S)
        assert started.returncode == 130
        assert "Traceback" not in err


def test_a_full_disk_is_told_in_a_line() -> None:
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "edgepact", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
    assert answer.returncode == 2
    assert answer.stderr == "edgepact: no space is left; free some, or write elsewhere\n"


def test_a_refusal_that_is_about_no_place_keeps_its_traceback() -> None:
    from edgepact.cli.complaints import print_of_place

    assert not print_of_place(PermissionError(errno.EPERM, "Operation not permitted"))
    assert not print_of_place(ConnectionRefusedError(errno.ECONNREFUSED, "refused", "peer"))
    assert print_of_place(PermissionError(errno.EACCES, "Permission denied", "a.toml"))


def test_a_folder_where_a_study_writes_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "best-of.png").mkdir()
    answer = edgepact("study", "best-of", "--smoke", "--out", tmp_path)
    assert answer.status == 2
    last = answer.err.splitlines()[-1]
    assert last.startswith(f"edgepact: {tmp_path / 'best-of.png'}: expected a file, found a folder")


def test_help_of_every_command_loads_nothing_heavy() -> None:
    script = """
import contextlib, io, sys
import typer
from edgepact import cli
from edgepact.inference.models import embedded, samples
heavy = {"jax", "equinox", "numpy", "scipy", "onnx", "onnxruntime", "pyarrow", "sqlalchemy",
         "matplotlib", "starlette", "httpx", "rich"}
root = typer.main.get_command(cli.app).commands
inner = [f"{name} {each}" for name in root for each in getattr(root[name], "commands", {})]
for name in ("", *root, *inner):
    sys.argv = ["edgepact", *name.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        cli.main()
    loaded = heavy & set(sys.modules)
    assert not loaded, f"{name or 'edgepact'} --help loads {sorted(loaded)}"
print("light")
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert answer.stdout == "light\n", answer.stderr


class TestModel:
    def test_inspect_counts_the_embedded_model(self) -> None:
        answer = edgepact("model", "inspect", "--json")
        assert answer.status == 0, answer.err
        counted = json.loads(answer.out)
        assert (counted["model"], len(counted["stages"])) == ("fashion-clip", 14)
        assert "block_12.out" in edgepact("model", "inspect").out

    def test_cut_lists_chooses_and_cuts(self, tmp_path: Path) -> None:
        for name in ("image.onnx", "weights.bin", "model.json"):
            shutil.copy(embedded() / name, tmp_path)
        listed = edgepact("model", "cut", tmp_path, "--list")
        assert {"embed.out", "block_01.out", "block_12.out"} < set(listed.out.split())
        at = ["embed.out", "block_06.out", "block_12.out"]
        answer = edgepact(
            "model", "cut", tmp_path, *(word for name in at for word in ("--at", name))
        )
        assert answer.status == 0, answer.err
        assert [Path(line).name for line in answer.out.split()] == [
            f"stage_0{stage}.onnx" for stage in range(4)
        ]
        stages = json.loads(edgepact("model", "inspect", tmp_path, "--json").out)["stages"]
        assert [stage["ends_with"] for stage in stages] == [*at, "vector"]

    def test_cut_where_it_cannot_be_leaves_the_model_alone(self, tmp_path: Path) -> None:
        shutil.copy(embedded() / "image.onnx", tmp_path)
        before = (tmp_path / "image.onnx").read_bytes()
        for at in (["embed.out", "block_01.gelu"], ["block_02.out", "block_01.out"], ["embed.out"]):
            words = [word for name in at for word in ("--at", name)]
            answer = edgepact("model", "cut", tmp_path, *words)
            assert (answer.status, answer.out) == (2, "")
            assert answer.err.startswith("edgepact: ")
        assert edgepact("model", "cut", tmp_path, "--list", "--at", "x").status == 2
        assert [path.name for path in tmp_path.iterdir()] == ["image.onnx"]
        assert (tmp_path / "image.onnx").read_bytes() == before

    def test_compress_writes_a_model_and_measures_it(self, tmp_path: Path) -> None:
        images = ("--images-from", samples() / "bag")
        out = tmp_path / "out"
        made = ("model", "compress", embedded(), out, "--method", "structured", "--share", 0.5)
        answer = edgepact(*made, *images, "--json")
        assert answer.status == 0, answer.err
        measured = json.loads(answer.out)
        before, after = (measured[name]["footprint"]["macs"] for name in ("original", "compressed"))
        assert after < before
        assert measured["images"] == 30
        assert edgepact("profile", out, "--repeats", 3, "--json").status == 0
        again = edgepact(*made, *images)
        assert again.status == 2
        assert "expected a new or empty folder" in again.err

    def test_compress_prints_a_table(self, tmp_path: Path) -> None:
        answer = edgepact(
            "model", "compress", embedded(), tmp_path / "out", "--method", "magnitude",
            "--share", 0.3, "--images-from", samples() / "bag",
        )  # fmt: skip
        assert answer.status == 0, answer.err
        assert "fashion-clip-magnitude-0.3" in answer.out
        assert "top-1 agreement" in answer.out

    def test_compress_without_a_method_it_knows(self, tmp_path: Path) -> None:
        answer = edgepact("model", "compress", embedded(), tmp_path / "out", "--method", "zip")
        assert answer.status == 2
        assert "--method: expected int8 or weights8 or weights4 or magnitude or" in answer.err


class TestPromises:
    """An answer that breaks what its mechanism promises is printed, and is no success."""

    def test_a_server_whose_lowest_price_is_above_its_saving(self, tmp_path: Path) -> None:
        text = MARKET.replace("beta = 10.0", "beta = 1.0").replace(
            "price_min = 0.0", "price_min = 3.5"
        )
        path = write(tmp_path, text)
        answer = edgepact("solve", path, "--json")
        assert answer.status == 1
        assert not json.loads(answer.out)["audit"]["budget_balanced"]
        (line,) = answer.err.splitlines()
        assert line.startswith(f"edgepact: {path}: ")
        assert line.endswith("promises: individually rational, budget balanced")
        assert "Audit" in edgepact("solve", path).out

    def test_a_contract_whose_menu_is_not_kept_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path, CONTRACT)
        assert edgepact("solve", path).status == 0
        best = optimum.optimal_menu

        def swapped(contract: optimum.Contract) -> optimum.Menu:
            menu = best(contract)
            return dataclasses.replace(menu, reward=menu.reward[::-1])

        monkeypatch.setattr("edgepact.solutions.contract.optimal_menu", swapped)
        answer = edgepact("solve", path, "--json")
        assert answer.status == 1
        assert json.loads(answer.out)["audit"]["incentive_compatible"] is False
        assert answer.err.count("\n") == 1
        assert "incentive compatible" in answer.err

    def test_a_draw_is_told(self, tmp_path: Path) -> None:
        drawn = CONTRACT.replace("[[type]]", "budget = 0.5\nparticipation_cost = 1.0\n[[type]]", 1)
        path = write(tmp_path, drawn)
        answer = edgepact("solve", path, "--json")
        assert (answer.status, answer.err) == (0, "")
        solution = json.loads(answer.out)
        assert 0.0 < solution["menu"][-1]["probability"] < 1.0
        assert solution["lotteries_are_optimal"] is True
        assert solution["profit_without_lotteries"] < solution["profit"]
        assert "Drawing who is engaged" in edgepact("solve", path).out


CONTRACT = """mechanism = "contract"
quality_max = 10.0
value = { form = "log1p", scale = 10.0 }
cost = { form = "linear" }
[[type]]
cost = 3.0
probability = 0.5
[[type]]
cost = 1.0
probability = 0.5
"""
