"""all-MiniLM-L6-v2 as a job: its own pipeline's vectors, near where sentences say alike."""

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

from edgepact.errors import InputError, MissingExtraError
from edgepact.inference.codecs import FP16
from edgepact.inference.stage_folder import StageRunner, read_stage_folder
from edgepact.jobs.staged import sentences
from edgepact.jobs.staged.halves import through
from edgepact.jobs.staged.sentences import (
    SENTENCE_BYTES_MAX,
    TOKENIZER,
    Sentences,
    minilm,
    own_sentences,
    sentences_in,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACT_STAGES", str(place))
        return minilm()


@pytest.fixture(scope="module")
def reading(folder: Path) -> Sentences:
    return Sentences(read_stage_folder(folder))


@cache
def runner_of(folder: Path) -> StageRunner:
    return StageRunner(read_stage_folder(folder))


def vector(reading: Sentences, text: str, amount: int) -> np.ndarray:
    runner, stages = runner_of(reading.model.folder), reading.model.stages
    values = runner.run(reading.tensors(text.encode()), 0, amount)
    if amount < stages:
        values = through(reading.model, FP16, amount, values)
    found = reading.answer(runner.run(values, amount, stages)).tensors["vector"]
    return np.asarray(found[0])


def test_vectors_are_those_of_the_whole_model(reading: Sentences) -> None:
    whole = ort.InferenceSession(
        sentences._packaged(sentences.PACKAGE, sentences.MODEL), providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(sentences._packaged(*sentences.OWN_TOKENIZER)))
    tokenizer.no_padding()
    text = "A cat sleeps on the warm roof of the car."
    ids = np.array([tokenizer.encode(text).ids])
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    given["token_type_ids"] = np.zeros_like(ids)
    (tokens,) = whole.run(None, given)
    mean = tokens[0].mean(axis=0)
    right = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(vector(reading, text, 0), right, atol=2e-4)
    for amount in (1, 6, reading.model.stages):
        assert vector(reading, text, amount) @ right > 0.999


def test_operations_are_those_of_the_closed_form(reading: Sentences) -> None:
    macs, length = reading.model.macs, reading.model.sizes["sequence"]
    # Six blocks of width 384 and MLP 1,536: four projections, two of the MLP, scores and mixing.
    block = length * (4 * 384**2 + 2 * 384 * 1536) + 2 * length**2 * 384
    assert macs is not None
    assert sum(macs) == 6 * block


def test_sentences_that_say_alike_are_near(reading: Sentences) -> None:
    cat, kitten, rates = (
        vector(reading, text, 0)
        for text in (
            "A cat sleeps on the warm roof of the car.",
            "The kitten is dozing on top of the automobile.",
            "Interest rates were raised by a quarter of a point.",
        )
    )
    assert cat @ kitten > 0.5 > 0.2 > cat @ rates


def test_a_long_sentence_is_cut_off_and_an_endless_one_refused(reading: Sentences) -> None:
    assert reading.tensors(b"word " * 400)["input_ids"].shape == (1, 256)
    with pytest.raises(InputError, match="at most"):
        reading.tensors(b"x" * (SENTENCE_BYTES_MAX + 1))
    with pytest.raises(InputError, match="UTF-8"):
        reading.tensors(b"\xff\xfe")


def test_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfOne.\r\n\n  Two.  \n")
    assert [each.name for each in sentences_in(path)] == ["One.", "Two."]
    for content in (b"", b"\n\n", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(InputError):
            sentences_in(path)
    assert len(sentences_in(own_sentences())) >= 30


def test_another_tokenizer_is_another_model(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / TOKENIZER).unlink()
    with pytest.raises(InputError, match=TOKENIZER):
        Sentences(read_stage_folder(tmp_path))
    (tmp_path / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes() + b" ")
    with pytest.raises(InputError, match="SHA-256"):
        Sentences(read_stage_folder(tmp_path))


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepact\[sentences\]'"):
        minilm()
