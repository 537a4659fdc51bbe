"""The two halves of a model in stages."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.exhibit import Exhibit
from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.digests import digest_of_stages
from edgepact.inference.sketch import sketch
from edgepact.inference.stage_folder import Handed, StageFolder, StageRunner
from edgepact.inference.tolerances import Tolerances, read_tolerances
from edgepact.jobs.staged.evidence import deviation, kept
from edgepact.jobs.staged.reading import Answer, Piece, reading_of
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import NEAR_REPEAT_DISTANCE, Json, Model, Reply, ServerAway, Work

SOURCE = "source"
"""Name of the tensor that a piece travels in as it is."""

EDITION = 2
"""Of what is measured of a model: what lies in folders from before is measured anew."""

POWER_LEAST = 0.01
"""Of an audit; where measuring found none at all, no rate is enough, and the market says so."""


class _Half:
    """What both sides share: the stages, the reading, and what travels between them."""

    def __init__(self, folder: StageFolder) -> None:
        self.folder = folder
        self.reading = reading_of(folder)
        self.runner = StageRunner(folder)
        self._digest = digest_of_stages(folder.folder)

    @property
    def model(self) -> Model:
        """The model it holds."""
        return Model(name=self.folder.name, amount_max=self.folder.stages, digest=self._digest)

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """The tensors that a piece brings."""
        if amount == 0:
            return (TensorSpec(name=SOURCE, datatype="BYTES", shape=(1,)),)
        coded = amount < self.folder.stages
        return tuple(each.spec(coded=coded) for each in self.folder.handed(amount))

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """What the reading hands back."""
        return tuple(each.spec(coded=False) for each in self.reading.returned())

    def _read_in(self, source: bytes, name: object) -> dict[str, np.ndarray]:
        """The model's inputs, as a piece has them."""
        found = self.reading.tensors(source, name=name)
        return self.folder.checked(self.folder.inputs, found, name)

    def _device_part(self, source: bytes, amount: int, name: object) -> dict[str, np.ndarray]:
        """What is handed over after the device's stages."""
        return self.runner.run(self._read_in(source, name), 0, amount)


class StagedDevice(_Half):
    """What a device works on, and the stages it runs on it.

    Args:
        folder: stages of a model.
        inputs: what the model's reading reads; None for its own.

    Raises:
        InputError: there is nothing to work on, or no usable model.
        MissingExtraError: the reading needs what is not installed.
    """

    def __init__(self, folder: StageFolder, inputs: Path | None) -> None:
        super().__init__(folder)
        reading = self.reading
        self._pieces = list(reading.own_pieces() if inputs is None else reading.pieces(inputs))

    def pieces(self) -> Sequence[Piece]:
        """All that the reading finds."""
        return self._pieces

    def prepare(self, amount: int) -> None:
        """Opens the device's stages."""
        self.runner.load(range(amount))

    def work(self, piece: Piece, amount: int) -> Work:
        """Sends the piece or what its stages make of it; is told the answer."""
        start_s = time.perf_counter()
        source = self.source(piece)
        if amount == 0:
            sent: Tensors = {SOURCE: (source,)}
            values = {}
        else:
            values = self._device_part(source, amount, piece.name)
            handed = self.folder.handed(amount)
            sent = {each.name: each.to_wire(values[each.name]) for each in handed}
        device_s, alone = time.perf_counter() - start_s, False
        try:
            reply = yield sent
            answer = _told(reply, self.reading.returned())
        except ServerAway:
            values = values or self._read_in(source, piece.name)
            outputs = self.runner.run(values, amount, self.folder.stages)
            answer, alone = self.reading.answer(outputs), True
        return {
            "file": piece.name,
            "label_true": piece.label,
            "answer": answer.text,
            "facts": dict(answer.facts),
            "alone": alone,
            "source_bytes": len(source),
            **self.reading.result(piece, answer.tensors),
            "device_seconds": device_s,
        }

    def source(self, piece: Piece) -> bytes:
        """The piece as it is."""
        return self.reading.source(piece)

    def exhibit(self, piece: Piece, result: Mapping[str, Json]) -> Exhibit:
        """What the reading shows of it."""
        return self.reading.exhibit(piece, result)


