"""Servers, devices and what happens to them, in one thread and in virtual time."""

import asyncio
import contextlib
import io
import json
import random
import secrets
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx
import numpy as np
import sqlalchemy as sa
from greenlet import getcurrent  # type: ignore[import-untyped]

from chaos import adding
from chaos.simulation import fibres, wire
from chaos.simulation.plan import Event, Party, Plan
from chaos.simulation.promises import Witness
from chaos.simulation.virtual_time import Clock, Loop, Process, State, Stuck
from edgepact import registry
from edgepact.errors import MarketError
from edgepact.market import device as device_module
from edgepact.market import fair_queue as fair_queue_module
from edgepact.market import link as link_module
from edgepact.market.books import Books
from edgepact.market.device import run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.http.application import application
from edgepact.market.ledger import Ledger, LedgerError, Limits
from edgepact.market.ledger import ledger as ledger_module
from edgepact.market.ledger.seals import expect_whole, write_seal
from edgepact.market.ledger.signing import ServerKey
from edgepact.market.play import Market, Rules
from edgepact.market.rounds import Terms
from edgepact.market.settling import AuditRules
from edgepact.mechanisms.audit_rate import audit_rate
from edgepact.tensors import Codec
from edgepact.work import Work

SHUTDOWN_TIMEOUT_S = 5.0
"""How long a server that stops waits for requests under way."""

LONGEST_S = 400.0
"""Virtual time that a market may take once its troubles are over."""

PATIENCE_S = 14.0
"""A message that is lost costs a device so long: a poll that is held open, and what is usual."""

PIECES = 24
OPERATOR = "operator"
FP32: Codec = registry.part("codecs", "fp32")


@dataclass(frozen=True, slots=True)
class Part(adding.Half):
    """A device's half of the job.

    Attributes:
        lies: whether it sends other numbers than it should.
    """

    lies: bool = False

    def pieces(self) -> range:
        """Few."""
        return range(self.first, self.first + PIECES)

    def work(self, piece: int, amount: int) -> Work:
        """Sends the number twice, or another one."""
        time.sleep(self.pause_s)
        wrong = 7 if self.lies and amount else 0
        for _ in range(adding.EXCHANGES):
            yield {"x": np.array([piece * (amount + 1) + wrong])}
        return {}


@dataclass(frozen=True, slots=True)
class Job(adding.Adding):
    """The job, with the device's half that is handed to it."""

    part: Part = field(default_factory=Part)

    def device_part(self, *_: object) -> Part:
        """That one."""
        return self.part


