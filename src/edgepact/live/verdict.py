"""What the numbers of a run mean for who ran it, in a few sentences at the head of its report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgepact.credits import in_credits
from edgepact.live.report_charts import number
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_jobs import Work
from edgepact.pacts.partition_priced import MarketPlayed, WorkPriced, worth_of

ROUNDING = 1e-6
"""Credits: a loss below the ledger's smallest coin is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run means.

    Attributes:
        sentences: in order.
        good: whether everybody was paid as promised, the books balance, neither the server nor a
            device lost by taking part, and no device dropped out.
    """

    sentences: tuple[str, ...]
    good: bool


def verdict_of(played: MarketPlayed | WorkPriced | LayersBought, work: Work) -> Verdict:
    """Reads the figures.

    Args:
        played: what came of the run.
        work: that was done in it.
    """
    gains = _gains(played)
    dropped = [each for each in work.devices if each.lost is not None]
    losers = {name: gain for name, gain in gains.items() if gain < -ROUNDING}
    sound = work.statement.balanced and work.paid_as_earned
    earnings = None if isinstance(played, LayersBought) else played.earnings
    lost = earnings is not None and earnings.utility < 0.0
    sentences = (
        *_money(played, work),
        _reached(played),
        _fate(losers),
        f"{_named([each.name for each in dropped])} dropped out."
        if dropped
        else "No device dropped out.",
        "The ledger balances, and everybody was paid as promised."
        if sound
        else "The ledger does NOT show what was promised: see Payments.",
    )
    return Verdict(
        sentences=tuple(each for each in sentences if each),
        good=sound and not losers and not dropped and not lost,
    )


# ---------------------------------------------------------------- private


def _money(played: MarketPlayed | WorkPriced | LayersBought, work: Work) -> Iterator[str]:
    paid = sum(each.paid_credits for each in work.devices)
    units = sum(units for _, _, units, _ in work.paid_pieces)
    told = f"The server paid {number(paid)} credits for {units:,} {work.unit}s"
    if isinstance(played, LayersBought):
        last = played.rounds[-1]
        each = f"for one {work.unit} of each device"
        yield f"{told}, and kept {number(last.profit)} credits {each} in the last round."
        return
    if isinstance(played, MarketPlayed):
        worth = sum(worth_of(work, played.findings.market).values())
    else:
        worth = sum(played.worth.values())
    kept = worth - paid
    own = f"what the same {work.step}s would have cost it"
    yield (
        f"{told}, and kept {number(kept)} credits of {own}."
        if kept >= 0.0
        else f"{told}, {number(-kept)} credits more than {own}."
    )
    if played.earnings is not None:
        earned = played.earnings.utility
        bought = in_credits(played.earnings.revenue_microcredits)
        did = f"it earned {number(earned)}" if earned >= 0.0 else f"it LOST {number(-earned)}"
        yield f"Its buyers paid {number(bought)} credits, and after its own computing {did}."


def _reached(played: MarketPlayed | WorkPriced | LayersBought) -> str:
    """How near it came to what perfect knowledge would have brought."""
    if isinstance(played, LayersBought):
        share = played.rounds[-1].share
        if share is None:
            return "There was nothing to earn by sharing the work."
        return f"That is {share:.1%} of {played.optimum}."
    rounds = played.findings.rounds if isinstance(played, MarketPlayed) else played.rounds
    mean, last = sum(each.share for each in rounds) / len(rounds), rounds[-1].share
    scale = "where a random price is at 0% and perfect knowledge of all costs at 100%"
    return f"Its prices reached {mean:.1%} in the mean and {last:.1%} in the last round, {scale}."


def _gains(played: MarketPlayed | WorkPriced | LayersBought) -> Mapping[str, float]:
    """By device, the least it had in a round over staying away; of what was bought, in all."""
    if isinstance(played, LayersBought):
        return played.kept
    rounds = played.findings.rounds if isinstance(played, MarketPlayed) else played.rounds
    least: dict[str, float] = {}
    for each in rounds:
        for name, gain in each.gains.items():
            if each.layers.get(name, 0) > 0:
                least[name] = min(gain, least.get(name, gain))
    return least


def _fate(losers: Mapping[str, float]) -> str:
    if not losers:
        return "No device lost by taking part."
    worst = min(losers, key=lambda name: losers[name])
    most = f"{number(-losers[worst])} credits"
    if len(losers) == 1:
        return f"{worst} LOST {most} by taking part."
    return f"{_named(list(losers))} LOST by taking part, {worst} most: {most}."


def _named(names: list[str]) -> str:
    """The first few."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")
