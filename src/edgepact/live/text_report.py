"""The report of a run in which texts were written: one HTML file, with CSV beside it."""

import csv
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any

from edgepact.credits import in_credits
from edgepact.live import work_page
from edgepact.market.demand import buyer_in
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_priced import WorkPriced
from edgepact.pacts.partition_texts import DeviceTexts, TextResult, TextsDone
from edgepact.provenance import provenance, write_metrics

TEXTS_SHOWN = 60


def write_text_report(folder: Path, terms: Any, outcome: WorkPriced | LayersBought) -> Path:
    """Writes report.html, texts.csv and metrics.json.

    Args:
        folder: to write into.
        terms: of the scenario, kept beside its figures.
        outcome: of the pact.

    Returns:
        The path of report.html.
    """
    work = outcome.work
    assert isinstance(work, TextsDone)
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        columns = ["device", *(each.name for each in fields(TextResult))]
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for device, result in work.pieces:
            table.writerow({"device": device, **asdict(result)})
    write_metrics(folder, terms, outcome.to_dict())
    blocks = work.profile.costs.layers_max
    page = work_page.page(
        kind="text",
        title=f"{len(work.devices)} devices, {len(work.pieces)} texts, {work.tokens} tokens",
        intro=(
            f"{work.profile.model}, a language model of {blocks} blocks, split between "
            "self-interested devices and one edge server. A device runs the first blocks for each "
            "token, the server the rest, and draws the token; blocks are paid for each token."
        ),
        cards=work_page.cards(work.rows("as promised")),
        sections=(
            work_page.section("Where the time went", _times(work)),
            work_page.section("What each device did", _devices(work)),
            work_page.section("What was written", _texts(work, blocks)),
            *(work_page.sheet_section(each) for each in (*outcome.decided, *outcome.besides)),
            work_page.payments(work.statement, [each.name for each in work.devices]),
        ),
        origin=f"edgepact {provenance(terms)['edgepact']} · {work.live_seconds:.0f} s",
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


# ---------------------------------------------------------------- private


def _texts(work: TextsDone, blocks: int) -> str:
    shown = work_page.spread_out(work.pieces, TEXTS_SHOWN)
    return "".join(_text(device, each, blocks) for device, each in shown)


def _text(device: str, each: TextResult, blocks: int) -> str:
    audit = "audited" if each.audited else "not audited"
    speed = each.tokens / each.text_seconds if each.text_seconds else 0.0
    who = f"{device} did {_first(each.amount)}, the server {_rest(each.amount, blocks)}"
    coded = "token ids" if each.codec is None else f"activations in {each.codec}"
    told = [
        who,
        f"{each.prompt_tokens} tokens of prompt, {each.tokens} generated, "
        + ("all that were allowed" if each.reason == "length" else "to its end"),
        f"first token after {each.first_token_seconds:.2f} s, {speed:.3g} tokens a second",
        f"{each.bytes_sent:,} bytes sent, {each.bytes_received:,} received: {coded}",
        f"{in_credits(each.paid_microcredits):.3f} credits, {each.state}, {audit}",
    ]
    asked = buyer_in(each.piece)
    if asked is not None:
        told.append(f"asked for by {asked}")
    if each.replays:
        told.append(f"its session was lost {each.replays} times, and brought back")
    if each.tokens_alone:
        told.append(f"{each.tokens_alone} tokens were written without the server")
    notes = "".join(f"<li>{escape(line)}</li>" for line in told)
    return (
        f'<article><p class="prompt">{escape(each.prompt)}</p>'
        f'<p class="text">{escape(each.text)}</p>'
        f"{work_page.strip(each.amount, blocks - each.amount, words=who)}<ul>{notes}</ul></article>"
    )


def _first(amount: int) -> str:
    if amount == 0:
        return "nothing but asking"
    return f"the embedding and {'block 1' if amount == 1 else f'blocks 1 to {amount}'}"


def _rest(amount: int, blocks: int) -> str:
    if amount == 0:
        return "all of it"
    if amount == blocks:
        return "the head"
    rest = f"blocks {amount + 1} to {blocks}" if amount + 1 < blocks else f"block {blocks}"
    return f"{rest} and the head"


def _times(work: TextsDone) -> str:
    times = [(each.name, each.times) for each in work.devices if each.tokens]
    return work_page.time_bars(times, unit="a token")


def _devices(work: TextsDone) -> str:
    head = (
        *("device", "texts", "tokens", "tokens a second", "bytes sent a token", "received"),
        *("GMAC: device", "server", "paid, credits"),
    )
    lost = [f"{each.name} was lost: {each.lost}." for each in work.devices if each.lost]
    told = "".join(f"<p>{escape(each)}</p>" for each in lost)
    return work_page.table(head, [_device(each) for each in work.devices]) + told


def _device(each: DeviceTexts) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.texts}", f"{each.tokens}", f"{each.tokens_per_s:.3g}"),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}", f"{each.paid_credits:.3f}"),
    )
