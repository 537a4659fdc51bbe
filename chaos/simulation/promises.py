"""What has to hold: after every call of a ledger's thread, and at the end."""

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.simulation.plan import Plan
from chaos.simulation.virtual_time import Clock
from chaos.simulation.wire import Given, Message
from edgepact.errors import InputError
from edgepact.market.ledger import Ledger
from edgepact.market.protocol import oip

SETTLED = frozenset({"paid", "forfeit", "expired"})

EXCLUSION_S = 20.0
"""What is in flight when a device is shut out may still come in for so long: longer than the
longest lock of the database, behind which it may wait."""

_BOOKS = """
select coalesce(sum(balance_microcredits), 0),
       coalesce(sum(case when account = 'server' then balance_microcredits end), 0),
       coalesce(sum(case when account = 'forfeited' then balance_microcredits end), 0),
       coalesce(sum(case when account like 'pending:%' then balance_microcredits end), 0),
       coalesce(sum(case when account like 'device:%' then balance_microcredits end), 0),
       coalesce(min(case when account <> 'server' then balance_microcredits end), 0)
from accounts
"""
_PIECES = """
select coalesce(sum(case when state = 'pending' then microcredits end), 0),
       coalesce(sum(case when state = 'paid' then microcredits end), 0),
       coalesce(sum(case when state = 'forfeit' then microcredits end), 0)
from pieces
"""


class Witness:
    """Keeps what servers have told, and holds them to it.

    Args:
        plan: what was agreed.
        file: the ledger.
        clock: of the simulation.
    """

    def __init__(self, plan: Plan, file: Path, clock: Clock) -> None:
        self._plan, self._clock = plan, clock
        self._books = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        self._version = -1
        self.broken: list[str] = []
        self._told: dict[tuple[str, str], dict[str, Any]] = {}
        self._states: dict[tuple[str, str], str] = {}
        self._shut_out: dict[str, tuple[float, int]] = {}
        self.verdicts_s: dict[tuple[int, str], float] = {}
        self.answers = Counter[int]()
        self.checks = 0

    def close(self) -> None:
        """Lets go of the ledger."""
        self._books.close()

    def say(self, what: str) -> None:
        """Notes what is broken."""
        sentence = f"at {self._clock.now_s:.3f} s: {what}"
        if len(self.broken) < 20:
            self.broken.append(sentence)

    def heard(self, message: Message, given: Given) -> None:
        """An answer that a server has sent: what it acknowledges must be down."""
        self.answers[given.status] += 1
        if given.status == 500:
            self.say(f"{message.method} {message.target} was answered with 500")
        if given.status != 200 or not message.path.endswith("/infer"):
            return
        length = next(
            (v.decode() for k, v in given.headers if k == oip.HEADER_LENGTH.lower().encode()), None
        )
        try:
            facts = oip.decode_response(given.body, length)
        except InputError as error:
            self.say(f"an answer cannot be read: {error}")
            return
        if facts.parameters.get("finished") is not True:
            return
        key = (message.device, facts.id)
        row = self._books.execute(
            "select state, microcredits, units from pieces where device = ? and piece = ?", key
        ).fetchall()
        if len(row) != 1:
            self.say(f"{key} was acknowledged and is in the ledger {len(row)} times")
            return
        told = {
            name: facts.parameters.get(name)
            for name in ("state", "units", "paid_microcredits", "pending_microcredits")
        }
        due = row[0][1]
        said = told["pending_microcredits"] if told["state"] == "pending" else None
        if told["state"] == "paid":
            said = told["paid_microcredits"]
        if said is not None and said != due:
            self.say(f"{key} was told {said} micro-credits, the ledger has {due}")
        if told["units"] != row[0][2]:
            self.say(f"{key} was told {told['units']} units, the ledger has {row[0][2]}")
        self._told[key] = told

    def look(self) -> None:
        """Looks at the books, if they have changed."""
        version = self._books.execute("pragma data_version").fetchone()[0]
        if version == self._version:
            return
        self._version = version
        self.checks += 1
        total, server, forfeited, pending, earned, least = self._books.execute(_BOOKS).fetchone()
        held, paid, lost = self._books.execute(_PIECES).fetchone()
        if total:
            self.say(f"balances add up to {total}")
        if least < 0:
            self.say(f"an account other than the server's holds {least}")
        if (held, paid, lost) != (pending, earned, forfeited):
            self.say(
                f"pieces are worth {held} pending, {paid} paid, {lost} forfeit; accounts hold "
                f"{pending}, {earned}, {forfeited}"
            )
        plan = self._plan
        if plan.budget is not None and -server - forfeited > plan.budget:
            self.say(f"{-server - forfeited} of a budget of {plan.budget} are promised")
        if plan.round_budget is not None:
            for number, promised in self._books.execute(
                "select round, sum(microcredits) from pieces "
                "where state in ('pending', 'paid') group by round"
            ):
                if promised > plan.round_budget:
                    self.say(f"round {number} promises {promised} of {plan.round_budget}")
        for number, device, units in self._books.execute(
            "select round, device, sum(units) from pieces group by round, device having "
            f"sum(units) > {plan.units_per_round}"
        ):
            self.say(f"{device} has delivered {units} units in round {number}")
        states = {
            (d, p): s for d, p, s in self._books.execute("select device, piece, state from pieces")
        }
        for key, before in self._states.items():
            now = states.get(key)
            if now is None:
                self.say(f"{key} was {before} and is gone")
            elif before in SETTLED and now != before:
                self.say(f"{key} was {before} and is {now}")
        self._states = states
        now_s = self._clock.now_s
        for name, out in self._books.execute(
            "select name, excluded or revoked from devices"
        ).fetchall():
            known = sum(key[0] == name for key in states)
            if not out:
                self._shut_out.pop(name, None)
            since_s, before = self._shut_out.get(name, (now_s, known))
            if out and known > before and now_s > since_s + EXCLUSION_S:
                self.say(f"{name} is shut out since {since_s:.3f} s and has delivered")
            if out:
                still = now_s <= since_s + EXCLUSION_S
                self._shut_out[name] = since_s, known if still else before
        for key in self._books.execute("select round, device from verdicts").fetchall():
            self.verdicts_s.setdefault(key, now_s)

    def end(self, ledger: Ledger, lying: set[str]) -> None:
        """All of it, once everything is over."""
        self.look()
        for sentence in ledger.check():
            self.say(sentence)
        for key, told in self._told.items():
            state = self._states.get(key)
            if state is None:
                self.say(f"{key} was acknowledged and is gone")
            elif told["state"] in SETTLED and state != told["state"]:
                self.say(f"{key} was told {told['state']} and is {state}")
        if any(state == "pending" for state in self._states.values()):
            open_now = [key for key, state in self._states.items() if state == "pending"]
            self.say(f"{open_now} are pending at the end")
        for number, closed in self._books.execute("select number, closed from rounds"):
            if not closed:
                self.say(f"round {number} is open at the end")
        for text, _ in ledger.verdicts():
            verdict = json.loads(text)
            silent = "not shown in time" in verdict["reason"]
            if verdict["device"] not in lying and not silent:
                self.say(f"the honest {verdict['device']} is forfeit: {verdict['reason']}")
