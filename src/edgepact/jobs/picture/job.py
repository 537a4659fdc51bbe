"""Pictures from text, split: the server does the first steps of the chain, the device the last.

A piece is a picture of a prompt, and so is a unit; a step of the amount is a step of the chain, so
that what is paid is steps, as many as a mechanism buys, for every picture. (Were a step the unit, a
device could stop in the middle of a picture and be paid for half of it, which is worth nothing.)

===========  ================================  ===================================================
amount       exchanges                         who does what
===========  ================================  ===================================================
0            prompt; picture comes back        the server all
1 to N       prompt; the chain comes back,     the server N - amount steps, the first of them once
             128 numbers through the codec;    for prompts that belong together; the device the
             picture; a label comes back       rest, and the picture
===========  ================================  ===================================================

The finished picture goes back to the server, which has it judged by a network that took no part
in making it. The judge's label and the prompt are told; whether they fit decides no pay: a device
that did its steps is not to blame for the text.

With `draws` and `accepted_at` a picture is *generated until appropriate*: where the judge does not
see what was meant at least so probably, the server begins another chain, with noise of its own, and
the device does its steps again, up to so many draws. Every draw is a unit that is paid; a buyer
pays for one picture, and for none if no draw was accepted: then the best is shown.

An audit does the device's steps again, of every draw, from what it was handed, which is kept, and
the prompt, which the device shows (`jobs.picture.audit`). No two chains begin with the same noise,
which the server draws, so that no work can be delivered twice, and there is no sketch.
"""

import base64
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from edgepact.errors import InputError, shown
from edgepact.exhibit import Exhibit, named
from edgepact.inference.flow import IMAGE_SIZE, PIXELS
from edgepact.inference.judge import Judge
from edgepact.inference.models import garment_judge, garments
from edgepact.jobs.picture.audit import Margin, difference, kept_pixels, margins
from edgepact.jobs.picture.chain import Generator, TextVectors, read_generator, recipe_of
from edgepact.jobs.picture.prompts import Prompt, built_in, meant, read_prompts
from edgepact.jobs.picture.sharing import SharedBeginnings
from edgepact.tensors import Codec, Tensors, TensorSpec, as_bytes, from_bytes
from edgepact.work import Json, Model, Reply, ServerAway, Work

POWER_LEAST = 0.01
"""Of an audit; where calibration found none at all, no rate is enough, and the market says so."""


@dataclass(frozen=True, slots=True)
class PictureJob:
    """Draws pictures of prompts: the server does the first steps, the device the last."""

    name: str = "picture"
    about: str = "Draws what a text says; the server does the first steps, the device the last."
    unit: str = "picture"
    step: str = "step"
    codecs: tuple[str, ...] = ("int8", "fp16", "fp32")
    agreed: frozenset[str] = frozenset({"steps", "guidance", "draws"})

    def told(self, settings: Mapping[str, Json]) -> Mapping[str, Json]:
        """How a chain goes; what is shared, and with whom, is the server's alone.

        Raises:
            InputError: a setting cannot be.
        """
        recipe = recipe_of(settings, steps=1, guidance=1.0)
        both = {name: settings[name] for name in ("steps", "guidance") if name in settings}
        if recipe.accepted_at is not None:
            both |= {"draws": recipe.draws, "accepted_at": recipe.accepted_at}
        return both

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "DeviceHalf":
        """The device's half.

        Args:
            model: folder of a generator; None for the garments'.
            inputs: a file of prompts; None for the generator's labels in its templates.
            settings: `steps`, `guidance`, `draws`; the others are the server's.

        Raises:
            InputError: the generator, the prompts or a setting cannot be used.
        """
        return DeviceHalf(read_generator(model or garments(), settings), inputs)

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "ServerHalf":
        """The server's half.

        Raises:
            InputError: the generator, the judge or a setting cannot be used.
        """
        return ServerHalf(read_generator(model or garments(), settings), Judge(garment_judge()))


PICTURE = PictureJob()


class _Half:
    """What both sides share: the generator, the text encoder, and what travels."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._model = generator.model
        self._texts = TextVectors(generator.text_folder)

    @property
    def model(self) -> Model:
        """The model it holds."""
        return self._model

    @property
    def generator(self) -> Generator:
        """The generator it holds."""
        return self._generator

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """A prompt, then a picture."""
        name = "prompt" if exchange == 0 else "picture"
        return (TensorSpec(name=name, datatype="BYTES", shape=(1,)),)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The picture where the server draws all of it, else the chain where the device begins."""
        if amount == 0:
            return (TensorSpec(name="picture", datatype="BYTES", shape=(1,)),)
        return self._chain_specs

    @property
    def _chain_specs(self) -> tuple[TensorSpec, ...]:
        shape = (1, self._generator.flow.components)
        return (TensorSpec(name="chain", datatype="FP32", shape=shape, coded=True),)

    def _finished(self, x: np.ndarray, amount: int, text: np.ndarray) -> bytes:
        """The picture, of what the server hands over."""
        steps = self._generator.recipe.steps
        z = self._generator.passed(np.asarray(x, np.float32), steps - amount, steps, text)
        return self._generator.flow.decoded(z).tobytes()


