"""Writes a llama model as ONNX stages over one file of weights: embed, blocks, head.

Weights stay packed as they are in the GGUF file (`blocks`), so that nothing is rounded anew; each
stage takes its own out of the one file, so that one set of stages serves every cut. A block has its
keys and values of the tokens before as inputs and outputs, which its user keeps in one buffer.
Beside each block lies the same in three parts, before, in and behind its attention: several texts
pass what is before and behind together, and attend each to its own tokens (`together`).

A folder is written once for a file, under the user's cache, and named after the file's digest. It
holds everything that work needs: stages, weights, `model.json`, and the tokenizer.

This module needs the `onnx` package; what runs stages does not.
"""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgepact.errors import InputError
from edgepact.inference.gguf.blocks import BLOCK, Packed, numbers, packed
from edgepact.inference.gguf.file import GgufFile, GgufTensor, read_gguf
from edgepact.inference.gguf.folder import (
    FORMAT,
    MODEL_JSON,
    TOKENIZER_JSON,
    WEIGHTS,
    around_path,
    attention_path,
    stage_path,
)
from edgepact.inference.gguf.llama import LlamaSizes, llama_sizes, rest_macs_per_stage
from edgepact.inference.gguf.tokenizer import chat_facts, tokenizer_json

ROWS_MAX = 4096
"""Most tokens of a text for which positions are written, if the model knows as many."""

OPSET = 21
CONTRIB = "com.microsoft"
ALIGNMENT = 4096
"""Of weights in their file: pages, so that they can be mapped."""

ROUNDED, WHOLE = 4, 1
"""`accuracy_level` of `MatMulNBits`: its inputs are rounded to 8 bits a block, or stay numbers of
32 bits."""

PRODUCTS = {"fast": (ROUNDED, ROUNDED), "precise": (WHOLE, ROUNDED), "exact": (WHOLE, WHOLE)}
"""How products of blocks, and that of the head, take their inputs. `fast` is what llama.cpp does;
`precise` costs half as much again, and takes the token that the exact model takes wherever that is
sure of it; with `exact`, to compare with other programs, the head alone takes ten times as long."""


def write_stages(
    file: GgufFile, folder: Path, *, source_sha256: str = "", products: str = "fast"
) -> None:
    """Writes a folder of stages.

    Args:
        file: a model of the llama architecture.
        folder: where to, empty or missing.
        source_sha256: of the file, kept in `model.json`.
        products: one of `PRODUCTS`.

    Raises:
        InputError: the file holds no such model, or there are no such products.
        OSError: the folder cannot be written.
    """
    if products not in PRODUCTS:
        raise InputError("stages", "products", f"one of {', '.join(PRODUCTS)}", products)
    sizes = llama_sizes(file)
    tokenizer = tokenizer_json(file)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / WEIGHTS).open("wb") as weights:
        writer = _Writer(file, sizes, weights, folder, products)
        writer.write()
    (folder / TOKENIZER_JSON).write_text(tokenizer, encoding="utf-8")
    with (folder / WEIGHTS).open("rb") as written:
        digest = hashlib.file_digest(written, "sha256")
    facts: dict[str, Any] = {
        "format": FORMAT,
        **asdict(sizes),
        "rows_max": writer.rows,
        **chat_facts(file),
        "weights_sha256": digest.hexdigest(),
        "tokenizer_sha256": hashlib.sha256(tokenizer.encode()).hexdigest(),
        "source_sha256": source_sha256,
        "products": products,
        "rest_macs_per_stage": rest_macs_per_stage(file, sizes),
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (folder / MODEL_JSON).write_text(text, encoding="utf-8")


def kept_stages(path: Path, cache: Path) -> Path:
    """The folder of a GGUF file's stages; written if it is not there yet, at once and whole.

    Args:
        path: a GGUF file.
        cache: folder for such folders.

    Raises:
        InputError: the file holds no such model, or the cache cannot be written.
    """
    file = read_gguf(path)
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = cache / f"{digest[:32]}-{FORMAT}"
    if (folder / MODEL_JSON).is_file():
        return folder
    place = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=cache, prefix=".making-"))
        write_stages(file, place, source_sha256=digest)
        place.chmod(0o755)
        with suppress(OSError):  # somebody else was faster: theirs is the same
            os.replace(place, folder)
        if not (folder / MODEL_JSON).is_file():
            raise InputError(cache, "", "a folder that stages can be put into", f"{folder.name}")
    except OSError as error:
        found = error.strerror or "none"
        raise InputError(cache, "", "a folder that can be written", found) from None
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
    return folder


