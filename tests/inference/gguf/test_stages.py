"""A language model from a GGUF file to stages: exact weights, split as whole, hostile files."""

import os
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.inference.decoder import CHUNK_MAX, Decoder, States
from edgepact.inference.gguf.blocks import numbers, packed
from edgepact.inference.gguf.file import read_gguf
from edgepact.inference.gguf.folder import (
    MODEL_JSON,
    WEIGHTS,
    TextModel,
    read_text_model,
    stage_path,
)
from edgepact.inference.gguf.known import text_model
from edgepact.inference.gguf.llama import llama_sizes
from edgepact.inference.gguf.stages import kept_stages, write_stages
from tests.tiny_llama import write_tiny_llama

TOKENS = [5, 99, 120, 7, 260, 33, 44, 8]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(tiny: Path) -> TextModel:
    write_stages(read_gguf(tiny), tiny.parent / "stages")
    return read_text_model(tiny.parent / "stages")


def exact_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """The model in plain NumPy, from the `gguf` package's own numbers."""
    file = read_gguf(path)
    sizes = llama_sizes(file)
    weights = {
        each.name: gguf.quants.dequantize(each.data, each.tensor_type).astype(np.float64)
        for each in gguf.GGUFReader(path).tensors
    }

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + sizes.epsilon) * weights[name]

    half = sizes.head_width // 2
    angle = np.arange(len(tokens))[:, None] * sizes.rope_base ** (-np.arange(half) / half)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

    def turned(x: np.ndarray) -> np.ndarray:
        left, right = x[..., 0::2], x[..., 1::2]
        pairs = np.stack([left * cos - right * sin, left * sin + right * cos], -1)
        return pairs.reshape(x.shape)

    x = weights["token_embd.weight"][tokens]
    count = len(tokens)
    for block in range(sizes.blocks):
        at = f"blk.{block}."
        normed = norm(x, f"{at}attn_norm.weight")
        query, key, value = (
            (normed @ weights[f"{at}attn_{name}.weight"].T).reshape(count, -1, sizes.head_width)
            for name in "qkv"
        )
        shared = sizes.heads // sizes.heads_kv
        key, value = np.repeat(turned(key), shared, 1), np.repeat(value, shared, 1)
        scores = np.einsum("qhd,khd->hqk", turned(query), key) / np.sqrt(sizes.head_width)
        scores += np.triu(np.full((count, count), -np.inf), 1)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", share, value).reshape(count, -1)
        x = x + mixed @ weights[f"{at}attn_output.weight"].T
        normed = norm(x, f"{at}ffn_norm.weight")
        gate = normed @ weights[f"{at}ffn_gate.weight"].T
        inner = gate / (1 + np.exp(-gate)) * (normed @ weights[f"{at}ffn_up.weight"].T)
        x = x + inner @ weights[f"{at}ffn_down.weight"].T
    head = "token_embd.weight" if sizes.tied else "output.weight"
    return norm(x, "output_norm.weight") @ weights[head].T


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_0", "Q4_1", "Q8_0"])
def test_numbers_are_those_of_the_gguf_package(tmp_path: Path, kind: str) -> None:
    path = write_tiny_llama(tmp_path / "x.gguf", kind=kind, embedding=kind, blocks=1)
    theirs = {each.name: each for each in gguf.GGUFReader(path).tensors}
    for name, tensor in read_gguf(path).tensors.items():
        expected = gguf.quants.dequantize(theirs[name].data, theirs[name].tensor_type)
        assert np.array_equal(numbers(tensor), expected.reshape(tensor.shape))
        matrix = packed(tensor) if len(tensor.shape) == 2 else None
        if matrix is None:
            continue
        codes = matrix.codes
        if matrix.bits == 4:
            codes = np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:2], 32)
        centred = codes.astype(np.float32) - (8 if matrix.bits == 4 else 128)
        values = centred * matrix.scales[..., None]
        if matrix.rest is not None:
            values = values + matrix.rest.T[..., None]
        assert np.allclose(values.reshape(tensor.shape), expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("kind", "embedding", "tied", "near"),
    [
        ("F32", "F16", True, 1e-4),
        ("Q4_1", "Q8_0", True, 0.1),
        ("Q4_0", "Q4_0", True, 0.1),
        ("Q8_0", "Q4_1", False, 0.1),
    ],
)
def test_logits_are_those_of_the_plain_model(
    tmp_path: Path, kind: str, embedding: str, tied: bool, near: float
) -> None:
    path = write_tiny_llama(
        tmp_path / "x.gguf", kind=kind, embedding=embedding, tied=tied, blocks=2
    )
    write_stages(read_gguf(path), tmp_path / "stages")
    decoder = Decoder(read_text_model(tmp_path / "stages"))
    state = States(decoder.model).new(range(1, 3))
    found = decoder.logits(decoder.blocks(state, decoder.embed(np.array(TOKENS))))
    expected = exact_logits(path, TOKENS)
    # Inputs of packed products are rounded to 8 bits.
    assert np.abs(found - expected).max() <= near * np.abs(expected).max()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_exact_products_are_the_plain_models(tmp_path: Path, kind: str) -> None:
    path = write_tiny_llama(tmp_path / "x.gguf", kind=kind, embedding="Q8_0", blocks=2)
    expected = exact_logits(path, TOKENS)
    apart = []
    for products in ("fast", "precise", "exact"):
        folder = tmp_path / products
        write_stages(read_gguf(path), folder, products=products)
        decoder = Decoder(read_text_model(folder))
        state = States(decoder.model).new(range(1, 3))
        found = decoder.logits(decoder.blocks(state, decoder.embed(np.array(TOKENS))))
        apart.append(float(np.abs(found - expected).max() / np.abs(expected).max()))
    assert apart[2] <= 1e-4
    assert apart[2] < apart[1] < apart[0]
    digests = {read_text_model(tmp_path / each).digest for each in ("fast", "precise", "exact")}
    assert len(digests) == 3
    with pytest.raises(InputError, match="products"):
        write_stages(read_gguf(path), tmp_path / "other", products="quick")


