"""What clients are told of models: metadata and configuration, as the protocol's JSON objects.

Every cut is a model of its own, in one version. Lengths that are free are -1; the first one of
tensors that may come in a batch is.
"""

from collections.abc import Sequence
from dataclasses import replace

import edgepact
from edgepact.tensors import ANY, Codec, TensorSpec
from edgepact.work import ServerPart

VERSION = "1"
"""Of every model: weights are told apart by their digest."""

PLATFORM = "edgepact"

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics")
"""Of the protocol, which this server speaks."""


def server_metadata() -> dict[str, object]:
    """The server's name, version and extensions."""
    return {"name": PLATFORM, "version": edgepact.__version__, "extensions": list(EXTENSIONS)}


def model_metadata(
    part: ServerPart, codecs: Sequence[Codec], name: str, amount: int, *, batches: bool
) -> dict[str, object]:
    """What a model takes and gives.

    Args:
        part: the server's half of the job.
        codecs: the favourite first; inputs and outputs are told as it packs them.
        name: of the model.
        amount: that the client does.
        batches: whether tensors of several pieces may come together.
    """
    takes, gives = part.expects(amount, 0), part.returns(amount)
    parameters: dict[str, object] = {**part.about, "amount": amount, "digest": part.model.digest}
    if any(spec.coded for spec in takes):
        parameters["codecs"] = {
            codec.name: [spec.as_json() for spec in _free(codec.packed(takes), batches)]
            for codec in codecs
        }
    return {
        "name": name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [spec.as_json() for spec in _free(codecs[0].packed(takes), batches)],
        "outputs": [spec.as_json() for spec in _free(codecs[0].packed(gives), batches)],
        "parameters": parameters,
    }


def model_config(
    part: ServerPart, codecs: Sequence[Codec], name: str, amount: int, *, batch_max: int
) -> dict[str, object]:
    """The model's configuration, as Triton names its fields.

    Args:
        part: the server's half of the job.
        codecs: the favourite first.
        name: of the model.
        amount: that the client does.
        batch_max: pieces of a batch; 0 where pieces come one by one, and then dimensions are
            those of whole tensors.
    """
    takes, gives = codecs[0].packed(part.expects(amount, 0)), codecs[0].packed(part.returns(amount))
    first = 1 if batch_max else 0
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"specific": {"versions": [int(VERSION)]}},
        "max_batch_size": batch_max,
        "input": [_port(spec, first) for spec in takes],
        "output": [_port(spec, first) for spec in gives],
        "parameters": {"digest": {"string_value": part.model.digest}},
    }


# ---------------------------------------------------------------- private


def _free(specs: Sequence[TensorSpec], batches: bool) -> list[TensorSpec]:
    return [replace(spec, shape=(ANY, *spec.shape[1:])) if batches else spec for spec in specs]


def _port(spec: TensorSpec, first: int) -> dict[str, object]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape[first:])}
