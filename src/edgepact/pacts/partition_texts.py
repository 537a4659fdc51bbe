"""Generation of text in the eyes of a partition: blocks of a language model, tokens that are paid.

What a token costs is counted by the model's sizes, attention at `ATTENDED` tokens; the unit of all
figures is a token that was generated. The tokens of prompts are computed as well, and told with the
computing that each side did, but nobody is paid for them: their number is the device's to choose.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.efficiency.partition import MACS_PER_GMAC, LayerCosts
from edgepact.efficiency.profile import Profile, Progress, fit_line
from edgepact.fields import Table
from edgepact.framework import Json
from edgepact.inference.decoder import CHUNK_MAX, Decoder, States
from edgepact.inference.gguf.folder import TextModel, read_text_model
from edgepact.inference.gguf.known import text_model
from edgepact.inference.gguf.tokenizer import TextTokenizer
from edgepact.jobs.text.exchange import job_model
from edgepact.jobs.text.prompts import TextSettings, own_prompts, read_prompts
from edgepact.pacts.partition_jobs import JobTerms, Shares, settings_stated
from edgepact.pacts.partition_results import (
    DeviceShare,
    JobDone,
    PieceDone,
    Played,
    TimeSplit,
    results_of,
    share_of,
    time_split,
)
from edgepact.pacts.partition_shares import lines_shared_out
from edgepact.work import Model

ATTENDED = 128
"""Tokens that a token looks at, in counts: about the middle of what chats are long."""

PROFILE_ROWS = 32
"""Tokens before the one that is timed."""

UNITS = 24
UNITS_MAX = 100_000
TOKENS_MAX = 24
"""Most tokens of a text, if nothing is said."""

SMOKE_TOKENS = 6

TEXTS_CHECKED = 8
"""Texts that the unsplit model is asked of."""

OPTIONS = ("tokens_max", "temperature", "top_k", "top_p", "chat", "drafts", "texts_kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResult(PieceDone):
    """One text; its amount is in blocks, its units are tokens.

    Attributes:
        prompt, text: as they are read.
        prompt_tokens, tokens: of each.
        reused_tokens: of the prompt, that were kept of a text before.
        steps: exchanges that told a token; fewer than tokens where guesses were right.
        reason: why it ended: `stop` or `length`.
        replays: how often its session was lost.
        tokens_alone: that the device wrote without the server.
        exchanges: that were answered.
        first_token_seconds, text_seconds: from its start to the first and the last token.
    """

    prompt: str
    text: str
    prompt_tokens: int
    tokens: int
    reused_tokens: int
    steps: int
    reason: str
    replays: int
    tokens_alone: int
    exchanges: int
    first_token_seconds: float
    text_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTexts(DeviceShare):
    """What one device did in all rounds; times are seconds a token, over all its texts.

    Attributes:
        texts, tokens: that it wrote.
        tokens_per_s: of a text, from its start to its end.
        bytes_sent, bytes_received: a token, HTTP bodies.
    """

    texts: int
    tokens: int
    tokens_per_s: float
    bytes_sent: float
    bytes_received: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextsDone(JobDone[TextResult, DeviceTexts]):
    """Texts written, and how they were paid. Computing counts prompts too.

    Attributes:
        agreement: share of the tokens of some texts that the unsplit model finds likeliest too;
            None where tokens were drawn by chance.
    """

    agreement: float | None
    unit: str = "token"
    step: str = "block"

    @property
    def tokens(self) -> int:
        """All that were generated."""
        return sum(each.tokens for _, each in self.pieces)

    def rows(self, promised: str) -> tuple[tuple[str, str], ...]:
        """See `partition_jobs.Work`."""
        sent = sum(each.bytes_sent for _, each in self.pieces) / max(self.tokens, 1)
        told = sum(each.tokens - each.tokens_alone for _, each in self.pieces)
        steps = sum(each.steps for _, each in self.pieces) / max(told, 1)
        prompts = sum(each.prompt_tokens for _, each in self.pieces)
        reused = sum(each.reused_tokens for _, each in self.pieces) / max(prompts, 1)
        speed = float(np.median([each.tokens_per_s for each in self.devices if each.tokens]))
        agreed = () if self.agreement is None else ((AGREEMENT, f"{self.agreement:.2%}"),)
        return (
            ("texts written", f"{len(self.pieces)}"),
            ("tokens generated", f"{self.tokens}"),
            *agreed,
            ("tokens a second of a text, median device", f"{speed:.3g}"),
            ("round trips a token", f"{steps:.3g}"),
            ("prompts' tokens that were kept of texts before", f"{reused:.2%}"),
            ("bytes sent a token, prompts included", f"{sent:.0f}"),
            ("the server's computing saved", f"{self.server_saved:.2%}"),
            *self.paid_rows("texts", promised),
        )

    def as_json(self) -> dict[str, Json]:
        """See `partition_jobs.Work`."""
        return {
            "texts": [{"device": name, **asdict(each)} for name, each in self.pieces],
            "tokens": self.tokens,
            "agreement": self.agreement,
            "server_saved": self.server_saved,
            **self.paid_json(),
        }


AGREEMENT = "tokens that the unsplit model finds likeliest too"


@dataclass(frozen=True, slots=True)
class SplitTexts:
    """See `partition_jobs.SplitJob`."""

    unit: str = "token"
    step: str = "block"
    device_share: str = "runs the first L blocks of the model"
    inputs_field: str = "prompts_from"
    inputs_words: str = "a file of prompts, a line each"
    inputs_are_folder: bool = False

    def own_inputs(self) -> Path:
        """Prompts that come with the job."""
        return own_prompts()

    def model_folder(self, model: Path | None) -> Path:
        """The stages of a GGUF file, written the first time; SmolLM2 if none is named."""
        return _stages_of(model)

    def model(self, folder: Path, settings: Mapping[str, Any]) -> Model:
        """As its folder says."""
        return job_model(read_text_model(folder))

    def read_units(self, job: Table, *, smoke: bool) -> int:
        """The field `tokens`: of each device in a round."""
        found = job.whole("tokens", UNITS, least=1, most=UNITS_MAX)
        return min(found, SMOKE_TOKENS) if smoke else found

    def read_settings(self, job: Table, *, smoke: bool) -> Mapping[str, Any]:
        """How texts are written."""
        found = settings_stated(job, OPTIONS, TextSettings.of, tokens_max=TOKENS_MAX)
        if smoke:
            found["tokens_max"] = min(found["tokens_max"], SMOKE_TOKENS)
        return found

    def units_most(self, settings: Mapping[str, Any]) -> int:
        """See `partition_buyers.SizesPieces`: tokens of a text."""
        found: int = settings["tokens_max"]
        return found

    def make_ready(self, model: Path, inputs: Path | None) -> None:
        """Reads both."""
        TextTokenizer(read_text_model(model))
        read_prompts(inputs or own_prompts())

    def costs(self, model: Path, settings: Mapping[str, Any]) -> LayerCosts:
        """Counted by the model's sizes."""
        macs = read_text_model(model).macs_per_stage(ATTENDED)
        return LayerCosts(per_stage=tuple(count / MACS_PER_GMAC for count in macs))

    def profile(
        self, model: Path, settings: Mapping[str, Any], repeats: int, progress: Progress
    ) -> Profile:
        """One token behind `PROFILE_ROWS` others; a cut's time is the sum of its stages'."""
        found = read_text_model(model)
        seconds = _stage_seconds(found, repeats, progress)
        cuts = np.cumsum(seconds[:-1])
        return Profile(
            model=found.sizes.name,
            threads=1,
            repeats=repeats,
            seconds_per_stage=tuple(seconds),
            seconds_per_cut=tuple(cuts.tolist()),
            gmac_per_stage=self.costs(model, settings).per_stage,
            fit=fit_line(cuts.tolist()),
            codecs=(),
            pixel_bytes=0,
            vector_bytes=4 * found.sizes.width,
            unit=self.unit,
            step=self.step,
        )

    def shared_out(
        self, inputs: Path | None, names: Sequence[str], *, per_round: int, rounds: int, seed: int
    ) -> AbstractContextManager[Shares]:
        """A file of prompts of its own for each device, where there are enough."""
        # How many prompts a round takes shows as texts end; a text has at least one token.
        prompts = read_prompts(inputs or own_prompts())
        return lines_shared_out(prompts, names, in_round=per_round, rounds=rounds, seed=seed)

    def done(
        self,
        *,
        terms: JobTerms,
        folder: Path,
        profile: Profile,
        names: list[str],
        played: Played,
    ) -> TextsDone:
        """What was written."""
        results = results_of(folder, names, TextResult.from_line, "text")
        model = read_text_model(terms.model_folder)
        return TextsDone(
            profile=profile,
            pieces=tuple(results),
            devices=tuple(_device(name, results, profile, played.lost) for name in names),
            played=played,
            agreement=_agreement(model, TextSettings.of(terms.settings), results),
        )


