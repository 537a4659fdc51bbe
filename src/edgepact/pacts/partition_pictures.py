"""Pictures drawn of prompts, in the eyes of a partition: steps of a chain, pictures that are paid.

A step of a device spares the server that step. How many a chain has is a setting of the job; what
one costs is counted in the generator's network.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.credits import in_credits
from edgepact.efficiency.partition import LayerCosts
from edgepact.efficiency.profile import Profile, Progress, fit_line
from edgepact.fields import Table
from edgepact.framework import Json
from edgepact.inference.models import garments
from edgepact.jobs.picture.appropriate import Until, drawn_until
from edgepact.jobs.picture.chain import Recipe, TextVectors, read_generator, recipe_of
from edgepact.jobs.picture.prompts import built_in, read_prompts
from edgepact.pacts.partition_jobs import JobTerms, Shares, settings_stated
from edgepact.pacts.partition_results import (
    DeviceShare,
    JobDone,
    PieceDone,
    Played,
    TimeSplit,
    mean,
    median,
    results_of,
    share_of,
    time_split,
)
from edgepact.pacts.partition_settings import IMAGES_MAX, PlaySettings
from edgepact.work import Model

SMOKE_PICTURES = 2

OPTIONS = ("steps", "guidance", "shared", "group", "draws", "accepted_at")

TRIALS = 100
"""Pictures that are drawn to see how many draws an appropriate one takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureResult(PieceDone):
    """One picture; its amount is in steps, its units are the draws that were made of it.

    Attributes:
        prompt: what was asked for.
        label_meant: in it, if it is known.
        label_judged: what the judge saw; None where the server was away.
        picture: as a PNG file, in base64; of several draws the best.
        draws: that were made of it.
        appropriate: whether the judge accepted one; None where it is not asked.
        alone: whether the device drew it without the server.
    """

    prompt: str
    label_meant: str | None
    label_judged: str | None
    picture: str
    draws: int
    appropriate: bool | None
    alone: bool

    @property
    def as_meant(self) -> bool | None:
        """Whether the judge saw what was meant; None where either is not known."""
        if self.label_meant is None or self.label_judged is None:
            return None
        return self.label_meant == self.label_judged


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePictures(DeviceShare):
    """What one device did in all rounds; times are seconds, medians over its pictures.

    Attributes:
        pictures: that it finished.
        steps: that it did.
        bytes_sent, bytes_received: a picture, HTTP bodies.
    """

    pictures: int
    steps: int
    bytes_sent: float
    bytes_received: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturesDone(JobDone[PictureResult, DevicePictures]):
    """Pictures drawn, and how they were paid.

    The server's computing counts its steps also where prompts that belong together share them;
    judging costs little beside them and is left out.

    Attributes:
        recipe: how pictures are made.
        until: what an appropriate picture was expected to take; None where any is taken.
    """

    recipe: Recipe
    until: Until | None
    unit: str = "picture"
    step: str = "step"

    @property
    def as_meant(self) -> float | None:
        """Share of the pictures of known meaning that the judge names so."""
        known = [each.as_meant for _, each in self.pieces if each.as_meant is not None]
        return float(np.mean(known)) if known else None

    @property
    def device_share(self) -> float:
        """Share of all steps that devices did."""
        done = sum(each.amount * each.draws for _, each in self.pieces)
        return done / (self.recipe.steps * self.draws)

    @property
    def draws(self) -> int:
        """Of all pictures."""
        return sum(each.draws for _, each in self.pieces)

    def rows(self, promised: str) -> tuple[tuple[str, str], ...]:
        """See `partition_jobs.Work`."""
        right = [] if self.as_meant is None else [("judged as meant", f"{self.as_meant:.2%}")]
        count = len(self.pieces)
        received = sum(each.bytes_received for _, each in self.pieces) / count
        sent = sum(each.bytes_sent for _, each in self.pieces) / count
        paid = in_credits(sum(each.paid_microcredits for _, each in self.pieces))
        return (
            ("pictures drawn", f"{count}"),
            *right,
            *self._until_rows(),
            ("steps of a chain", f"{self.recipe.steps}"),
            ("of them shared by prompts that belong together", f"{self.recipe.shared}"),
            ("steps done by devices", f"{self.device_share:.2%}"),
            ("bytes to a device for a picture", f"{received:.0f}"),
            ("bytes from a device for a picture", f"{sent:.0f}"),
            ("paid, credits", f"{paid:.3f}"),
            *self.paid_rows("pictures", promised),
        )

    def _until_rows(self) -> tuple[tuple[str, str], ...]:
        if self.until is None:
            return ()
        count, until = len(self.pieces), self.until
        got = sum(each.appropriate is True for _, each in self.pieces) / count
        return (
            (
                f"draws of a picture, at most {self.recipe.draws}: expected, made",
                f"{until.draws:.2f}, {self.draws / count:.2f}",
            ),
            (
                f"appropriate, at {self.recipe.accepted_at:g}: expected, drawn",
                f"{until.appropriate:.2%}, {got:.2%}",
            ),
            (
                "steps of an appropriate picture: expected, done",
                f"{self.recipe.steps * until.draws / max(until.appropriate, 1e-9):.2f}, "
                f"{self.recipe.steps * self.draws / count / max(got, 1e-9):.2f}",
            ),
        )

    def as_json(self) -> dict[str, Json]:
        """See `partition_jobs.Work`."""
        until = None if self.until is None else asdict(self.until)
        return {
            "draws": self.draws,
            "expected": until,
            "pictures": len(self.pieces),
            "judged_as_meant": self.as_meant,
            "device_share": self.device_share,
            **self.paid_json(),
        }


