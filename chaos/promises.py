"""What has to hold of a market whatever was done to it, looked at from outside.

Acknowledged work is in the ledger once, and its pay is what the device was told: pending, then
paid, forfeit or expired, and never another once that was told. The books balance and their chain
goes on from where it was. In the end each device's own file says what the ledger says.
"""

import json
import time
from typing import Any

from chaos.market import PATIENCE_S, Broken, Market
from edgepact.market.demand import Demand
from edgepact.market.ledger import Ledger, LedgerError, PieceState, Seal, Settlement, buyer_of

OPEN = "pending"
SETTLED = frozenset({"paid", "forfeit", "expired"})


class Witness:
    """Keeps what a market has told, and holds it to that.

    Args:
        market: the market.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._seal: Seal | None = None
        self._read_to = dict.fromkeys(market.devices, 0)
        self._told: dict[int, dict[str, dict[str, Any]]] = {index: {} for index in market.devices}
        self.checks = 0

    def pieces(self) -> int:
        """How many pieces the ledger has; 0 while it cannot be read."""
        try:
            with self._ledger() as ledger:
                return sum(ledger.jobs_by_state().values())
        except LedgerError:
            return 0

    def await_work(self, more: int = 1) -> None:
        """Waits until pieces have come into the ledger.

        Raises:
            Broken: none come.
        """
        before = self.pieces()
        self._market.wait(lambda: self.pieces() >= before + more, "work to go on")

    def look(self) -> list[str]:
        """What is broken of what was told since the last look, and of the books since then."""
        with self._ledger() as ledger:
            # What was told before the books are read must be in them.
            fresh = {index: self._fresh(index) for index in self._market.devices}
            with ledger.one_state():
                wrong = ledger.check(self._seal, since=self._seal is not None)
                self._seal = ledger.seal()
                for index, told in fresh.items():
                    wrong += _compared(f"cam-{index}", told, ledger.find(f"cam-{index}", [*told]))
        self.checks += 1
        return wrong

    def end(self) -> list[str]:
        """Ends the market in good order; what is broken of all that was told."""
        for index in self._market.devices:
            self._market.stop(f"cam-{index}")
        self._await_settled()
        for name in [name for name in self._market.running if name.startswith("server")]:
            self._market.stop(name)
        return self.last_look()

    def last_look(self) -> list[str]:
        """What is broken of all that was told, of a market that has ended."""
        wrong = self.look()
        with self._ledger() as ledger:
            wrong += ledger.check()
            if sum(ledger.balances().values()) != 0:
                wrong.append("the balances of all accounts do not add up to zero")
            for index in self._market.devices:
                wrong += _agree(f"cam-{index}", self._told[index], ledger)
            if self._market.demand is not None:
                wrong += _sold(self._market.demand, ledger)
        return wrong

    def counts(self) -> dict[str, int]:
        """Pieces by state."""
        with self._ledger() as ledger:
            return ledger.jobs_by_state()

    # ------------------------------------------------------------ private

    def _ledger(self) -> Ledger:
        return Ledger(self._market.ledger_url, read_only=True)

    def _await_settled(self) -> None:
        """A device that goes is heard out; what it left open has the time of an audit."""
        end_s = time.monotonic() + PATIENCE_S
        while self.counts()[OPEN]:
            if time.monotonic() > end_s:
                raise Broken(f"{self.counts()[OPEN]} pieces were pending still at the end")
            time.sleep(0.1)

    def _fresh(self, index: int) -> dict[str, dict[str, Any]]:
        """The last line of each piece that a device has written since the last look."""
        path, found = self._market.results(index), dict[str, dict[str, Any]]()
        if not path.exists():
            return found
        with path.open("rb") as file:
            file.seek(self._read_to[index])
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # it is being written
                self._read_to[index] += len(raw)
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue  # cut short by a kill
                found[line["piece"]] = line
        self._told[index].update(found)
        return found


def _compared(
    device: str, told: dict[str, dict[str, Any]], found: dict[str, Settlement]
) -> list[str]:
    """What of a device's lines the ledger does not bear out; it may know more than they."""
    wrong = []
    for piece, line in told.items():
        state, kept = line["state"], found.get(piece)
        if state not in SETTLED | {OPEN}:
            continue  # nothing was acknowledged
        if kept is None:
            wrong.append(f"{device} was told that {piece} is {state}; the ledger has no such piece")
            continue
        if state in SETTLED and kept.state.value != state:
            wrong.append(f"{device} was told that {piece} is {state}; the ledger has {kept.state}")
        pay = line["pending_microcredits"] if state == OPEN else line["paid_microcredits"]
        due = kept.microcredits if state == OPEN else kept.paid_microcredits
        if pay != due:
            wrong.append(f"{device} was told {pay} micro-credits for {piece}; the ledger has {due}")
    return wrong


def _agree(device: str, told: dict[str, dict[str, Any]], ledger: Ledger) -> list[str]:
    """Where the last lines of a device and the ledger differ, in either direction."""
    wrong = list[str]()
    with ledger.told() as all_of_it:
        kept = {row.piece: row for row in all_of_it.pieces(device)}
        earned = all_of_it.balance(f"device:{device}")
    for piece, row in kept.items():
        line = told.get(piece)
        said = "no line" if line is None else line["state"]
        if said != PieceState(row.state).value:
            wrong.append(f"{device} has {said} for {piece}, which is {row.state} in the ledger")
    paid = sum(row.microcredits for row in kept.values() if row.state == PieceState.PAID)
    if paid != earned:
        wrong.append(f"{device} has earned {earned} micro-credits, its paid pieces are {paid}")
    return wrong


def _sold(demand: Demand, ledger: Ledger) -> list[str]:
    """Where what was sold differs from what was delivered, asked for and paid."""
    wrong, balances, sales = list[str](), ledger.balances(), ledger.sales()
    with ledger.told() as all_of_it:
        pieces = {row.piece: row for row in all_of_it.pieces()}
    requests = [each.request for each in sales]
    if sorted(requests) != sorted(pieces):
        wrong.append(f"{len(requests)} sales are not those of {len(pieces)} pieces, once each")
        return wrong
    for buyer in demand.buyers:
        own = [each for each in sales if each.buyer == buyer.name]
        if sum(each.units for each in own) > buyer.units:
            wrong.append(f"{buyer.name} was sold more than its quota of {buyer.units}")
        paid = [each for each in own if pieces[each.request].state == PieceState.PAID]
        due = buyer.microcredits * len(paid)  # a unit each
        if -balances.get(buyer_of(buyer.name), 0) != due:
            found = -balances.get(buyer_of(buyer.name), 0)
            wrong.append(f"{buyer.name} has paid {found} micro-credits for {len(paid)} pieces")
        if any(each.microcredits for each in own if each not in paid):
            wrong.append(f"{buyer.name} pays for pieces that their devices were not paid for")
    return wrong