class DeviceHalf(_Half):
    """The prompts of a device, and the steps that it does.

    Args:
        generator: it holds.
        inputs: a file of prompts; None for the generator's labels in its templates.

    Raises:
        InputError: there is no prompt.
    """

    def __init__(self, generator: Generator, inputs: Path | None) -> None:
        super().__init__(generator)
        labels = generator.labels
        if inputs is None:
            self._prompts = built_in(labels, generator.templates)
        else:
            self._prompts = read_prompts(inputs, labels=labels)

    def pieces(self) -> Sequence[Prompt]:
        """All prompts."""
        return self._prompts

    @property
    def units_most(self) -> int:
        """Draws of a picture."""
        return self._generator.recipe.draws

    def prepare(self, amount: int) -> None:
        """All is loaded: every step is done by the same network."""

    def work(self, piece: Prompt, amount: int) -> Work:
        """Asks for a chain, does its last steps, shows the picture; is told what is seen in it."""
        text = self._texts.of(piece.text)
        picture: bytes | None = None
        told: Mapping[str, Json] = {}
        try:
            reply = yield {"prompt": (piece.text.encode(),)}
            if amount == 0:
                (picture,) = reply.outputs["picture"]
            drawn = []
            while not reply.finished:
                chain = np.asarray(reply.outputs["chain"], np.float32)
                picture = self._finished(chain, amount, text)
                drawn.append(picture)
                reply = yield {"picture": (picture,)}
            told = reply.told
            best = told.get("best", 0)
            if isinstance(best, int) and 0 <= best < len(drawn):
                picture = drawn[best]
        except ServerAway:
            if picture is None:
                noise = self._generator.flow.noise(secrets.randbits(62))
                picture = self._finished(noise, self.model.amount_max, text)
        assert picture is not None  # a reply is finished with one, or by one
        return {
            "prompt": piece.text,
            "label_meant": piece.label,
            "label_judged": told.get("label"),
            "draws": told.get("draws", 1),
            "appropriate": told.get("appropriate"),
            "picture": as_png(bytes(picture)),
        }

    def source(self, piece: Prompt) -> bytes:
        """The prompt."""
        return piece.text.encode()

    def exhibit(self, piece: Prompt, result: Mapping[str, Json]) -> Exhibit:
        """The prompt, the picture, and what the judge saw in it."""
        return Exhibit(
            given=piece.text,
            answer=named(result["label_judged"], result["label_meant"]),
            picture=base64.b64decode(result["picture"]),
        )


@dataclass(slots=True)
class Session:
    """A picture on its way.

    Attributes:
        amount: steps of the device.
        seed: of its noise.
        asked: its prompt, when it has come.
        text: vector of the prompt.
        meant: place of what is meant among the judge's labels; None where nothing is asked of it.
        draws: that were judged.
        best: of these the one to show.
        seen: what the judge saw in it: probabilities of its labels.
        accepted: whether it is what was asked for; None where nothing is asked.
        picture: itself, where the server has drawn it alone.
    """

    amount: int
    seed: int
    asked: str | None = None
    text: Float[np.ndarray, "1 dim"] | None = None
    meant: int | None = None
    draws: int = 0
    best: int = 0
    seen: Float[np.ndarray, " labels"] | None = None
    accepted: bool | None = None
    picture: bytes = b""

    @property
    def seed_now(self) -> int:
        """Of the noise of the next draw."""
        if self.draws == 0:
            return self.seed
        return int(np.random.default_rng((self.seed, self.draws)).integers(2**62))


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """What passes the stages: a chain before a step, with its text; none of a finished picture."""

    chain: Float[np.ndarray, "1 components"] | None
    step: int = 0
    text: Float[np.ndarray, "1 dim"] | None = None