@dataclass(frozen=True, slots=True)
class SplitPictures:
    """See `partition_jobs.SplitJob`."""

    unit: str = "picture"
    step: str = "step"
    device_share: str = "does the last L steps of the chain"
    inputs_field: str = "prompts_from"
    inputs_words: str = "a file of prompts, a line each"
    inputs_are_folder: bool = False

    def own_inputs(self) -> None:
        """The generator's labels in its templates."""
        return

    def model_folder(self, model: Path | None) -> Path:
        """The generator of garments if none is named."""
        return model or garments()

    def model(self, folder: Path, settings: Mapping[str, Any]) -> Model:
        """As the generator's folder says; its largest amount is the steps of a chain."""
        return read_generator(folder, settings).model

    def read_units(self, job: Table, *, smoke: bool) -> int:
        """The field `pictures`: of each device in a round."""
        found = job.whole("pictures", PlaySettings().images, least=1, most=IMAGES_MAX)
        return min(found, SMOKE_PICTURES) if smoke else found

    def units_most(self, settings: Mapping[str, Any]) -> int:
        """See `partition_buyers.SizesPieces`: draws of a picture."""
        return recipe_of(settings, steps=1, guidance=1.0).draws

    def until(self, folder: Path, settings: Mapping[str, Any]) -> Until | None:
        """See `partition_buyers.TriesPieces`: what an appropriate picture takes."""
        recipe = recipe_of(settings, steps=1, guidance=1.0)
        if recipe.accepted_at is None:
            return None
        return drawn_until(read_generator(folder, settings), trials=TRIALS)

    def read_settings(self, job: Table, *, smoke: bool) -> Mapping[str, Any]:
        """The recipe, as far as it is stated."""

        def expects(found: Mapping[str, Any]) -> None:
            if found.get("draws", 1) != 1 and "accepted_at" not in found:
                job.raw("accepted_at", "a threshold beside draws, or all are alike")
            recipe_of(found, steps=1, guidance=1.0)

        return settings_stated(job, OPTIONS, expects)

    def make_ready(self, model: Path, inputs: Path | None) -> None:
        """Reads both."""
        generator = read_generator(model, {})
        if inputs is not None:
            read_prompts(inputs, labels=generator.labels)

    def costs(self, model: Path, settings: Mapping[str, Any]) -> LayerCosts:
        """Counted in the network: whoever has a step to do makes the picture of the chain too."""
        generator = read_generator(model, settings)
        steps = [generator.flow.step_gmac] * generator.recipe.steps
        return LayerCosts(per_stage=(generator.flow.decode_gmac, *steps, 0.0))

    def profile(
        self, model: Path, settings: Mapping[str, Any], repeats: int, progress: Progress
    ) -> Profile:
        """One picture alone; a cut's time is the sum of its steps' and of the picture's."""
        generator = read_generator(model, settings)
        steps, flow = generator.recipe.steps, generator.flow
        prompt = built_in(generator.labels, generator.templates)[0]
        text = TextVectors(generator.text_folder).of(prompt.text)
        fastest = np.full(steps + 1, np.inf)
        for repeat in range(repeats):
            chain, times = flow.noise(repeat), []
            for at in range(steps):
                start_s = time.perf_counter()
                chain = generator.advanced(chain, np.array([at]), text)
                times.append(time.perf_counter() - start_s)
            start_s = time.perf_counter()
            flow.decoded(chain)
            fastest = np.minimum(fastest, [time.perf_counter() - start_s, *times])
            progress(repeat + 1, repeats)
        # Of a device the last steps count.
        cuts = [float(each) for each in fastest[0] + np.cumsum([0.0, *fastest[:0:-1]])]
        return Profile(
            model=generator.name,
            threads=1,
            repeats=repeats,
            seconds_per_stage=(*(float(each) for each in fastest), 0.0),
            seconds_per_cut=tuple(cuts),
            gmac_per_stage=self.costs(model, settings).per_stage,
            fit=fit_line(cuts),
            codecs=(),
            pixel_bytes=flow.mean.size,
            vector_bytes=4 * flow.components,
            unit=self.unit,
            step=self.step,
        )

    @contextmanager
    def shared_out(
        self, inputs: Path | None, names: Sequence[str], *, per_round: int, rounds: int, seed: int
    ) -> Iterator[Shares]:
        """All prompts for each: every picture begins with noise of its own, so a prompt may come
        again and is other work."""
        yield Shares(folders=dict.fromkeys(names, inputs), repeat_rounds=0)

    def done(
        self,
        *,
        terms: JobTerms,
        folder: Path,
        profile: Profile,
        names: list[str],
        played: Played,
    ) -> PicturesDone:
        """What was drawn."""
        results = results_of(folder, names, PictureResult.from_line, "picture")
        return PicturesDone(
            profile=profile,
            pieces=tuple(results),
            devices=tuple(_device(name, results, profile, played.lost) for name in names),
            played=played,
            recipe=read_generator(terms.model_folder, terms.settings).recipe,
            until=self.until(terms.model_folder, terms.settings),
        )


PICTURES = SplitPictures()


# ---------------------------------------------------------------- private


def _device(
    name: str,
    results: Sequence[tuple[str, PictureResult]],
    profile: Profile,
    lost: Mapping[str, str],
) -> DevicePictures:
    own = [result for device, result in results if device == name]
    times = [time_split(each) for each in own if each.roundtrip_seconds is not None]
    costs = profile.costs

    def gmac(result: PictureResult) -> tuple[float, float]:
        draws, amount = result.draws, result.amount
        return draws * costs.device(amount), draws * costs.server(amount)

    return DevicePictures(
        **share_of(name, own, lost, times=TimeSplit.over(times, median), gmac=gmac),
        pictures=len(own),
        steps=sum(each.amount for each in own),
        bytes_sent=mean(each.bytes_sent for each in own),
        bytes_received=mean(each.bytes_received for each in own),
    )