class StagedServer(_Half):
    """The model, cut everywhere. Used by one thread; pieces are worked one by one.

    Args:
        folder: stages of a model.

    Raises:
        InputError: it is no usable model.
        MissingExtraError: the reading needs what is not installed.
    """

    def __init__(self, folder: StageFolder) -> None:
        super().__init__(folder)
        self._known: Tolerances | None = None

    @property
    def about(self) -> Mapping[str, Json]:
        """Its reading, and how many stages it has."""
        return {"reading": self.reading.name or "arrays", "stages": self.folder.stages}

    @property
    def audit_power(self) -> float:
        """Least share of audits, at any cut, that found the least noticeable cheat."""
        return max(self._tolerances().power, POWER_LEAST)

    def warm(self) -> None:
        """Opens every stage, and measures the model's tolerances unless its folder has them."""
        self.runner.load(range(self.folder.stages))
        self._tolerances()

    def begin(self, amount: int, seed: int) -> int:
        """All that is kept of a piece is where it is cut."""
        return amount

    def answer(self, batch: Sequence[tuple[int, Tensors]]) -> list[Reply | InputError]:
        """The answer to each piece."""
        return [self._answered(amount, sent) for amount, sent in batch]

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """About 1 KB of each tensor of the cut; nothing where the piece itself came."""
        if amount == 0:
            return b""
        return kept(self.folder.handed(amount), self._values(amount, sent), key)

    def passes_audit(
        self,
        amount: int,
        evidence: Sequence[bytes],
        source: bytes,
        *,
        seed: int,
        codec: Codec,
        key: bytes,
    ) -> bool:
        """Whether what came is what the device's stages make of the piece."""
        if amount == 0:
            return True
        if len(evidence) != 1:
            return False
        own = self._device_part(source, amount, "source")
        seen = through(self.folder, codec, amount, own)
        apart = deviation(evidence[0], self.folder.handed(amount), seen, key)
        return apart <= self._tolerance(amount, codec)

    # ------------------------------------------------------------ private

    def _answered(self, amount: int, sent: Tensors) -> Reply | InputError:
        try:
            values = self._values(amount, sent)
            outputs = self.runner.run(values, amount, self.folder.stages)
            answer = self.reading.answer(outputs)
        except InputError as error:
            return error
        wanted = {each.name: each for each in self.reading.returned()}
        return Reply(
            outputs={name: wanted[name].to_wire(answer.tensors[name]) for name in wanted},
            units=answer.units,
            told={"answer": answer.text, "facts": json.dumps(dict(answer.facts))},
            sketch=self._sketch(outputs),
        )

    def _values(self, amount: int, sent: Tensors) -> dict[str, np.ndarray]:
        """What the server's half starts from, checked."""
        if amount == 0:
            (source,) = sent[SOURCE]
            return self._read_in(bytes(source), SOURCE)
        handed = self.folder.handed(amount)
        found = {each.name: each.of_wire(np.asarray(sent[each.name])) for each in handed}
        return self.folder.checked(handed, found, "infer request")

    def _sketch(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        return self._sketched(self.reading.alike(outputs))

    def _sketched(self, vector: np.ndarray | None) -> np.ndarray | None:
        """The sketch of a piece by its vector, in the unit of near repeats."""
        distance = self._tolerances().repeat_distance
        if vector is None or not distance:
            return None
        return sketch(vector) * np.float32(NEAR_REPEAT_DISTANCE / distance)

    def _tolerance(self, amount: int, codec: Codec) -> float:
        margin = self._tolerances().of(amount, codec.name)
        if margin is None and codec not in BUILT_IN:
            extra = self._measured((codec,))
            margins = self._tolerances().margins + extra.margins
            self._known = replace(self._tolerances(), margins=margins)
            margin = extra.of(amount, codec.name)
        # None: it could not express what was measured with.
        return codec.tolerance if margin is None else margin.tolerance

    def _tolerances(self) -> Tolerances:
        """What lies in the model's folder; else it is measured, and kept there if it can be."""
        if self._known is None:
            self._known = read_tolerances(self.folder.folder, self._measured_of)
        if self._known is None:
            self._known = self._measured(BUILT_IN)
            with suppress(OSError):
                self._known.write(self.folder.folder)
        return self._known

    def _measured(self, codecs: Sequence[Codec]) -> Tolerances:
        # Only a server needs this, and the ONNX package with it; a device could not import it.
        from edgepact.jobs.staged.measuring import measured

        return measured(self.folder, self.reading, model_digest=self._measured_of, codecs=codecs)

    @property
    def _measured_of(self) -> str:
        return f"{EDITION} {self._digest}"


def through(
    folder: StageFolder, codec: Codec, amount: int, values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Tensors of a cut as a codec hands them on; those of all stages pass by.

    Raises:
        InputError: the codec cannot express a number.
    """
    handed = folder.handed(amount)
    specs = [each.spec(coded=amount < folder.stages) for each in handed]
    sent: Tensors = {each.name: each.to_wire(values[each.name]) for each in handed}
    came = codec.unpack(codec.pack(sent, specs), specs)
    return {each.name: each.of_wire(np.asarray(came[each.name])) for each in handed}


# ---------------------------------------------------------------- private


def _told(reply: Reply, returned: Sequence[Handed]) -> Answer:
    """What the server said; a device believes it, but expects no more than JSON."""
    try:
        facts = json.loads(str(reply.told.get("facts", "{}")))
    except (ValueError, RecursionError):
        facts = {}
    return Answer(
        text=str(reply.told.get("answer", "")),
        facts=facts if isinstance(facts, dict) else {},
        tensors={
            each.name: each.of_wire(np.asarray(reply.outputs[each.name]))
            for each in returned
            if each.name in reply.outputs
        },
    )