TEXTS = SplitTexts()


# ---------------------------------------------------------------- private


@lru_cache(maxsize=8)
def _stages_of(model: Path | None) -> Path:
    return text_model(model).folder


def _stage_seconds(model: TextModel, repeats: int, progress: Progress) -> list[float]:
    decoder, states = Decoder(model), States(model)
    decoder.load(range(model.stages))
    blocks = [states.new(range(at, at + 1)) for at in range(1, model.sizes.blocks + 1)]
    tokens = np.arange(PROFILE_ROWS) % model.sizes.vocabulary
    hidden = decoder.embed(tokens)
    for state in blocks:
        hidden = decoder.blocks(state, hidden)
    fastest = np.full(model.stages, np.inf)
    for repeat in range(repeats):
        start_s = time.perf_counter()
        hidden = decoder.embed(tokens[:1])
        times = [time.perf_counter() - start_s]
        for state in blocks:
            start_s = time.perf_counter()
            hidden = decoder.blocks(state, hidden)
            times.append(time.perf_counter() - start_s)
            state.back_to(PROFILE_ROWS)
        start_s = time.perf_counter()
        decoder.logits(hidden)
        times.append(time.perf_counter() - start_s)
        fastest = np.minimum(fastest, times)
        progress(repeat + 1, repeats)
    return [float(each) for each in fastest]


