"""The script that makes the embedded model, run as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgepact.inference.pipeline import Pipeline
from edgepact.training import fashion_mnist

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_embedded_clip.py"


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def test_without_the_data_set_it_says_what_to_install(tmp_path):
    result = run_script("--data", tmp_path, "--out", tmp_path / "out", "--smoke")
    assert result.returncode == 2
    assert "apt-get install dataset-fashion-mnist" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.full
@pytest.mark.skipif(
    not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_smoke_run_writes_a_whole_model(tmp_path):
    result = run_script("--smoke", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    model_dir = tmp_path / "fashion_clip"
    assert Pipeline(model_dir).layers_max == 12
    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert 0 < metrics["accuracy"] < 1
    card = (model_dir / "MODEL_CARD.md").read_text()
    assert f"{metrics['accuracy']:.2%}" in card
    assert "not open vocabulary" in card
    assert len(list((tmp_path / "samples").glob("*/*.png"))) == 300