class ServerHalf(_Half):
    """The first steps, and the judge. Used by one thread.

    Stages are steps of the chain, counted so that every piece ends behind the last: a chain of
    which the device does `amount` steps begins at stage `amount`. Chains at different steps pass a
    stage together, since every row of the network has a time of its own.

    Args:
        generator: that draws.
        judge: of what comes.
    """

    def __init__(self, generator: Generator, judge: Judge) -> None:
        super().__init__(generator)
        self._judge = judge
        self._beginnings = SharedBeginnings(generator)
        self._margins: tuple[Margin, ...] = ()

    @property
    def about(self) -> Mapping[str, Json]:
        """The judge's labels, and the recipe."""
        recipe = self._generator.recipe
        return {
            "labels": list(self._judge.labels),
            "steps": recipe.steps,
            "guidance": recipe.guidance,
            "shared": recipe.shared,
        }

    @property
    def beginnings(self) -> SharedBeginnings:
        """What is shared, and what it has saved."""
        return self._beginnings

    @property
    def margins(self) -> tuple[Margin, ...]:
        """What audits tell apart, at each amount from 1; measured when it is first asked for."""
        if not self._margins:
            prompts = built_in(self._generator.labels, self._generator.templates)
            texts = [self._texts.of(each.text) for each in prompts[:10]]
            self._margins = margins(self._generator, texts)
        return self._margins

    @property
    def tries_most(self) -> int:
        """Draws of a picture that the judge does not accept."""
        return self._generator.recipe.draws

    @property
    def audit_power(self) -> float:
        """Least share, at any amount, of the pictures of the least noticeable cheat that differ."""
        return max(POWER_LEAST, min(margin.power for margin in self.margins))

    def warm(self) -> None:
        """Measures what audits tell apart, and judges a picture."""
        assert self.margins
        self._judge.seen(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE), np.uint8))

    def begin(self, amount: int, seed: int) -> Session:
        """A picture on its way."""
        return Session(amount, seed)

    def answer(self, batch: Sequence[tuple[Session, Tensors]]) -> list[Reply | InputError]:
        """The chain, or what is seen in a picture."""
        return [self._answered(session, sent) for session, sent in batch]

    @property
    def stages(self) -> int:
        """Steps of a chain."""
        return self._generator.recipe.steps

    def enter(self, session: Session, sent: Tensors) -> tuple[int, OnItsWay] | InputError:
        """Where a chain begins, after what it shares; a picture that is accepted, or the last that
        is drawn, has no stage to pass."""
        try:
            if session.asked is not None:
                self._judge_draw(session, _picture(sent))
                return (
                    (self.stages, OnItsWay(None)) if self._ends(session) else self._begun(session)
                )
            prompt = _text(sent)
            session.text = self._texts.of(prompt)
            session.meant = self._meant(prompt)
        except InputError as error:
            return error
        session.asked = prompt
        return self._begun(session)

    def advance(
        self, travelling: Sequence[OnItsWay], start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[OnItsWay], int]:
        """A step of every chain at a time."""
        chains = np.concatenate([_of(each.chain) for each in travelling])
        texts = np.concatenate([_of(each.text) for each in travelling])
        steps = np.array([each.step for each in travelling])
        at = start
        while at < stop:
            chains = self._generator.advanced(chains, steps, texts)
            steps, at = steps + 1, at + 1
            if at < stop and pause():
                break
        moved = [
            OnItsWay(chains[row : row + 1], int(steps[row]), each.text)
            for row, each in enumerate(travelling)
        ]
        return moved, at

    def leave(self, session: Session, travelled: OnItsWay) -> Reply | InputError:
        """The chain for the device; or, of a finished picture, what is seen in it."""
        if travelled.chain is None:
            return self._judged(session, {})
        if session.amount > 0:
            return Reply(outputs={"chain": travelled.chain}, finished=False)
        self._judge_draw(session, self._generator.flow.decoded(travelled.chain).tobytes())
        while not self._ends(session):
            _, again = self._begun(session)
            x, text = _of(again.chain), _of(again.text)
            x = self._generator.passed(x, again.step, self.stages, text)
            self._judge_draw(session, self._generator.flow.decoded(x).tobytes())
        return self._judged(session, {"picture": (session.picture,)})

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """Of a prompt, it and the chain that was answered; of a picture, some of its pixels, and
        the chain of the next draw if there is one."""
        if amount == 0:
            return b""
        if exchange == 0:
            return as_bytes({"prompt": sent["prompt"], "chain": reply.outputs["chain"]})
        pixels = kept_pixels(_picture(sent), key)
        if reply.finished:
            return pixels
        return as_bytes({"pixels": (pixels,), "chain": reply.outputs["chain"]})

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
        """Whether every draw is what the device's steps make of its chain for the prompt."""
        if amount == 0:
            return True
        if len(evidence) < 2:
            return False
        handed = from_bytes(evidence[0])
        if handed["prompt"] != (source,):
            return False
        text = self._texts.of(_text({"prompt": (source,)}))
        for kept in evidence[1:-1]:
            drawn = from_bytes(kept)
            (pixels,) = drawn["pixels"]
            if not self._is_of(handed["chain"], bytes(pixels), amount, text, codec, key):
                return False
            handed = drawn
        return self._is_of(handed["chain"], evidence[-1], amount, text, codec, key)

    def _is_of(
        self,
        handed: Any,
        pixels: bytes,
        amount: int,
        text: Float[np.ndarray, "1 dim"],
        codec: Codec,
        key: bytes,
    ) -> bool:
        """Whether kept pixels are what the device's steps make of a chain."""
        specs = self._chain_specs
        packed = codec.pack({"chain": handed}, specs)
        chain = np.asarray(codec.unpack(packed, specs)["chain"], np.float32)
        own = np.frombuffer(self._finished(chain, amount, text), np.uint8)
        apart = difference(pixels, own.reshape(IMAGE_SIZE, IMAGE_SIZE), key)
        return apart <= self.margins[amount - 1].tolerance

    def _meant(self, prompt: str) -> int | None:
        """What is asked of the picture of a prompt, as a place among the judge's labels.

        Raises:
            InputError: pictures are to be appropriate, and the judge knows nothing of this one.
        """
        if self._generator.recipe.accepted_at is None:
            return None
        label = meant(prompt, self._judge.labels)
        if label is None:
            expected = f"one that names what the judge knows: {', '.join(self._judge.labels)}"
            raise InputError("prompt", "", expected, shown(prompt))
        return self._judge.labels.index(label)

    def _begun(self, session: Session) -> tuple[int, OnItsWay]:
        """Where the chain of the next draw begins."""
        text, seed = _of(session.text), session.seed_now
        noise = self._generator.flow.noise(seed)
        shared = self._generator.recipe.shared_at(session.amount)
        if shared == 0:
            return session.amount, OnItsWay(noise, 0, text)
        estimate = self._beginnings.begun(text, shared, seed)
        chain = self._generator.after_shared(noise, estimate, shared)
        return session.amount + shared, OnItsWay(chain, shared, text)

    def _judge_draw(self, session: Session, picture: bytes) -> None:
        """Notes what is seen in a draw, and whether it is the best so far."""
        grey = np.frombuffer(picture, np.uint8).reshape(1, IMAGE_SIZE, IMAGE_SIZE)
        seen = np.asarray(self._judge.seen(grey)[0][0])
        at, least = session.meant, self._generator.recipe.accepted_at
        if session.seen is None or at is None or seen[at] > session.seen[at]:
            session.seen, session.best = seen, session.draws
            session.picture = picture if session.amount == 0 else b""
        session.draws += 1
        if at is not None and least is not None:
            session.accepted = bool(session.seen[at] >= least)

    def _ends(self, session: Session) -> bool:
        """Whether no further draw is made."""
        return session.accepted is not False or session.draws >= self._generator.recipe.draws

    def _answered(self, session: Session, sent: Tensors) -> Reply | InputError:
        entered = self.enter(session, sent)
        if isinstance(entered, InputError):
            return entered
        stage, travelling = entered
        if stage < self.stages:
            (travelling,), _ = self.advance([travelling], stage, self.stages, lambda: False)
        return self.leave(session, travelling)

    def _judged(self, session: Session, outputs: Tensors) -> Reply:
        seen = _of(session.seen)
        found = int(seen.argmax())
        told: dict[str, Json] = {
            "label": self._judge.labels[found],
            "probability": round(float(seen[found]), 4),
            "draws": session.draws,
        }
        if session.accepted is None:
            return Reply(outputs=outputs, told=told)
        told |= {"best": session.best, "appropriate": session.accepted}
        return Reply(
            outputs=outputs, units=session.draws, units_sold=int(session.accepted), told=told
        )


def as_png(picture: bytes) -> str:
    """A picture as a PNG file, in base64."""
    return base64.b64encode(as_png_bytes(picture)).decode()


def as_png_bytes(picture: bytes) -> bytes:
    """A picture as a PNG file."""
    grey = np.frombuffer(picture, np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _text(sent: Tensors) -> str:
    (prompt,) = sent["prompt"]
    try:
        return bytes(prompt).decode()
    except UnicodeDecodeError:
        raise InputError("prompt", "", "UTF-8 text", shown(bytes(prompt))) from None


def _picture(sent: Tensors) -> bytes:
    (picture,) = sent["picture"]
    found = bytes(picture)
    if len(found) != PIXELS:
        raise InputError("picture", "", f"{PIXELS} grey levels, a byte each", len(found))
    return found


def _of(rows: np.ndarray | None) -> np.ndarray:
    assert rows is not None, "finished pictures pass no stage"
    return rows
