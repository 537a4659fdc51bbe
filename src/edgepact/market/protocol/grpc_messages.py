"""The Open Inference Protocol's messages over gRPC, read and written.

The messages are tritonclient's (extra `grpc`). They are checked as those over REST are: what is
declared is held against what came.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2, service_pb2

from edgepact.errors import InputError
from edgepact.fields import check_text
from edgepact.market.protocol import oip
from edgepact.market.protocol.messages import NAME_CHARS_MAX, check_piece
from edgepact.tensors import DATATYPES, TensorValue, datatype_of

SERVICE = "inference.GRPCInferenceService"

SOURCE = "infer request"

CONTENTS = {
    "INT8": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "BYTES": "bytes_contents",
}
"""Where a tensor's numbers stand if they do not come raw; FP16 comes raw alone."""


def read(kind: str, content: bytes) -> Any:
    """A message from its bytes.

    Args:
        kind: such as `ModelInferRequest`.
        content: as it came.

    Raises:
        InputError: no such message.
    """
    message = getattr(service_pb2, kind)()
    try:
        message.ParseFromString(content)
    except DecodeError:
        raise InputError(kind, "", "a message of the protocol", "another one") from None
    return message


def infer_request(message: Any) -> oip.InferRequest:
    """A request from a `ModelInferRequest`.

    Raises:
        InputError: malformed, or its tensors do not match their shapes.
    """
    parameters = _parameters("parameters", message.parameters)
    names: list[str] = []
    for each in message.outputs:
        name = _name("outputs", each.name)
        if name in names:
            raise InputError(SOURCE, f"outputs.{name}", "each output once", "it twice")
        names.append(name)
        _parameters(f"outputs.{name}.parameters", each.parameters)
    if len(names) > oip.TENSORS_MAX:
        raise InputError(SOURCE, "outputs", f"at most {oip.TENSORS_MAX}", f"{len(names)}")
    return oip.InferRequest(
        id="" if message.id == "" else check_piece(SOURCE, message.id),
        inputs=_inputs(message.inputs, message.raw_input_contents),
        parameters=parameters,
        outputs=tuple(names) or None,
    )


def infer_response(
    *,
    id: str,
    model: str,
    version: str,
    outputs: Mapping[str, TensorValue],
    parameters: Mapping[str, object],
) -> Any:
    """A `ModelInferResponse` with raw tensors; what no parameter can be travels as JSON text."""
    response = service_pb2.ModelInferResponse(id=id, model_name=model, model_version=version)
    for name, value in parameters.items():
        _tell(response.parameters[name], value)
    for name, tensor in outputs.items():
        shape = [len(tensor)] if isinstance(tensor, tuple) else list(tensor.shape)
        response.outputs.add(name=name, datatype=datatype_of(tensor), shape=shape)
        response.raw_output_contents.append(oip.raw_bytes(tensor))
    return response


def answered(kind: str, table: Mapping[str, object]) -> Any:
    """A message from a JSON object of the same fields; those it has not are left out."""
    message: Message = getattr(service_pb2, kind)()
    return json_format.ParseDict(dict(table), message, ignore_unknown_fields=True)


def config_response(table: Mapping[str, object]) -> Any:
    """A `ModelConfigResponse` from a configuration as JSON."""
    config = json_format.ParseDict(dict(table), model_config_pb2.ModelConfig())
    return service_pb2.ModelConfigResponse(config=config)


def stream_response(response: Any = None, error: str = "") -> Any:
    """A `ModelStreamInferResponse`."""
    return service_pb2.ModelStreamInferResponse(infer_response=response, error_message=error)


# ---------------------------------------------------------------- private


def _inputs(listed: Sequence[Any], raw: Sequence[bytes]) -> dict[str, TensorValue]:
    if not 1 <= len(listed) <= oip.TENSORS_MAX:
        raise InputError(SOURCE, "inputs", f"1 to {oip.TENSORS_MAX} tensors", f"{len(listed)}")
    if raw and len(raw) != len(listed):
        expected = f"{len(listed)}, one for each input, or none"
        raise InputError(SOURCE, "raw_input_contents", expected, f"{len(raw)}")
    tensors: dict[str, TensorValue] = {}
    for index, each in enumerate(listed):
        name = _name("inputs", each.name)
        place = f"inputs.{name}"
        if name in tensors:
            raise InputError(SOURCE, place, "each tensor once", "it twice")
        shape = oip.check_shape(SOURCE, place, list(each.shape))
        _parameters(f"{place}.parameters", each.parameters)
        filled = [field.name for field, _ in each.contents.ListFields()]
        if raw:
            if filled:
                raise InputError(SOURCE, place, "either contents or raw ones", "both")
            content = memoryview(raw[index])
            tensors[name] = oip.from_raw(SOURCE, place, each.datatype, shape, content)
        else:
            tensors[name] = _from_contents(place, each.datatype, shape, each.contents, filled)
    return tensors


def _from_contents(
    place: str, datatype: str, shape: tuple[int, ...], contents: Any, filled: list[str]
) -> TensorValue:
    where = CONTENTS.get(datatype)
    if where is None:
        expected = f"raw contents, or one of {sorted(CONTENTS)}"
        raise InputError(SOURCE, f"{place}.datatype", expected, datatype[:NAME_CHARS_MAX])
    if any(field != where for field in filled):
        raise InputError(SOURCE, f"{place}.contents", where, ", ".join(filled))
    values = getattr(contents, where)
    count = int(np.prod(shape, dtype=object))
    if len(values) != count:
        expected = f"{count} elements for shape {list(shape)}"
        raise InputError(SOURCE, f"{place}.contents", expected, f"{len(values)}")
    if datatype == "BYTES":
        return tuple(values)
    if datatype == "INT8" and any(not -128 <= value <= 127 for value in values):
        raise InputError(SOURCE, f"{place}.contents", "whole numbers from -128 to 127", "others")
    return np.array(values, DATATYPES[datatype]).reshape(shape)


def _name(field: str, name: str) -> str:
    return check_text(SOURCE, f"{field}.name", name, chars_max=NAME_CHARS_MAX)


def _parameters(place: str, told: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, parameter in told.items():
        kind = parameter.WhichOneof("parameter_choice")
        found[name] = None if kind is None else getattr(parameter, kind)
    oip.check_parameters(SOURCE, place, found)
    return found


def _tell(parameter: Any, value: object) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    else:
        parameter.string_param = json.dumps(value, separators=(",", ":"))
