"""A language model of random weights, small enough for every test, as a GGUF file."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "t h", "Ġ t")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_texts() -> list[str]:
    """GPT-2's characters for bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(at) if at in kept else chr(next(others)) for at in range(256)]


def write_tiny_llama(
    path: Path,
    *,
    kind: str = "Q4_1",
    embedding: str = "Q8_0",
    blocks: int = 3,
    seed: int = 0,
    tied: bool = True,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Writes it.

    Args:
        path: where to.
        kind, embedding: how matrices, and the embedding, are packed.
        blocks: number of blocks.
        seed: of the weights.
        tied: whether the head multiplies with the embedding.
        facts: metadata in place of what is usual; a value of None leaves it out.
    """
    rng = np.random.default_rng(seed)
    width, heads, heads_kv, mlp = 64, 4, 2, 96
    tokens = [*MARKS, *byte_texts(), *("".join(each.split(" ")) for each in MERGES)]
    writer = gguf.GGUFWriter(path, "llama")
    usual: dict[str, tuple[str, Any]] = {
        "general.name": ("add_string", "Tiny Llama"),
        "llama.block_count": ("add_uint32", blocks),
        "llama.context_length": ("add_uint32", 128),
        "llama.embedding_length": ("add_uint32", width),
        "llama.feed_forward_length": ("add_uint32", mlp),
        "llama.attention.head_count": ("add_uint32", heads),
        "llama.attention.head_count_kv": ("add_uint32", heads_kv),
        "llama.attention.layer_norm_rms_epsilon": ("add_float32", 1e-5),
        "llama.rope.freq_base": ("add_float32", 10_000.0),
        "tokenizer.ggml.model": ("add_string", "gpt2"),
        "tokenizer.ggml.pre": ("add_string", "smollm"),
        "tokenizer.ggml.tokens": ("add_array", tokens),
        "tokenizer.ggml.merges": ("add_array", list(MERGES)),
        "tokenizer.ggml.token_type": ("add_array", [3] * len(MARKS) + [1] * (len(tokens) - 3)),
        "tokenizer.ggml.eos_token_id": ("add_uint32", 2),
        "tokenizer.chat_template": ("add_string", TEMPLATE),
    }
    for name, (method, value) in usual.items():
        found = (facts or {}).get(name, value)
        if found is not None:
            getattr(writer, method)(name, found)

    def add(name: str, rows: int, columns: int, kind: str) -> None:
        values = rng.standard_normal((rows, columns)).astype(np.float32) * np.float32(
            1.2 / np.sqrt(columns)
        )
        packing = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(values, packing), raw_dtype=packing)

    add("token_embd.weight", len(tokens), width, embedding)
    if not tied:
        add("output.weight", len(tokens), width, kind)
    writer.add_tensor("output_norm.weight", 1 + 0.1 * rng.standard_normal(width).astype("f4"))
    for block in range(blocks):
        start = f"blk.{block}."
        for name in ("attn_norm", "ffn_norm"):
            scale = 1 + 0.1 * rng.standard_normal(width).astype("f4")
            writer.add_tensor(f"{start}{name}.weight", scale)
        kv = heads_kv * (width // heads)
        for name, rows, columns in (
            ("attn_q", width, width),
            ("attn_k", kv, width),
            ("attn_v", kv, width),
            ("attn_output", width, width),
            ("ffn_gate", mlp, width),
            ("ffn_up", mlp, width),
            ("ffn_down", width, mlp),
        ):
            add(f"{start}{name}.weight", rows, columns, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
