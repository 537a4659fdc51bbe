"""How a market is opened: its model, its mechanism, and the ledger that it alone may write."""

import contextlib
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edgepact.credits import in_microcredits
from edgepact.engagement import Engagement
from edgepact.errors import InputError, MarketError
from edgepact.market.books import Books
from edgepact.market.demand import read_demand
from edgepact.market.evidence import secret_of
from edgepact.market.fair_queue import Batching
from edgepact.market.ledger import Ledger, Limits
from edgepact.market.ledger.seals import expect_whole, seal_file, write_seal
from edgepact.market.ledger.signing import ServerKey, key_file
from edgepact.market.logs import Log
from edgepact.market.play import Market, Rules
from edgepact.market.protocol import messages
from edgepact.market.rounds import Terms
from edgepact.market.serve_config import ServeConfig
from edgepact.market.settling import AuditRules
from edgepact.mechanisms.audit_rate import audit_rate, expected_gain
from edgepact.tensors import Codec
from edgepact.work import Job, Model, ServerPart, ToldJob

AUDIT_TIMEOUT_SHORT_S = 25.0
"""Within 20 seconds a device notices at the latest that an answer is lost, and then it shows its
source on another connection; with less than this it may be too late."""

Mechanism = Engagement | Callable[[Model], Engagement]
"""A mechanism, or how to make it for the model of the job that is served."""


@runtime_checkable
class StatesModel(Protocol):
    """Terms of a pact that may say which model is served; others are served by the job's own."""

    @property
    def model(self) -> Path | None:
        """Folder of the model; None for the job's own."""
        ...


@runtime_checkable
class CutsModel(Protocol):
    """Terms of a pact whose model may be a file, from which a folder is made."""

    @property
    def model_folder(self) -> Path:
        """Where the model is, cut into stages; of a file they are written the first time."""
        ...


@runtime_checkable
class StatesSettings(Protocol):
    """Terms of a pact that may state settings of the job."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of both its halves."""
        ...

    @property
    def units(self) -> int:
        """Of each device in a round."""
        ...


@runtime_checkable
class Served(Protocol):
    """A decision of a pact that a live market can be served by."""

    def engagement(self, model: Model, seed: int | None) -> Engagement:
        """The mechanism at work.

        Args:
            model: of the job that is served.
            seed: of whatever it draws; None for one that nobody knows.

        Raises:
            InputError: it is for a model of other layers.
        """
        ...


class Opening:
    """What a server needs to open its market, read and checked before there is a ledger.

    A wrong argument so leaves no ledger behind.

    Args:
        config: how it is served.
        job: what is done.
        part: the server's half of it.
        codecs: that requests may use, the favourite first.
        mechanism: the mechanism.
        log: hears what happens.

    Raises:
        InputError: the file of buyers or the key cannot be used, or the model is none for the
            mechanism.
    """

    def __init__(
        self,
        config: ServeConfig,
        job: Job,
        part: ServerPart,
        codecs: tuple[Codec, ...],
        mechanism: Mechanism,
        *,
        log: Log | None = None,
    ) -> None:
        self._config, self._job, self._part, self._codecs = config, job, part, codecs
        self._mechanism, self._log = mechanism, log or Log()
        self._demand = None if config.demand is None else read_demand(config.demand)
        told = job.told(config.job_settings) if isinstance(job, ToldJob) else None
        self._job_settings = messages.read_settings("serve", told)
        self._audits = _audit_rules(config, part.audit_power)
        self._first: Engagement | None = self._engagement()
        if config.key is not None:
            _expect_key(config.key)

    def market_on(self, ledger: Ledger) -> tuple[Market, Books]:
        """The market on a ledger, and its books.

        Args:
            ledger: the ledger, whose lease the server holds; it is closed with the books, and if
                they cannot be opened.

        Raises:
            InputError: the key cannot be used.
            MarketError: the ledger cannot be read, or is not whole.
        """
        config = self._config
        try:
            # A server that takes over once more does not go on from what it had learnt.
            engagement, self._first = self._first or self._engagement(), None
            key_path = key_file(ledger.file, config.key)
            key, seal = ServerKey(key_path), seal_file(key_path)
            expect_whole(ledger, key, seal)
            ledger.note_server(key.public)
            books = Books(
                ledger,
                Ledger(config.ledger_url, read_only=True),
                limits=Limits(
                    round_microcredits=_in_microcredits(config.round_budget),
                    total_microcredits=_in_microcredits(config.budget),
                ),
                repeat_rounds=config.repeat_rounds or None,
                seal=lambda: write_seal(seal, ledger.seal(), key),
                log=self._log,
            )
            rules = Rules(
                terms=Terms(
                    job=self._job.name,
                    unit=self._job.unit,
                    model=self._part.model,
                    units_per_round=config.units,
                    commit_timeout_s=config.commit_timeout_s,
                    round_timeout_s=config.round_timeout_s,
                    wait_share=config.wait_share,
                ),
                rounds=config.rounds,
                devices_min=config.devices_min,
                gather_timeout_s=config.gather_timeout_s,
                audits=self._audits,
                secret=ledger.secret() if config.seed is None else secret_of(config.seed),
                enrol_tokens=frozenset(config.enrol_tokens),
                unpaid_per_minute=config.unpaid_per_minute,
                batching=Batching(size_max=config.batch_max, wait_s=config.batch_wait_ms / 1000),
                demand=self._demand,
                job_settings=self._job_settings,
            )
            market = Market(rules, books, key, self._part, self._codecs, engagement, log=self._log)
            return market, books
        except BaseException:
            with contextlib.suppress(MarketError):
                ledger.give_up_lead()
            ledger.close()
            raise

    def _engagement(self) -> Engagement:
        mechanism = self._mechanism
        return mechanism if isinstance(mechanism, Engagement) else mechanism(self._part.model)


# ---------------------------------------------------------------- private


def _expect_key(path: Path) -> None:
    """Expects that a stated key can be read, or made.

    Raises:
        InputError: it cannot.
    """
    if path.exists():
        ServerKey(path)
    elif not path.parent.is_dir():
        raise InputError("serve", "key", "a file in a folder that exists", f"{path}")


def _in_microcredits(credits: float | None) -> int | None:
    return None if credits is None else in_microcredits(credits)


def _audit_rules(config: ServeConfig, power: float) -> AuditRules:
    def rate(units: list[int], reward: int, least_reward: int) -> float:
        return audit_rate(
            units, margin=config.margin, reward=reward, least_reward=least_reward, power=power
        )

    whole = dict(margin=config.margin, reward=1, least_reward=1, power=power)
    pieces = config.units
    if expected_gain(pieces, 1.0, [1] * pieces, **whole) >= 0:
        print(
            f"warning: an audit of this model finds {power:.0%} of cheats, and no rate makes "
            f"cheating lose money in a round of {pieces}: let a round have more",
            file=sys.stderr,
            flush=True,
        )
    if config.audit_timeout_s < AUDIT_TIMEOUT_SHORT_S:
        print(
            f"warning: an audit_timeout_s of {config.audit_timeout_s:g} is short: one connection "
            "that dies unnoticed may cost an honest device the pay of its round (below "
            f"{AUDIT_TIMEOUT_SHORT_S:g} s)",
            file=sys.stderr,
            flush=True,
        )
    chance = {} if config.seed is None else {"chance": random.Random(config.seed).random}
    return AuditRules(
        rate=rate,
        timeout_s=config.audit_timeout_s,
        strikes_max=config.strikes_max,
        fixed=config.audit_probability,
        bought=config.demand is not None,
        **chance,
    )
