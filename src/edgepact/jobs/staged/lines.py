"""Lines of print: images of single lines in, their text out.

For recognisers of the kind of PaddleOCR's: an image of a fixed height and any width goes in, and
for each step along it the likeliest character comes out, or none, and its probability; repeats fall
together (greedy decoding of connectionist temporal classification). Probabilities of all characters
would be megabytes, so the choice among them belongs to the graph. Settings in `stages.json`, where
the first entry of the characters stands for none::

    "reading": {"name": "lines", "height": 48, "characters": ["", "a", "b", " "]}

`ppocr_recogniser` writes the stages of the one in the package `rapidocr` (PP-OCRv6, Apache-2.0).
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from edgepact.errors import InputError
from edgepact.exhibit import Exhibit, named
from edgepact.inference.pictures import decoded, read_picture, thumbnail
from edgepact.inference.stage_folder import STAGES_JSON, StageFolder
from edgepact.jobs.staged.photographs import photographs_in
from edgepact.jobs.staged.place import STAGES, kept_folder
from edgepact.jobs.staged.reading import Answer, Piece, Reading
from edgepact.work import Json

CHARACTERS_MAX = 200_000

WIDTH_MAX = 3200
"""Widest line, pixels at the model's height: what is longer is pressed together."""

WIDTH_LEAST = 16

PACKAGE, MODEL = "rapidocr", "models/PP-OCRv6_rec_small.onnx"


class Lines(Reading):
    """See this module."""

    name = "lines"
    same_words = "same text as the unsplit model"

    def __init__(self, model: StageFolder) -> None:
        super().__init__(model)
        path, settings = model.folder / STAGES_JSON, model.reading
        height, found = settings.get("height"), settings.get("characters")
        if type(height) is not int or not 8 <= height <= 512:
            raise InputError(path, "reading.height", "a number of 8 to 512", height)
        listed = isinstance(found, list) and 2 <= len(found) <= CHARACTERS_MAX
        if not listed or not all(isinstance(each, str) for each in found or ()):
            raise InputError(path, "reading.characters", "a list of characters", found)
        self.characters: tuple[str, ...] = tuple(found or ())
        self._height = height
        shape = model.inputs[0].shape
        fits = len(shape) == 4 and shape[1:3] == (3, height) and isinstance(shape[3], str)
        if len(model.inputs) != 1 or not fits or model.inputs[0].dtype != "float32":
            expected = f"one input of (batch, 3, {height}, any width) float32"
            raise InputError(path, "inputs", expected, f"{model.inputs[0].name} {list(shape)}")
        kinds = [(each.dtype, len(each.shape)) for each in model.outputs]
        if kinds != [("int64", 2), ("float32", 2)]:
            expected = "characters (batch, steps) int64, and their probabilities float32"
            told = "; ".join(f"{each.name} {each.dtype}" for each in model.outputs)
            raise InputError(path, "outputs", expected, told)
        self._best, self._sure = (each.name for each in model.outputs)

    def pieces(self, inputs: Path) -> Sequence[Piece]:
        """Images of a folder, each of one line."""
        return photographs_in(inputs)

    def source(self, piece: Piece) -> bytes:
        """The image file."""
        assert piece.path is not None
        return read_picture(piece.path)

    def exhibit(self, piece: Piece, result: Mapping[str, Json]) -> Exhibit:
        """The image, and what the model found."""
        picture = decoded(self.source(piece), image_size=WIDTH_MAX, source=piece.name)
        answer = named(result["answer"], result["label_true"])
        return Exhibit(answer=answer, picture=thumbnail(picture))

    def tensors(self, source: bytes, *, name: object = "line") -> dict[str, np.ndarray]:
        """The line at the model's height, from -1 to 1, blue first."""
        picture = decoded(source, image_size=WIDTH_MAX, source=name).convert("RGB")
        width, height = picture.size
        wide = round(width * self._height / height)
        size = (min(max(wide, WIDTH_LEAST), WIDTH_MAX), self._height)
        scaled = picture.resize(size, Image.Resampling.BILINEAR)
        values = np.asarray(scaled, np.float32)[:, :, ::-1] / np.float32(127.5) - np.float32(1)
        return {self.model.inputs[0].name: np.ascontiguousarray(values.transpose(2, 0, 1)[None])}

    def answer(self, outputs: Mapping[str, np.ndarray]) -> Answer:
        """The text, and how sure its least sure character is."""
        best, sure = (outputs[name].reshape(-1) for name in (self._best, self._sure))
        if best.size == 0 or best.min() < 0 or best.max() >= len(self.characters):
            raise InputError("model", self._best, "characters that there are", "others")
        if sure.shape != best.shape or not np.isfinite(sure).all():
            raise InputError("model", self._sure, "a probability of each", "others")
        new = np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0)
        text = "".join(self.characters[at] for at in best[new])
        least = round(float(sure[new].min()), 6) if new.any() else 0.0
        return Answer(text=text, facts={"text": text, "least": least})

    def same(self, result: Mapping[str, Json], whole: Answer) -> bool:
        """Whether the text is."""
        return bool((result.get("facts") or {}).get("text") == whole.facts["text"])


def ppocr_recogniser() -> Path:
    """Stages of PP-OCRv6's recogniser, cut from the package `rapidocr` the first time.

    Raises:
        InputError: the package is not installed, or holds another file.
    """
    spec = find_spec(PACKAGE)
    places = (spec.submodule_search_locations or ()) if spec else ()
    found = [Path(place) / MODEL for place in places if (Path(place) / MODEL).is_file()]
    if not found:
        expected = "the package with it: pip install --no-deps rapidocr"
        raise InputError("line recogniser", "model", expected, "none")
    path = found[0]
    with path.open("rb") as file:
        told = hashlib.file_digest(file, "sha256").hexdigest()

    def make(folder: Path) -> None:
        import onnx

        from edgepact.inference.graph import cut_file
        from edgepact.inference.onnx_files import load
        from edgepact.inference.stage_writing import even_cuts

        model = load(path)
        entries = {entry.key: entry.value for entry in model.metadata_props}
        characters = ["", *entries.get("character", "").splitlines(), " "]
        (shares,) = model.graph.output
        dims = [each.dim_param or each.dim_value for each in shares.type.tensor_type.shape.dim[:2]]
        kinds = onnx.TensorProto
        model.graph.node.extend(
            [
                onnx.helper.make_node("ArgMax", [shares.name], ["best"], axis=2, keepdims=0),
                onnx.helper.make_node("ReduceMax", [shares.name], ["sure"], axes=[2], keepdims=0),
            ]
        )
        del model.graph.output[:]
        model.graph.output.extend(
            [
                onnx.helper.make_tensor_value_info("best", kinds.INT64, dims),
                onnx.helper.make_tensor_value_info("sure", kinds.FLOAT, dims),
            ]
        )
        whole = folder / "pp-ocrv6-rec.onnx"
        onnx.save(model, whole)
        reading = {"name": Lines.name, "height": 48, "characters": characters}
        cut_file(whole, even_cuts(whole, STAGES), folder, name=whole.stem, reading=reading)
        whole.unlink()  # the stages have the weights

    return kept_folder(f"ppocr-rec-{told[:16]}", make, path)