def test_all_multiplications_are_counted(tmp_path: Path) -> None:
    for kind, rest in (("Q4_1", 1), ("Q8_0", 0)):
        path = write_tiny_llama(tmp_path / f"{kind}.gguf", kind=kind, embedding="Q8_0", blocks=2)
        write_stages(read_gguf(path), tmp_path / kind)
        model = read_text_model(tmp_path / kind)
        # An independent count: of every product in the stages as they were written.
        for stage, counted in enumerate(model.macs_per_stage(0)):
            graph = onnx.load(stage_path(model.folder, stage), load_external_data=False).graph
            shapes = {each.name: list(each.dims) for each in graph.initializer}
            found = 0
            for node in graph.node:
                facts = {each.name: each.i for each in node.attribute}
                if node.op_type == "MatMulNBits":
                    found += facts["K"] * facts["N"]
                elif node.op_type == "MatMul":
                    found += int(np.prod(shapes[node.input[1]]))
                    assert rest
            assert found == counted


def test_split_equals_whole_in_every_bit_at_every_cut(model: TextModel) -> None:
    decoder, states = Decoder(model), States(model)
    last = model.sizes.blocks + 1

    def run(cut: int) -> np.ndarray:
        left, right = states.new(range(1, cut + 1)), states.new(range(cut + 1, last))
        found = []
        for chunk in (TOKENS[:5], *([each] for each in TOKENS[5:])):
            hidden = decoder.blocks(left, decoder.embed(np.array(chunk)))
            found.append(decoder.logits(decoder.blocks(right, hidden)))
        return np.concatenate(found)

    whole = run(0)
    for cut in range(1, last):
        assert np.array_equal(run(cut), whole)


def test_going_back_and_growing_change_nothing(model: TextModel) -> None:
    decoder, states = Decoder(model), States(model)
    rng = np.random.default_rng(0)
    text = rng.integers(0, 200, 100)
    state = states.new(range(1, model.sizes.blocks + 1))
    straight = [decoder.blocks(state, decoder.embed(text[at : at + 1])) for at in range(100)]
    state.back_to(60)  # before the buffers grew
    again = [decoder.blocks(state, decoder.embed(text[at : at + 1])) for at in range(60, 100)]
    assert all(np.array_equal(*pair) for pair in zip(straight[60:], again, strict=True))
    with pytest.raises(InputError, match="position"):
        state.back_to(101)
    with pytest.raises(InputError, match="at most 128 tokens"):
        decoder.blocks(state, decoder.embed(text[:40]))
    with pytest.raises(InputError, match="chunks of 1 to"):
        decoder.embed(np.zeros(CHUNK_MAX + 1))