def _device(
    name: str, results: list[tuple[str, TextResult]], profile: Profile, lost: Mapping[str, str]
) -> DeviceTexts:
    own = [result for device, result in results if device == name]
    tokens = sum(each.tokens for each in own)
    per_stage = profile.costs.per_stage

    def a_token(values: Iterable[float]) -> float:
        return sum(values, 0.0) / max(tokens, 1)

    def gmac(result: TextResult) -> tuple[float, float]:
        # The last token is told, and goes through no block.
        through = result.prompt_tokens - result.reused_tokens + result.tokens - 1
        device = sum(per_stage[: result.amount + 1])
        rest = sum(per_stage[result.amount + 1 : -1])
        return through * device, through * rest + result.tokens * per_stage[-1]

    times = TimeSplit.over([time_split(each) for each in own], a_token)
    return DeviceTexts(
        **share_of(name, own, lost, times=times, gmac=gmac),
        texts=len(own),
        tokens=tokens,
        tokens_per_s=tokens / max(sum(each.text_seconds for each in own), 1e-9),
        bytes_sent=a_token(each.bytes_sent for each in own),
        bytes_received=a_token(each.bytes_received for each in own),
    )


def _agreement(
    model: TextModel, settings: TextSettings, results: list[tuple[str, TextResult]]
) -> float | None:
    """Share of the tokens of some texts that the unsplit model would have chosen at their place."""
    if settings.temperature > 0.0:
        return None
    tokenizer, decoder, states = TextTokenizer(model), Decoder(model), States(model)
    hits: list[bool] = []
    step = max(1, len(results) // TEXTS_CHECKED)
    for _, result in results[::step][:TEXTS_CHECKED]:
        if settings.chat:
            prompt = tokenizer.chat([{"role": "user", "content": result.prompt}])
        else:
            prompt = tokenizer.tokens(result.prompt)
        # Tokens of the text alone may part otherwise than they were generated.
        text = tokenizer.tokens(result.text)
        whole = (prompt + text)[:CHUNK_MAX]
        if len(text) == 0 or len(whole) < len(prompt) + len(text):
            continue
        state = states.new(range(1, model.sizes.blocks + 1))
        hidden = decoder.blocks(state, decoder.embed(np.array(whole[:-1])))
        said = np.argmax(decoder.logits(hidden[:, len(prompt) - 1 :]), axis=-1)
        states.release(state)
        hits += (said == np.array(text)).tolist()
    return float(np.mean(hits)) if hits else None