# ---------------------------------------------------------------- private

_DATATYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int64): TensorProto.INT64,
}


class _Graph:
    """One stage as it grows."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._count = 0

    def add(self, kind: str, inputs: list[str], outputs: int | list[str] = 1, **facts: Any) -> Any:
        """Adds a node; returns the name of its output, or of all of them."""
        if isinstance(outputs, int):
            self._count += 1
            outputs = [f"{kind.lower()}_{self._count}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **facts))
        return outputs[0] if len(outputs) == 1 else outputs

    def small(self, values: list[int]) -> str:
        """A list of whole numbers, such as axes."""
        name = f"numbers_{len(self.weights)}"
        self.weights.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name


class _Writer:
    def __init__(
        self, file: GgufFile, sizes: LlamaSizes, weights: BinaryIO, folder: Path, products: str
    ) -> None:
        self._file, self._sizes, self._weights, self._folder = file, sizes, weights, folder
        self._accuracy, self._accuracy_of_head = PRODUCTS[products]
        self._places: dict[str, tuple[int, np.ndarray]] = {}
        self.rows = min(sizes.context, ROWS_MAX)

    def write(self) -> None:
        """All stages."""
        angles = self._angles()
        self._write_embed()
        for block in range(self._sizes.blocks):
            self._write_block(block, angles)
        self._write_head()

    # ---- weights

    def _put(self, graph: _Graph, name: str, values: np.ndarray, shape: Any = None) -> str:
        """A weight of a stage, in the file once however many stages use it."""
        values = np.ascontiguousarray(values)
        if name not in self._places:
            offset = -(-self._weights.tell() // ALIGNMENT) * ALIGNMENT
            self._weights.write(b"\0" * (offset - self._weights.tell()))
            self._weights.write(values.tobytes())
            self._places[name] = offset, values[:0]
        offset = self._places[name][0]
        tensor = TensorProto()
        local = name if shape is None else f"{name}.flat"
        tensor.name, tensor.data_type = local, _DATATYPES[values.dtype]
        tensor.dims.extend(values.shape if shape is None else shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", offset), ("length", values.nbytes)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        graph.weights.append(tensor)
        return local

    def _angles(self) -> tuple[np.ndarray, np.ndarray]:
        half = self._sizes.head_width // 2
        speeds = self._sizes.rope_base ** (-np.arange(half, dtype=np.float64) / half)
        angles = np.arange(self.rows)[:, None] * speeds
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def _norm(self, graph: _Graph, x: str, name: str) -> str:
        tensor = self._file.tensor(name, (self._sizes.width,))
        scale = self._put(graph, name, numbers(tensor))
        epsilon = self._sizes.epsilon
        return str(
            graph.add(
                "SimplifiedLayerNormalization", [x, scale], axis=-1, epsilon=epsilon, stash_type=1
            )
        )

    def _product(self, graph: _Graph, x: str, name: str, rows: int, columns: int) -> str:
        """x times one matrix."""
        return self._products(graph, x, [(name, rows)], columns)[0]

    def _products(
        self, graph: _Graph, x: str, named: list[tuple[str, int]], columns: int
    ) -> list[str]:
        """x times several matrices; as one, where they are packed alike."""
        tensors = [self._file.tensor(name, (rows, columns)) for name, rows in named]
        matrices = [packed(tensor) for tensor in tensors]
        if None in matrices or len({(m.bits, m.rest is None) for m in matrices if m}) > 1:
            pairs = zip(tensors, matrices, strict=True)
            return [self._one(graph, x, tensor.name, matrix, tensor) for tensor, matrix in pairs]
        found = [matrix for matrix in matrices if matrix is not None]
        rests = [matrix.rest for matrix in found if matrix.rest is not None]
        joined = Packed(
            bits=found[0].bits,
            codes=np.concatenate([matrix.codes for matrix in found]),
            scales=np.concatenate([matrix.scales for matrix in found]),
            rest=np.concatenate(rests, axis=1) if rests else None,
        )
        product = self._one(graph, x, "+".join(name for name, _ in named), joined, tensors[0])
        if len(named) == 1:
            return [product]
        lengths = graph.small([rows for _, rows in named])
        return list(graph.add("Split", [product, lengths], len(named), axis=-1))

    def _one(
        self, graph: _Graph, x: str, name: str, matrix: Packed | None, tensor: GgufTensor
    ) -> str:
        if matrix is None:
            values = numbers(tensor).T
            return str(graph.add("MatMul", [x, self._put(graph, f"{name}.T", values)]))
        rows, blocks = matrix.scales.shape
        codes = self._put(graph, f"{name}.codes", matrix.codes)
        scales = self._put(graph, f"{name}.scales", matrix.scales, [rows * blocks])
        product = graph.add(
            "MatMulNBits",
            [x, codes, scales],
            domain=CONTRIB,
            K=blocks * BLOCK,
            N=rows,
            bits=matrix.bits,
            block_size=BLOCK,
            accuracy_level=self._accuracy,
        )
        if matrix.rest is None:
            return str(product)
        parted = graph.add("Reshape", [x, graph.small([0, 0, blocks, BLOCK])])
        sums = graph.add("ReduceSum", [parted, graph.small([-1])], keepdims=0)
        rest = graph.add("MatMul", [sums, self._put(graph, f"{name}.rest", matrix.rest)])
        return str(graph.add("Add", [product, rest]))

    # ---- stages

    def _write_embed(self) -> None:
        graph, sizes = _Graph(), self._sizes
        name = "token_embd.weight"
        tensor = self._file.tensor(name, (sizes.vocabulary, sizes.width))
        matrix = packed(tensor)
        if matrix is None:
            table = self._put(graph, name, numbers(tensor))
            graph.add("Gather", [table, "tokens"], ["hidden"])
        else:
            self._gather(graph, name, matrix)
        self._save(
            graph,
            0,
            [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "chunk"])],
            [_value("hidden", sizes.width)],
        )

    def _gather(self, graph: _Graph, name: str, matrix: Packed) -> None:
        """Rows of a packed table."""
        codes = self._put(graph, f"{name}.codes", matrix.codes)
        scales = self._put(graph, f"{name}.scales", matrix.scales)
        rows = graph.add("Gather", [codes, "tokens"])
        if matrix.bits == 4:
            sixteen = _constant(graph, "sixteen", np.uint8(16))
            high = graph.add("Div", [rows, sixteen])
            low = graph.add("Sub", [rows, graph.add("Mul", [high, sixteen])])
            last = graph.small([-1])
            halves = [graph.add("Unsqueeze", [each, last]) for each in (low, high)]
            both = graph.add("Concat", halves, axis=-1)
            rows = graph.add("Reshape", [both, graph.small([0, 0, 0, BLOCK])])
        zero = _constant(graph, "zero", np.float32(8 if matrix.bits == 4 else 128))
        centred = graph.add("Sub", [graph.add("Cast", [rows], to=TensorProto.FLOAT), zero])
        last = graph.small([-1])
        scale = graph.add("Unsqueeze", [graph.add("Gather", [scales, "tokens"]), last])
        values = graph.add("Mul", [centred, scale])
        if matrix.rest is not None:
            # A rest of (8 d + m), for each number of the block.
            rest = self._put(graph, f"{name}.rest-by-token", matrix.rest.T)
            added = graph.add("Unsqueeze", [graph.add("Gather", [rest, "tokens"]), last])
            values = graph.add("Add", [values, added])
        graph.add("Reshape", [values, graph.small([0, 0, self._sizes.width])], ["hidden"])

    def _write_block(self, block: int, angles: tuple[np.ndarray, np.ndarray]) -> None:
        graph, sizes = _Graph(), self._sizes
        start = f"blk.{block}."
        normed = self._norm(graph, "hidden", f"{start}attn_norm.weight")
        query, key, value = self._products(
            graph,
            normed,
            [
                (f"{start}attn_q.weight", sizes.width),
                (f"{start}attn_k.weight", sizes.width_kv),
                (f"{start}attn_v.weight", sizes.width_kv),
            ],
            sizes.width,
        )
        cos, sin = (
            self._put(graph, name, values)
            for name, values in zip(("rope.cos", "rope.sin"), angles, strict=True)
        )
        before = list(graph.nodes)
        mixed = self._attention(graph, [query, key, value], cos, sin)
        attention = graph.nodes[-1]
        out = self._product(graph, mixed, f"{start}attn_output.weight", sizes.width, sizes.width)
        summed = graph.add("Add", ["hidden", out])
        normed = self._norm(graph, summed, f"{start}ffn_norm.weight")
        gate, up = self._products(
            graph,
            normed,
            [(f"{start}ffn_gate.weight", sizes.mlp), (f"{start}ffn_up.weight", sizes.mlp)],
            sizes.width,
        )
        opened = graph.add("Mul", [gate, graph.add("Sigmoid", [gate])])
        inner = graph.add("Mul", [opened, up])
        down = self._product(graph, inner, f"{start}ffn_down.weight", sizes.width, sizes.mlp)
        graph.add("Add", [summed, down], ["hidden_next"])
        hidden, following = _value("hidden", sizes.width), _value("hidden_next", sizes.width)
        past, present = self._caches()
        self._save(graph, block + 1, [hidden, *past], [following, *present])
        self._save_around(graph, block + 1, before, attention)
        if block == 0:
            self._save_attention(attention, graph)

    def _attention(self, graph: _Graph, triple: list[str], cos: str, sin: str) -> str:
        """Of queries, keys and values; or of all three side by side, named once."""
        mixed, *_ = graph.add(
            "GroupQueryAttention",
            [*triple, "past_key", "past_value", "last", "total", cos, sin],
            ["mixed", "present_key", "present_value"],
            domain=CONTRIB,
            num_heads=self._sizes.heads,
            kv_num_heads=self._sizes.heads_kv,
            do_rotary=1,
            rotary_interleaved=1,  # GGUF has rotated pairs side by side
        )
        return str(mixed)

    def _caches(self) -> tuple[list[Any], list[Any]]:
        """Keys and values as they come in, with their length, and as they go out."""
        sizes = self._sizes
        cache: list[str | int | None] = ["batch", sizes.heads_kv, "rows", sizes.head_width]
        past, present = (
            [
                helper.make_tensor_value_info(f"{when}_{what}", TensorProto.FLOAT, cache)
                for what in ("key", "value")
            ]
            for when in ("past", "present")
        )
        past += [
            helper.make_tensor_value_info("last", TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info("total", TensorProto.INT32, [1]),
        ]
        return past, present

    def _save_around(self, graph: _Graph, stage: int, before: list[Any], attention: Any) -> None:
        """What a block computes before its attention, and behind it."""
        sizes, triple = self._sizes, list(attention.input[:3])
        first = _Graph()
        first.weights, first.nodes = graph.weights, list(before)
        last = before[-1]
        if last.op_type == "Split" and list(last.output) == triple:
            first.nodes[-1] = helper.make_node("Identity", [last.input[0]], ["projected"])
        else:
            first.add("Concat", triple, ["projected"], axis=-1)
        hidden, mixed = _value("hidden", sizes.width), _value("mixed", sizes.width)
        projected = _value("projected", sizes.width + 2 * sizes.width_kv)
        path = around_path(self._folder, stage, behind=False)
        self._save_as(path, first, [hidden], [projected])
        rest = _Graph()
        rest.weights, rest.nodes = graph.weights, graph.nodes[len(before) + 1 :]
        path = around_path(self._folder, stage, behind=True)
        self._save_as(path, rest, [hidden, mixed], [_value("hidden_next", sizes.width)])

    def _save_attention(self, attention: Any, block: _Graph) -> None:
        graph, sizes = _Graph(), self._sizes
        graph.weights = block.weights
        self._attention(graph, ["projected", "", ""], *attention.input[-2:])
        past, present = self._caches()
        projected = _value("projected", sizes.width + 2 * sizes.width_kv)
        outputs = [_value("mixed", sizes.width), *present]
        self._save_as(attention_path(self._folder), graph, [projected, *past], outputs)

    def _write_head(self) -> None:
        graph, sizes = _Graph(), self._sizes
        self._accuracy = self._accuracy_of_head
        normed = self._norm(graph, "hidden", "output_norm.weight")
        name = "token_embd.weight" if sizes.tied else "output.weight"
        logits = self._product(graph, normed, name, sizes.vocabulary, sizes.width)
        graph.add("Identity", [logits], ["logits"])
        self._save(
            graph,
            sizes.blocks + 1,
            [_value("hidden", sizes.width)],
            [_value("logits", sizes.vocabulary)],
        )

    def _save(self, graph: _Graph, stage: int, inputs: list[Any], outputs: list[Any]) -> None:
        self._save_as(stage_path(self._folder, stage), graph, inputs, outputs)

    def _save_as(self, path: Path, graph: _Graph, inputs: list[Any], outputs: list[Any]) -> None:
        # Weights that no node of this stage reads would only be looked up.
        read = {name for node in graph.nodes for name in node.input}
        weights = [each for each in graph.weights if each.name in read]
        made = helper.make_graph(graph.nodes, path.stem, inputs, outputs, weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(made, opset_imports=opsets, producer_name="edgepact")
        model.ir_version = 10
        onnx.save(model, path)


def _value(name: str, width: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "chunk", width])


def _constant(graph: _Graph, name: str, value: Any) -> str:
    kind = _DATATYPES[np.dtype(value.dtype)]
    graph.weights.append(helper.make_tensor(name, kind, [], [value.item()]))
    return name