def test_states_beyond_a_limit_lose_their_buffers_least_used_first(model: TextModel) -> None:
    decoder = Decoder(model)
    states = States(model, count_max=2)
    blocks = range(1, 3)
    first, second, third = (states.new(blocks) for _ in range(3))
    for state in (first, second, first, third):
        decoder.blocks(state, decoder.embed(np.array([1])))
    assert [state.evicted for state in (first, second, third)] == [False, True, False]
    assert (len(states), second.nbytes, second.position) == (2, 0, 0)
    small = States(model, bytes_max=first.nbytes + 1)
    held = [small.new(blocks) for _ in range(4)]
    for state in held:
        decoder.blocks(state, decoder.embed(np.array([1])))
    assert small.nbytes <= first.nbytes + 1
    assert [state.evicted for state in held] == [True, True, True, False]
    small.release(held[-1])
    assert small.nbytes == 0


def test_stages_are_written_once_and_a_damaged_folder_is_noticed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept_stages(tiny, tmp_path)
    written = (folder / WEIGHTS).stat().st_mtime_ns
    assert kept_stages(tiny, tmp_path) == folder
    assert (folder / WEIGHTS).stat().st_mtime_ns == written
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]
    monkeypatch.setenv("EDGEPACT_STAGES", str(tmp_path))
    assert text_model(tiny).digest == text_model(tiny.parent).digest == text_model(folder).digest
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\x01")
    with pytest.raises(InputError, match="damaged"):
        read_text_model(folder)
    (folder / MODEL_JSON).write_text("[" * 100_000)
    with pytest.raises(InputError, match="JSON"):
        read_text_model(folder)


def test_other_models_are_refused_by_name(tmp_path: Path) -> None:
    for facts, expected in (
        ({"llama.attention.head_count": 5}, "a divisor of the width 64"),
        ({"llama.attention.head_count_kv": 3}, "a divisor of 4"),
        ({"llama.block_count": 0}, "from 1 to"),
        ({"llama.block_count": 5}, "blk.3.attn_norm.weight"),
        ({"llama.feed_forward_length": 64}, "a tensor of shape"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "a finite number"),
        ({"tokenizer.ggml.model": "llama"}, "byte-level BPE"),
        ({"tokenizer.ggml.pre": "other"}, "smollm"),
        ({"tokenizer.ggml.merges": ["q"]}, "merges"),
        ({"tokenizer.ggml.eos_token_id": 1000}, "eos_token_id"),
        ({"llama.embedding_length": None}, "nothing"),
    ):
        path = write_tiny_llama(tmp_path / "x.gguf", facts=facts)
        with pytest.raises(InputError, match=expected) as caught:
            write_stages(read_gguf(path), tmp_path / "stages")
        assert str(path) in str(caught.value)
    path = write_tiny_llama(tmp_path / "x.gguf", kind="Q4_1")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"llama.block_count", b"llama.block_counx"))
    with pytest.raises(InputError, match="block_count"):
        write_stages(read_gguf(path), tmp_path / "stages")


def test_a_truncated_file_is_refused_wherever_it_ends(tiny: Path, tmp_path: Path) -> None:
    content = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    ends = [*range(0, 60), *np.linspace(60, len(content) - 1, 150).astype(int)]
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=r"cut\.gguf"):
            read_gguf(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 4000), value=st.integers(0, 255), width=st.sampled_from([1, 8]))
def test_damaged_bytes_give_an_error_or_a_model(
    tiny: Path, tmp_path: Path, at: int, value: int, width: int
) -> None:
    content = bytearray(tiny.read_bytes())
    content[at : at + width] = bytes([value] * width)
    path = tmp_path / f"damaged-{os.getpid()}.gguf"
    path.write_bytes(content)
    with suppress(InputError):  # any other error fails
        llama_sizes(read_gguf(path))
