"""What a live market that draws pictures showed: from the devices' results and the ledger.

The report has a grid of what was drawn, each picture with its prompt, what the judge saw, who did
how many steps, and what it earned.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from edgepact.credits import in_credits
from edgepact.errors import MarketError
from edgepact.files.stackelberg import GameFile
from edgepact.framework import Json, Sheet
from edgepact.jobs.picture.chain import Generator
from edgepact.market.statement import Statement
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import settle
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.palette import DEEP_GREEN, PURPLE
from edgepact.tables import yes

SHOWN_MAX = 80
"""Pictures in the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A picture, as a line of a device's results file tells it; the last line of a piece counts.

    Attributes:
        device: that did the last steps.
        round: the round.
        prompt: what was asked for.
        meant: the label in it, if it is known.
        judged: what the judge saw; None where the server was away.
        steps: done by the device.
        png: the picture as a PNG file, in base64.
        state: of its pay.
        audited: whether it was computed again before it was paid.
        paid_microcredits: what it has earned.
        bytes_received: HTTP bodies that came to the device.
        bytes_sent: HTTP bodies that the device sent.
        device_s: seconds of the device's steps.
    """

    device: str
    round: int
    prompt: str
    meant: str | None
    judged: str | None
    steps: int
    png: str
    state: str
    audited: bool
    paid_microcredits: int
    bytes_received: int
    bytes_sent: int
    device_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedRound:
    """A round: its price, credits a step; the steps of each device; its share of the optimum."""

    number: int
    price: float
    steps: dict[str, int]
    utility: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PicturesDrawn:
    """What came of a live market.

    Attributes:
        pictures: the last word on each.
        rounds: as played.
        generator: that drew them.
        market: that was played.
        statement: of the ledger.
        paid_as_earned: whether the ledger paid each picture what its round had promised.
        lost: devices that ended with an error, and their last words.
        solver: whose prices were posted.
        best_price, best_utility, best_steps: of the exact equilibrium.
    """

    pictures: tuple[Drawn, ...]
    rounds: tuple[PlayedRound, ...]
    generator: Generator
    market: GameFile
    statement: Statement
    paid_as_earned: bool
    lost: dict[str, str]
    solver: str
    best_price: float
    best_utility: float
    best_steps: int

    @property
    def as_meant(self) -> float | None:
        """Share of the pictures of known meaning that the judge names so."""
        known = [each for each in self.pictures if each.meant and each.judged]
        if not known:
            return None
        return float(np.mean([each.meant == each.judged for each in known]))

    @property
    def device_share(self) -> float:
        """Share of all steps that devices did."""
        every = self.generator.recipe.steps * len(self.pictures)
        return sum(each.steps for each in self.pictures) / every

    @property
    def audited(self) -> int:
        """Pictures that the server computed again before it paid."""
        return sum(each.audited for each in self.pictures)

    @property
    def decided(self) -> tuple[Sheet, ...]:
        """The prices of all rounds."""
        rows = [
            (
                f"{each.number}",
                f"{each.price:.5g}",
                f"{sum(each.steps.values())}",
                f"{each.utility:.5g}",
                f"{each.share:.2%}",
            )
            for each in self.rounds
        ]
        best = f"{self.best_price:.5g}", f"{self.best_steps}", f"{self.best_utility:.5g}"
        rows.append(("best", *best, f"{1.0:.2%}"))
        head = ("round", "price", "steps of all", "server's utility", "share of the optimum")
        return (
            Sheet(
                title=f"Prices posted in live rounds by {self.solver}",
                head=head,
                rows=tuple(rows),
                notes=("A share of 0 is the mean of random prices.",),
            ),
        )

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """Figures of the job."""
        right = [] if self.as_meant is None else [("judged as meant", f"{self.as_meant:.2%}")]
        count = len(self.pictures)
        received = sum(each.bytes_received for each in self.pictures) / count
        sent = sum(each.bytes_sent for each in self.pictures) / count
        return (
            ("pictures drawn", f"{count}"),
            *right,
            ("steps done by devices", f"{self.device_share:.2%}"),
            ("bytes to a device for a picture", f"{received:.0f}"),
            ("bytes from a device for a picture", f"{sent:.0f}"),
            ("jobs audited before payment", f"{self.audited}"),
            ("paid, credits", f"{in_credits(self._paid):.3f}"),
            ("paid price times steps for each picture", yes(self.paid_as_earned)),
            ("the books balance", yes(self.statement.balanced)),
            *((f"lost: {name}", words) for name, words in self.lost.items()),
        )

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        title = "Pictures drawn by real processes"
        return (Sheet(title=title, head=("figure", "value"), rows=self.rows),)

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "pictures": len(self.pictures),
            "judged_as_meant": self.as_meant,
            "device_share": self.device_share,
            "audited": self.audited,
            "paid_as_earned": self.paid_as_earned,
            "books_balance": self.statement.balanced,
            "rounds": [
                {
                    "price": each.price,
                    "steps": each.steps,
                    "server_utility": each.utility,
                    "share": each.share,
                }
                for each in self.rounds
            ],
        }

    @property
    def _paid(self) -> int:
        return sum(each.paid_microcredits for each in self.pictures)


def pictures_drawn(
    *,
    folder: Path,
    generator: Generator,
    market: GameFile,
    statement: Statement,
    lost: dict[str, str],
    solver: str,
) -> PicturesDrawn:
    """Reads what the processes wrote into `folder`.

    Raises:
        MarketError: no picture was finished, so there is nothing to report.
    """
    pictures = _read(folder, market.names)
    if not pictures:
        raise MarketError(f"no picture was finished; see the logs in {folder}")
    best, reach = equilibrium(market.game), range_of(market.game)
    rounds = []
    for record in statement.rounds:
        price = in_credits(record.price_microcredits or 0)
        steps = np.array([record.amounts.get(name, 0) for name in market.names], float)
        utility = float(settle(market.game, price, steps).server_utility)
        rounds.append(
            PlayedRound(
                number=record.number,
                price=price,
                steps=record.amounts,
                utility=utility,
                share=float(reach.share(utility)),
            )
        )
    assigned = {each.number: each.assigned for each in statement.rounds}
    paid_as_earned = statement.balanced and all(
        payment.amount == assigned[payment.round][payment.device].amount
        and payment.microcredits
        == assigned[payment.round][payment.device].reward_microcredits * payment.units
        for payment in statement.payments
    )
    return PicturesDrawn(
        pictures=tuple(pictures),
        rounds=tuple(rounds),
        generator=generator,
        market=market,
        statement=statement,
        paid_as_earned=paid_as_earned,
        lost=lost,
        solver=solver,
        best_price=float(best.price),
        best_utility=float(best.server_utility),
        best_steps=int(np.sum(best.layers)),
    )


def write_report(folder: Path, drawn: PicturesDrawn) -> Path:
    """Writes `report.html`: one file with all pictures in it, and asks nothing of any server."""
    steps = drawn.generator.recipe.steps
    stride = max(1, len(drawn.pictures) // SHOWN_MAX)
    tiles = "\n".join(_tile(each, steps) for each in drawn.pictures[::stride][:SHOWN_MAX])
    tables = "\n".join(
        _table(sheet) for sheet in (*drawn.decided, *drawn.sheets, _of_devices(drawn))
    )
    text = (
        f"Chains of {steps} steps: a server does the first, and the first of these once for "
        "prompts that belong together; a device does the last, and is paid for each. Beneath a "
        "picture stand its prompt and what a judge saw in it that took no part in drawing it, in "
        "red where that is not what was meant."
    )
    path = folder / "report.html"
    looks = {"green": DEEP_GREEN, "red": PURPLE}
    page = _PAGE.format(text=escape(text), tiles=tiles, tables=tables, **looks)
    path.write_text(page, encoding="utf-8")
    return path


def _tile(each: Drawn, steps: int) -> str:
    hit = each.meant is None or each.meant == each.judged
    seen = each.judged or "not judged"
    return (
        f'<div class="tile{"" if hit else " miss"}">'
        f'<img alt="Drawn for: {escape(each.prompt)}; judged as {escape(seen)}" '
        f'src="data:image/png;base64,{each.png}"><b>{escape(each.prompt)}</b>'
        f"<i>{escape(seen)}</i><small>{escape(each.device)}, the last {each.steps} of {steps} "
        f"steps<br>{in_credits(each.paid_microcredits):.3f} credits"
        f"{', audited' if each.audited else ''}</small></div>"
    )


def _of_devices(drawn: PicturesDrawn) -> Sheet:
    rows = []
    for name in drawn.market.names:
        own = [each for each in drawn.pictures if each.device == name]
        paid = in_credits(sum(each.paid_microcredits for each in own))
        median_ms = 1e3 * float(np.median([each.device_s for each in own])) if own else 0.0
        done = sum(each.steps for each in own)
        rows.append((name, f"{len(own)}", f"{done}", f"{median_ms:.2f}", f"{paid:.3f}"))
    head = ("device", "pictures", "steps", "ms of its own a picture, median", "paid, credits")
    return Sheet(title="Devices", head=head, rows=tuple(rows))


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in sheet.head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in sheet.rows
    )
    return (
        f"<section><h2>{escape(sheet.title)}</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></section>"
    )


def _read(folder: Path, names: Sequence[str]) -> list[Drawn]:
    found: dict[tuple[str, str], Drawn] = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            row = json.loads(line)
            if "picture" not in row:
                continue
            found[name, row["piece"]] = Drawn(
                device=name,
                round=row["round"],
                prompt=row["prompt"],
                meant=row["label_meant"],
                judged=row["label_judged"],
                steps=row["amount"],
                png=row["picture"],
                state=row["state"],
                audited=row["audited"],
                paid_microcredits=row["paid_microcredits"],
                bytes_received=row["bytes_received"],
                bytes_sent=row["bytes_sent"],
                device_s=row["device_seconds"],
            )
    return list(found.values())


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pictures drawn together</title>
<style>
body {{ margin:0; background:#f5f7f9; color:#1f2933;
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif; }}
main {{ max-width:960px; margin:0 auto; padding:32px 20px 64px; }}
h1 {{ font-size:30px; margin:0 0 4px; }}
h2 {{ font-size:20px; margin:0 0 8px; }}
p {{ color:#616e7c; max-width:76ch; }}
section {{ background:white; border:1px solid #e4e7eb; border-radius:10px; padding:22px 24px;
  margin-top:18px; }}
.tiles {{ display:grid; grid-template-columns:repeat(auto-fill,minmax(120px,1fr)); gap:10px; }}
.tile {{ border:1px solid #e4e7eb; border-top:3px solid {green}; border-radius:8px; padding:8px;
  text-align:center; font-size:13px; line-height:1.3; }}
.tile img {{ width:84px; height:84px; image-rendering:pixelated; display:block;
  margin:0 auto 6px; background:black; border-radius:4px; }}
.tile b, .tile i, .tile small {{ display:block; overflow-wrap:anywhere; }}
.tile i {{ font-style:normal; color:{green}; }}
.tile.miss {{ border-top-color:{red}; }}
.tile.miss i {{ color:{red}; }}
.tile small {{ color:#616e7c; font-size:12px; }}
table {{ border-collapse:collapse; width:100%; font-size:14px; display:block; overflow-x:auto; }}
th, td {{ text-align:right; padding:6px 10px; border-bottom:1px solid #e4e7eb;
  font-variant-numeric:tabular-nums; }}
th:first-child, td:first-child {{ text-align:left; }}
</style></head><body><main>
<h1>Pictures drawn together</h1>
<p>{text}</p>
<section><h2>What was drawn</h2><div class="tiles">
{tiles}
</div></section>
{tables}
</main></body></html>
"""
