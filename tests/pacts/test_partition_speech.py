"""Partitions of a voice: what scenarios state of it, what is told of sentences, whole runs."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.fields import Table
from edgepact.files.scenario import read_scenario
from edgepact.inference.stage_folder import StageRunner
from edgepact.jobs.speech.reading import Speakable
from edgepact.jobs.speech.sentences import SpeechSettings, read_sentences
from edgepact.jobs.speech.sound import FRAMES_PER_S, as_pcm, as_text, of_pcm, of_text, waveform
from edgepact.jobs.speech.voice import macs_per_frame, read_voice
from edgepact.jobs.staged.reading import Piece
from edgepact.live import speech_report
from edgepact.market.statement import Statement, read_statement
from edgepact.pacts.partition_results import Played
from edgepact.pacts.partition_speech import (
    SPEECH,
    Compared,
    SpeechDone,
    SpokenResult,
    _device,
    compared,
)

SERVER = "[server]\nrevenue = 40.0\nbeta = 2000.0\n"
PRIOR = "[prior]\nalpha_min = 1.0\nalpha_max = 6.0\ncapacity_min = 7e-3\ncapacity_max = 1.2e-2\n"
TOPS = {
    "stackelberg": "",
    "contract": f"{SERVER}{PRIOR}",
    "auction": f'rule = "vcg"\nlayers_total = 14\n{SERVER}{PRIOR}',
}
SOLVERS = {"stackelberg": "golden-section", "contract": "optimum", "auction": "exact"}
JOB = 'name = "speech"\ndevices = 2\nrounds = 2\nseconds = 3\n'
SAID = "Please mind the gap."


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACT_STAGES", str(tmp_path_factory.mktemp("stages")))
        return read_voice(None, SpeechSettings()).folder


def stated(folder: Path, stages: Path, mechanism: str, job: str = JOB) -> Path:
    path = folder / f"{mechanism}.toml"
    path.write_text(
        f'mechanism = "{mechanism}"\n{TOPS[mechanism]}'
        f'[efficiency]\nmethod = "partition"\nmodel = "{stages}"\n'
        f'[solver]\nname = "{SOLVERS[mechanism]}"\n[job]\n{job}'
    )
    return path


@pytest.mark.parametrize("mechanism", list(TOPS))
def test_every_mechanism_prices_the_stages_of_a_frame(
    tmp_path: Path, stages: Path, mechanism: str
) -> None:
    job = f'{JOB}speed = 1.25\naccent = "british"\n'
    scenario = read_scenario(stated(tmp_path, stages, mechanism, job))
    pact, terms = scenario.pact, scenario.terms
    assert pact.name == f"partition-{mechanism}-speech"
    assert terms.units == 3 * FRAMES_PER_S
    assert terms.settings == {"speed": 1.25, "accent": "british"}
    costs = SPEECH.costs(stages, terms.settings)
    assert (costs.layers_max, costs.B, costs.head) == (11, 0.0, 0.0)
    voice = read_voice(stages, SpeechSettings())
    assert sum(macs_per_frame(voice)) == pytest.approx(1e9 * costs.total)
    if mechanism != "stackelberg":  # which is compiled for seconds; the whole runs have it
        assert pact.optimum(terms, None).broken == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seconds = 0", "job.seconds"),
        ("seconds = 3601", "job.seconds"),
        ("speed = 9.0", "job.speed"),
        ('speed = "fast"', "job.speed"),
        ('accent = "klingon"', "job.accent"),
        ("frames = 3", "job.frames"),
        ('prompts_from = "x"', "job.prompts_from"),
    ],
)
def test_what_a_scenario_cannot_state_is_named(
    tmp_path: Path, stages: Path, line: str, expected: str
) -> None:
    job = "\n".join(each for each in JOB.splitlines() if each.split()[0] != line.split()[0])
    with pytest.raises(InputError, match=expected):
        read_scenario(stated(tmp_path, stages, "stackelberg", f"{job}\n{line}\n"))


def test_seconds_are_few_in_small() -> None:
    small, whole = (Table(Path("file"), "job", {"seconds": 600}) for _ in range(2))
    assert SPEECH.read_units(small, smoke=True) < 10 * FRAMES_PER_S
    assert SPEECH.read_units(whole, smoke=False) == 600 * FRAMES_PER_S


def test_sentences_are_shared_out_and_missing_ones_are_told(tmp_path: Path, stages: Path) -> None:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(f"This is sentence {at}." for at in range(20)))
    with SPEECH.shared_out(path, ["a", "b", "c"], per_round=160, rounds=3, seed=0) as shares:
        found = [read_sentences(shares.folders[name]) for name in "abc"]
        assert shares.repeat_rounds == 2
    assert sorted(len(each) for each in found) == [6, 7, 7]
    assert len({line for each in found for line in each}) == 20
    with SPEECH.shared_out(path, ["a"] * 30, per_round=160, rounds=3, seed=0) as shares:
        assert len(read_sentences(shares.folders["a"])) == 20
        assert shares.repeat_rounds == 0
    job = f'{JOB}sentences_from = "none.txt"\n'
    scenario = read_scenario(stated(tmp_path, stages, "stackelberg", job))
    with pytest.raises(InputError, match="sentences_from: expected a file of sentences"):
        scenario.pact.expect_runnable(scenario.terms)  # type: ignore[attr-defined]


def spoken(stages: Path, *, sentence: str = SAID, seed: int = 7) -> SpokenResult:
    """A sentence as a device that did all stages would tell it."""
    voice = read_voice(stages, SpeechSettings())
    reading = Speakable(voice)
    inputs = reading.tensors(reading.source(Piece(name=sentence)))
    pcm = as_pcm(waveform(StageRunner(voice).run(inputs, 0, voice.stages), seed))
    return SpokenResult(
        round=1,
        piece="1-0",
        sentence=sentence,
        phonemes=inputs["ids"].shape[1] - 2,
        frames=len(pcm) // 600,
        seed=seed,
        sound=as_text(pcm),
        alone=False,
        amount=5,
        units=len(pcm) // 600,
        codec="fp16",
        exchanges=1,
        device_seconds=0.02,
        encode_seconds=0.001,
        roundtrip_seconds=0.05,
        server_seconds=0.03,
        compute_seconds=0.02,
        speech_seconds=0.1,
        bytes_sent=1000,
        bytes_received=2000,
        state="paid",
        audited=True,
        paid_microcredits=1_500_000,
    )


def test_sounds_are_held_against_the_unsplit_voice(stages: Path) -> None:
    voice = read_voice(stages, SpeechSettings())
    right = spoken(stages)
    assert compared(voice, [right]) == Compared(
        sentences=1, as_long=1, identical=1, apart=0.0, loudness_db=0.0, energy_db=0.0
    )
    half = as_text((of_pcm(of_text(right.sound)) // 2).astype("<i2").tobytes())
    short = as_text(of_text(right.sound)[: 600 * (right.frames // 2)])
    found = compared(voice, [replace(right, sound=half), replace(right, sound=short)])
    assert (found.sentences, found.as_long, found.identical) == (2, 1, 0)
    assert found.energy_db >= 5.9
    assert 2.0 < found.loudness_db < 6.1  # what is silent stays so


def test_lines_of_sentences_that_were_not_finished_are_passed_over(stages: Path) -> None:
    assert SpokenResult.from_line(json.dumps({"round": 1, "piece": "1-0"})) is None
    whole = spoken(stages)
    assert "sound" not in whole.as_row()
    line = {**whole.as_row(), "sound": whole.sound, "more": 1}
    assert SpokenResult.from_line(json.dumps(line)) == whole


def test_the_report_has_players_and_nothing_of_a_users_text_is_run(
    stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replace(spoken(stages), sentence="<script>alert(1)</script>")
    results = [("cam", result)] * 3
    profile = SPEECH.profile(stages, {}, 1, lambda done, of: None)
    lost = {"cam": "<b>gone</b>"}
    statement = Statement(
        balances={}, debits=0, credits=0, unbalanced=(), jobs={}, audited=3, paid={}, members=()
    )
    work = SpeechDone(
        profile=profile,
        pieces=tuple(results),
        devices=tuple(_device(name, results, profile, lost) for name in ("cam", "idle")),
        played=Played(statement=statement, lost=lost, live_seconds=1.0),
        compared=Compared(
            sentences=3, as_long=3, identical=1, apart=0.1, loudness_db=0.1, energy_db=0.2
        ),
    )
    told = dict(work.rows("as promised"))
    assert told["the same as the unsplit voice's"] == "1 of 3"
    assert told["seconds of sound"] == f"{3 * result.frames / FRAMES_PER_S:.1f}"
    assert 0.3 < work.server_saved < 0.7
    assert "sound" not in work.as_json()["sentences"][0]
    cam, idle = work.devices
    assert (cam.sentences, cam.units, idle.sentences) == (3, 3 * result.frames, 0)
    assert cam.realtime == pytest.approx(result.seconds / 0.041)
    # Two sounds fit, whatever there is besides.
    monkeypatch.setattr(speech_report, "SOUND_BYTES_MAX", 2 * (len(of_text(result.sound)) + 44))
    page = speech_report.told(work, None).made[1]
    assert page.count('<audio controls preload="none"') == 2
    assert page.count('src="data:audio/wav;base64,UklGR') == 2  # RIFF
    assert page.count("src=") == 2
    assert "cam did the first 5 stages of 11, the server the rest and the sound" in page
    assert "<script" not in page


def run(path: Path, out: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edgepact", "run", str(path), "--smoke", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", list(TOPS))
def test_sentences_are_spoken_paid_audited_and_told(
    tmp_path: Path, stages: Path, mechanism: str
) -> None:
    job = f'{JOB}audit_probability = 1.0\ncodec = "fp32"\n'
    told = run(stated(tmp_path, stages, mechanism, job), tmp_path / "out")
    assert "NO" not in told.split("Step 4")[1].split()
    statement = read_statement(f"sqlite:///{tmp_path / 'out' / 'ledger.db'}")
    assert statement.balanced
    assert sum(payment.units for payment in statement.payments) >= 4 * FRAMES_PER_S
    assert statement.jobs.get("forfeit", 0) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    paid = [each for each in metrics["sentences"] if each["state"] == "paid" and each["amount"] > 0]
    assert paid
    assert all(each["audited"] for each in paid)
    assert metrics["compared"]["identical"] == metrics["compared"]["sentences"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<audio" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "sound" not in metrics["sentences"][0]
    rows = (tmp_path / "out" / "sentences.csv").read_text().splitlines()
    assert len(rows) == 1 + len(metrics["sentences"])