class World:
    """One interleaving.

    Args:
        plan: of it.
        seed: of what happens when.
        folder: empty.
        template: a ledger without anything in it.
        key: of all servers.
    """

    def __init__(self, plan: Plan, seed: str, folder: Path, template: Path, key: ServerKey) -> None:
        self.plan, self.folder = plan, folder
        self.clock = Clock()
        self._draws = random.Random(seed)
        self._file = folder / "ledger.db"
        shutil.copyfile(template, self._file)
        self._url = f"sqlite:///{self._file}"
        self.witness = Witness(plan, self._file, self.clock)
        self.loop = Loop(self.clock, self._draws, self.witness.look, self._begin)
        self.wire = wire.Wire(self.loop, self._draws, plan.faults, self._heard, self.witness.say)
        self._main = getcurrent()
        self._key = key
        self._servers: dict[str, Process] = {}
        self._devices: dict[str, Process] = {}
        self._stops: dict[str, Any] = {}
        self._open: dict[Process, list[Ledger]] = {}
        self._ended: dict[Process, asyncio.Future[str]] = {}
        self._fibres: dict[Process, fibres.Fibre] = {}
        self._to_stop: dict[Process, asyncio.Future[None]] = {}
        self._revoked: set[str] = set()
        self._over = False
        self._locked_until_s = 0.0
        self._away_s: dict[str, list[tuple[float, float]]] = {}
        self.counts: dict[str, int] = {}
        self.said = io.StringIO()
        self.story: list[str] = []
        """What happened, for whoever looks into an interleaving."""

    # ------------------------------------------------------------ all of it

    def run(self) -> None:
        """Lets it happen, and holds it against what was promised."""
        self.loop.set_exception_handler(self._unhandled)
        with self._in_virtual_time(), contextlib.redirect_stderr(self.said):
            try:
                self.loop.run_until_complete(self._happen())
                self._finish()
            except Stuck:
                self.witness.say("nobody waits for a time any more, and nothing is left to happen")
            finally:
                self._let_go()

    async def _happen(self) -> None:
        plan = self.plan
        for name in plan.servers:
            self.wire.sites[name] = wire.Site()
        servers = [self.loop.create_task(self._keep_server(name)) for name in plan.servers]
        devices = [self.loop.create_task(self._keep_device(each)) for each in plan.parties]
        for event in plan.events:
            self.loop.create_task(self._befall(event))
        self.loop.create_task(self._calm())
        done, late = await asyncio.wait([*servers, *devices], timeout=plan.trouble_s + LONGEST_S)
        if late:
            who = [*plan.servers, *(each.name for each in plan.parties)]
            tasks = [*servers, *devices]
            left = [name for name, task in zip(who, tasks, strict=True) if task in late]
            self.witness.say(f"{left} have not ended {LONGEST_S:g} s after the last trouble")
        for task in done:
            task.result()

    def _finish(self) -> None:
        with Ledger(self._url, read_only=True) as ledger:
            lying = {each.name for each in self.plan.parties if each.lies}
            self.witness.end(ledger, lying)
            for text, _ in ledger.verdicts():
                self._expect_silence(json.loads(text), lying)
            self.counts = ledger.jobs_by_state()

    def _expect_silence(self, verdict: dict[str, Any], lying: set[str]) -> None:
        """Who was there for all the time it had cannot have been silent."""
        device = verdict["device"]
        if device in lying | self._revoked:
            return
        end_s = self.witness.verdicts_s.get((verdict["round"], device), 0.0)
        start_s = end_s - self.plan.audit_timeout_s
        away = any(
            gone_s <= end_s and back_s >= start_s - 1.0
            for gone_s, back_s in self._away_s.get(device, [])
        )
        lost = sum(start_s - 1.0 <= each <= end_s for each in self.wire.lost_s.get(device, []))
        # A device notices within its patience that an answer is lost, and asks again.
        if not away and lost < max(1, self.plan.audit_timeout_s // PATIENCE_S):
            self.witness.say(
                f"{device} was there from {start_s:.1f} to {end_s:.1f} s, and is forfeit: {verdict}"
            )

    def _let_go(self) -> None:
        """Nothing of it is left behind."""
        for process in [*self._servers.values(), *self._devices.values()]:
            self._kill(process)
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                task.get_coro().close()
        self.loop._ready.clear()
        self.loop._scheduled.clear()
        self.loop.close()
        self.witness.close()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        error = told.get("exception")
        if error is None:
            return  # tasks of the dead
        place = traceback.extract_tb(error.__traceback__)[-1]
        self.witness.say(
            f"unhandled: {told.get('message')} ({type(error).__name__}: {error}, in "
            f"{place.name}, line {place.lineno} of {place.filename})"
        )

    @contextlib.contextmanager
    def _in_virtual_time(self) -> Iterator[None]:
        """Whoever asks for the time, sleeps, or draws, does so here."""
        draws = random.Random(self._draws.random())
        fibre_threads = SimpleNamespace(
            Lock=fibres.FibreLock,
            Event=fibres.FibreEvent,
            current_thread=object,
            main_thread=threading.main_thread,
        )
        server_threads = SimpleNamespace(Thread=fibres.FibreThread, Condition=fibres.FibreCondition)

        def sleep(seconds: float) -> None:
            if fibres.in_fibre():
                fibres.sleep(seconds)
            else:
                self.clock.pass_by(seconds)

        client = type("Client", (wire.Client,), {"wire": self.wire})
        with contextlib.ExitStack() as stack:
            for where, name, value in (
                (time, "monotonic", self.clock.monotonic),
                (time, "perf_counter", self.clock.monotonic),
                (time, "time", self.clock.wall),
                (time, "sleep", sleep),
                (secrets, "token_bytes", lambda n=32: draws.randbytes(n)),
                (secrets, "token_hex", lambda n=32: draws.randbytes(n).hex()),
                (httpx, "Client", client),
                (httpx, "HTTPTransport", wire.Client),
                (device_module, "threading", fibre_threads),
                (device_module, "ThreadPoolExecutor", fibres.FibrePool),
                (device_module, "wait", fibres.wait_all),
                (device_module, "_Stop", self._stop_of(device_module._Stop)),
                (link_module, "threading", fibre_threads),
                (link_module, "speaks_tls", lambda *_: False),
                (fair_queue_module, "threading", server_threads),
                (link_module, "random", SimpleNamespace(Random=lambda: draws)),
                (ledger_module, "this_process", lambda: fibres.owner().name),
                (sa, "create_engine", _engine),
            ):
                stack.enter_context(mock.patch.object(where, name, value))
            yield

    def _stop_of(self, kind: type[Any]) -> type[Any]:
        """What hears signals, and can be told of them here."""
        stops = self._stops

        class Stop(kind):  # type: ignore[misc]
            def __enter__(self) -> Any:
                self.process = fibres.owner()
                stops[self.process.name] = self
                return super().__enter__()

        return Stop

    def _begin(self, call: Callable[[], None]) -> None:
        """Has something done that may sleep, at once, for the process that runs."""
        process = fibres.owner()
        fibres.Fibre(self.loop, process, self._main, call, lambda error, _: None, at_once=True)

    # ------------------------------------------------------------ servers

    async def _keep_server(self, name: str) -> None:
        """Starts a server again and again, until the market is over."""
        while not self._over:
            process = self._servers[name] = Process(name)
            self._note(f"{name} starts")
            ended = self._ended[process] = self.loop.create_future()
            self.loop.create_task(self._serve(process, ended), context=process.context.copy())
            await ended
            self.wire.down(self.wire.sites[name])
            await asyncio.sleep(self._draws.choice((1.0, 3.0)))

    async def _serve(self, process: Process, ended: "asyncio.Future[str]") -> None:
        """A server from start to end, as `MarketServer` is one."""
        begun: asyncio.Future[tuple[Market, Books]] = self.loop.create_future()

        def settle(error: BaseException | None, result: Any) -> None:
            if error is None:
                begun.set_result(result)
            else:
                begun.set_exception(error)

        # A server that begins may wait for a lease to end, while others go on.
        fibres.Fibre(self.loop, process, self._main, lambda: self._market(process), settle)
        try:
            market, books = await begun
        except Exception as error:
            if not isinstance(error, MarketError):
                self.witness.say(f"{process.name} cannot start: {type(error).__name__}: {error}")
            self._end(process, ended, str(error))
            return
        site = self.wire.sites[process.name]
        site.process, site.app = process, application(market, OPERATOR)
        playing = asyncio.create_task(market.play())
        leading = asyncio.create_task(books.keep_lead())
        stop = self._to_stop[process] = self.loop.create_future()
        await asyncio.wait([playing, leading, stop], return_when=asyncio.FIRST_COMPLETED)
        site.app = None
        market.stop()
        end_s = time.monotonic() + SHUTDOWN_TIMEOUT_S
        while site.under_way and time.monotonic() < end_s:
            await asyncio.sleep(0.1)
        over = playing.done() and not playing.cancelled() and playing.exception() is None
        why = [
            str(task.exception())
            for task in (playing, leading)
            if task.done() and (not task.cancelled()) and task.exception()
        ]
        for task in (leading, playing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        self.loop.drain(books._writes)
        self.loop.drain(books._reads)
        market.close()
        self._over = self._over or over
        self._end(process, ended, "; ".join(why))

    def _market(self, process: Process) -> tuple[Market, Books]:
        """As `edgepact serve` makes it."""
        plan = self.plan
        ledger = self._ledger(process)
        ledger.lead()
        seal = self.folder / "ledger.seal"
        expect_whole(ledger, self._key, seal)
        books = Books(
            ledger,
            self._ledger(process, read_only=True),
            limits=Limits(round_microcredits=plan.round_budget, total_microcredits=plan.budget),
            repeat_rounds=plan.repeat_rounds or None,
            seal=lambda: write_seal(seal, ledger.seal(), self._key),
        )

        def rate(units: list[int], reward: int, least: int) -> float:
            if plan.audit_rate is not None:
                return plan.audit_rate
            return audit_rate(units, margin=0.25, reward=reward, least_reward=least)

        rules = Rules(
            terms=Terms(
                job="adding",
                model=adding.MODEL,
                units_per_round=plan.units_per_round,
                commit_timeout_s=plan.commit_timeout_s,
                round_timeout_s=plan.round_timeout_s,
            ),
            rounds=plan.rounds,
            devices_min=1,
            gather_timeout_s=None,
            audits=AuditRules(
                rate=rate,
                timeout_s=plan.audit_timeout_s,
                strikes_max=plan.strikes_max,
                chance=self._draws.random,
            ),
            secret=ledger.secret(),
            enrol_tokens=frozenset(f"once-{each.name}" for each in plan.parties),
        )
        market = Market(rules, books, self._key, adding.Half(), (FP32,), plan.engagement)
        market._settling._clock = self.clock.monotonic  # its default was taken before time stopped
        return market, books

    def _ledger(self, process: Process, *, read_only: bool = False) -> Ledger:
        ledger = Ledger(
            self._url,
            synchronous="OFF",
            read_only=read_only,
            clock=self.clock.wall,
            steady=self.clock.monotonic,
            pause=time.sleep,
        )
        self._open.setdefault(process, []).append(ledger)
        if not read_only:
            together = ledger.together

            @contextlib.contextmanager
            def failing() -> Iterator[None]:
                if self.clock.now_s < self._locked_until_s:
                    raise LedgerError("the database is locked")
                with together():
                    yield

            ledger.together = failing  # type: ignore[method-assign]
        return ledger

    # ------------------------------------------------------------ devices

    async def _keep_device(self, party: Party) -> None:
        """Starts a device again and again, until it has heard that the market is over."""
        while True:
            process = self._devices[party.name] = Process(party.name)
            self._note(f"{party.name} starts")
            ended = self._ended[process] = self.loop.create_future()
            self._fibres[process] = fibres.Fibre(
                self.loop,
                process,
                self._main,
                partial(self._device, party),
                partial(self._device_ended, process, ended),
            )
            why = await ended
            gone_s = self.clock.now_s
            stop = self._stops.get(party.name)
            if self._over or (not why and not (stop and stop.requested)):
                return
            if why and not why.startswith(("killed", "MarketError")):
                self.witness.say(f"{party.name} has ended with {why}")
                return
            if party.name in self._revoked:
                return
            await asyncio.sleep(self._draws.choice((0.1, 1.0, 4.0)))
            self._away_s.setdefault(party.name, []).append((gone_s, self.clock.now_s))

    def _device_ended(
        self,
        process: Process,
        ended: "asyncio.Future[str]",
        error: BaseException | None,
        _result: object,
    ) -> None:
        self._end(process, ended, f"{type(error).__name__}: {error}" if error else "")

    def _device(self, party: Party) -> None:
        """A device process."""
        config = DeviceConfig(
            server_url=",".join(f"http://{name}" for name in self.plan.servers),
            alpha=0.001,  # so small that it takes all steps at any price
            capacity=20.0,
            A=1.0,
            B=1.0,
            name=party.name,
            results=self.folder / f"{party.name}.jsonl",
            token_file=self.folder / f"{party.name}.token",
            enrol_token=f"once-{party.name}",
            away_timeout_s=party.away_timeout_s,
            in_flight=party.in_flight,
            job="adding",
        )
        part = Part(first=party.first, pause_s=party.pause_s, lies=party.lies)
        run_device(config, job=Job(part))

    # ------------------------------------------------------------ what happens to them

    def _heard(self, message: wire.Message, given: wire.Given) -> None:
        told = given.body[:120].decode(errors="replace")
        self._note(f"{message.device} {message.method} {message.target}: {given.status} {told}")
        self.witness.heard(message, given)

    def _note(self, what: str) -> None:
        self.story.append(f"{self.clock.now_s:.3f} {what}")

    def _end(self, process: Process, ended: "asyncio.Future[str]", why: str) -> None:
        """A process has come to its end."""
        self._note(f"{process.name} has ended: {why or 'properly'}")
        self._kill(process)
        if not ended.done():
            ended.set_result(why)

    def _kill(self, process: Process) -> None:
        """Nothing of a process happens any more."""
        if not process.alive:
            return
        process.state = State.DEAD
        process.held.clear()
        for fibre in list(process.fibres):
            if fibre is not getcurrent():
                fibre.interrupt(fibres.Killed())
        for ledger in self._open.pop(process, []):
            ledger.close()

    async def _befall(self, event: Event) -> None:
        """One event of the plan."""
        await asyncio.sleep(event.at_s)
        self._note(f"{event}")
        server = event.whom in self.plan.servers
        process = (self._servers if server else self._devices).get(event.whom)
        match event.kind:
            case "set clock":
                self.clock.set_s += self._draws.choice((-1e6, -30.0, 30.0, 1e6))
            case "lock":
                until_s = self.clock.now_s + event.lasts_s
                self._locked_until_s = max(self._locked_until_s, until_s)
            case "cut off":
                self.wire.cut_off.add(event.whom)
                start_s = self.clock.now_s
                await asyncio.sleep(event.lasts_s)
                self.wire.cut_off.discard(event.whom)
                self._away_s.setdefault(event.whom, []).append((start_s, self.clock.now_s))
            case "revoke":
                self._revoked.add(event.whom)
                with contextlib.suppress(MarketError), Ledger(self._url, synchronous="OFF") as own:
                    own.revoke(event.whom)  # it may not be enrolled yet
            case "pause" if process is not None and process.state is State.ALIVE:
                process.state = State.PAUSED
                await asyncio.sleep(event.lasts_s)
                self.loop.go_on(process)
            case "stop" if process is not None and process.alive:
                self._stop(process)
            case "kill" if process is not None and process.alive:
                site = self.wire.sites.get(event.whom)
                if site is not None:
                    self.wire.down(site)
                self._end(process, self._ended[process], "killed")

    def _stop(self, process: Process) -> None:
        """SIGTERM."""
        told = self._to_stop.get(process)
        if told is not None and not told.done():
            told.set_result(None)
        stop = self._stops.get(process.name)
        fibre = self._fibres.get(process)
        if fibre is not None and stop is not None and stop.process is process:
            stop.requested = True
            stop._link.stopping.set()
            if stop._waiting:
                stop._waiting = False
                fibre.interrupt(device_module._Stopped())

    async def _calm(self) -> None:
        """Trouble ends, and the operator lets in again who was shut out for its silence."""
        await asyncio.sleep(self.plan.trouble_s)
        self.wire.faults = wire.Faults()
        while not self._over:
            with Ledger(self._url, synchronous="OFF") as ledger:
                for name in ledger.shut_out():
                    lies = any(each.lies for each in self.plan.parties if each.name == name)
                    if not lies and name not in self._revoked:
                        ledger.readmit(name)
            await asyncio.sleep(5.0)
        # Whom nobody told that the market is over would wait for its server as long as it may.
        await asyncio.sleep(20.0)
        for process in [*self._servers.values(), *self._devices.values()]:
            if process.alive:
                self._stop(process)


_DIALECT: list[Any] = []
_CREATE_ENGINE = sa.create_engine


def _engine(url: Any, **settings: Any) -> Any:
    """An engine of the dialect, and with the compiled statements, of all others."""
    engine = _CREATE_ENGINE(url, **settings)
    if not _DIALECT:
        first = _CREATE_ENGINE("sqlite://")
        with first.connect():
            pass
        _DIALECT.extend([first.dialect, first._compiled_cache])
    engine.dialect, engine._compiled_cache = _DIALECT
    engine.pool._dialect = engine.dialect
    return engine
