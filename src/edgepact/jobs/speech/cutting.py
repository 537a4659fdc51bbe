"""Writes the stages of a voice, once for each file. Needs the ONNX package; running them does not.

The graph is changed in one place: a phoneme lasts as long as the exponential of what the network
says, which nothing bounds, so that a stranger's activations could ask for hours of sound. It is
bounded here, far above what anybody speaks.
"""

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgepact.errors import InputError
from edgepact.inference.counting import node_counts, summed
from edgepact.inference.cuts import chosen_cuts
from edgepact.inference.graph import cut_file
from edgepact.inference.onnx_files import load, read_model
from edgepact.inference.sizes import LENGTH, Sizes
from edgepact.inference.stage_folder import is_stage_folder, read_stage_folder
from edgepact.inference.stages import stage_nodes
from edgepact.inference.wiring import Inputs, Wiring
from edgepact.jobs.speech.phonemes import PHONEMES_KNOWN
from edgepact.jobs.speech.sentences import PHONEMES_MAX
from edgepact.jobs.speech.sound import FRAMES_MAX, PITCH, SPECTRA
from edgepact.jobs.speech.voice import CUTS, EXACT, FRAMES

FORMAT = 1
"""Of the folders; those of another are written anew."""

LASTS_MAX = 60
"""Longest that a phoneme may last, in the 25 ms of this network: one and a half seconds."""

PHONEMES_COUNTED, FRAMES_COUNTED = 54, 2 * LENGTH
"""Of the reference sentence: about as many frames a phoneme as sentences have. How many of the
network's 25 ms there are only running tells; counting takes them for `LENGTH`."""

_LIMIT = "edgepact.lasts_max"


def kept_stages(path: Path, cache: Path) -> Path:
    """The folder of a voice's stages; written if it is not there yet, at once and whole.

    Args:
        path: an ONNX file.
        cache: folder for such folders.

    Raises:
        InputError: it is no voice of this kind, or the cache cannot be written.
    """
    model = load(path)
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = cache / f"{digest[:32]}-speech-{FORMAT}"
    if is_stage_folder(folder):
        return folder
    outputs = {each.name for each in model.graph.output}
    inputs = [each.name for each in model.graph.input]
    if not {*SPECTRA, PITCH} <= outputs or inputs != ["ids", "speed"]:
        expected = f"a voice: inputs ids and speed, outputs {', '.join(SPECTRA)} and {PITCH}"
        raise InputError(path, "graph", expected, "others")
    _expect_known_phonemes(model, path)
    _bound_durations(model, path)
    place = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=cache, prefix=".making-"))
        bounded = place / "voice.onnx"
        bounded.write_bytes(model.SerializeToString())
        cut_file(bounded, CUTS, place, name=path.stem)
        _describe(bounded, place)
        bounded.unlink()
        place.chmod(0o755)
        with suppress(OSError):  # somebody else was faster: theirs is the same
            os.replace(place, folder)
        if not is_stage_folder(folder):
            raise InputError(cache, "", "a folder that stages can be put into", f"{folder.name}")
    except OSError as error:
        found = error.strerror or "none"
        raise InputError(cache, "", "a folder that can be written", found) from None
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
    return folder


def _expect_known_phonemes(model: onnx.ModelProto, path: Path) -> None:
    """A number of a phoneme that is looked up must be one that the voice has."""
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    tables = [
        sizes.get(node.input[0], [0])[0]
        for node in model.graph.node
        if node.op_type == "Gather" and node.input[1] == "ids"
    ]
    if not tables or min(tables) < PHONEMES_KNOWN:
        expected = f"embeddings of {PHONEMES_KNOWN} phonemes"
        raise InputError(path, "graph", expected, f"{tables}")


def _describe(path: Path, folder: Path) -> None:
    """Says in the folder what no codec may pack, how long a sentence may be, what stages cost."""
    model = read_model(path)
    wiring = Wiring.of(model.graph, Inputs.of(model, path), path)
    cuts = chosen_cuts(wiring, CUTS, path, "stages")
    sizes = Sizes.of(model, {"L": PHONEMES_COUNTED}, path)
    counts = node_counts(wiring, sizes)
    totals = [summed(counts, nodes) for nodes in stage_nodes(wiring, cuts)]
    for missing in [each for total in totals for each in total.uncounted][:1]:
        expected = f"operations of {missing.operator} that can be counted"
        raise InputError(path, f"node {missing.node}", expected, f"none: {missing.reason}")
    found = read_stage_folder(folder)
    marked = [tuple(replace(each, exact=each.name in EXACT) for each in cut) for cut in found.cuts]
    frames = {
        size for cut in marked[1:] for each in cut for size in each.shape if isinstance(size, str)
    }
    replace(
        found,
        cuts=tuple(marked),
        macs=tuple(total.macs for total in totals),
        sizes={"L": PHONEMES_COUNTED, FRAMES: FRAMES_COUNTED},
        most={**found.most, "L": PHONEMES_MAX + 2, **dict.fromkeys(sorted(frames), FRAMES_MAX)},
    ).write()


def _bound_durations(model: onnx.ModelProto, path: Path) -> None:
    """Bounds what a phoneme lasts."""
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "Round"}
    found = [
        node
        for node in model.graph.node
        if node.op_type == "Clip" and node.input[0] in rounded and not any(node.input[2:])
    ]
    if len(found) != 1:
        expected = "one place at which durations are rounded and kept above 0"
        raise InputError(path, "graph", expected, f"{len(found)}")
    (clip,) = found
    least = clip.input[1]
    del clip.input[1:]
    clip.input.extend([least, _LIMIT])
    limit = numpy_helper.from_array(np.array(LASTS_MAX, np.float32), _LIMIT)
    model.graph.initializer.append(limit)
