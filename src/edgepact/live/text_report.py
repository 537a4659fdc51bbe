"""What the report of a run shows in which texts were written."""

from dataclasses import asdict, fields
from html import escape
from pathlib import Path

from edgepact.credits import in_credits
from edgepact.live.job_told import JobTold, notes
from edgepact.live.report_charts import spread_out
from edgepact.live.report_page import strip
from edgepact.market.demand import buyer_in
from edgepact.pacts.partition_texts import DeviceTexts, TextResult, TextsDone

TEXTS_SHOWN = 60

HEAD = (
    *("device", "texts", "tokens", "tokens a second", "bytes sent a token", "received"),
    *("GMAC: device", "server", "paid, credits"),
)


def told(work: TextsDone, place: Path | None) -> JobTold:
    """What was written, and by whom.

    Args:
        work: that was done.
        place: not asked for.
    """
    blocks = work.profile.costs.layers_max
    shown = spread_out(work.pieces, TEXTS_SHOWN)
    return JobTold(
        kind="text",
        title=f"{len(work.devices)} devices, {len(work.pieces)} texts, {work.tokens} tokens",
        intro=(
            f"{work.profile.model}, a language model of {blocks} blocks, split between "
            "self-interested devices and one edge server. A device runs the first blocks for each "
            "token, the server the rest, and draws the token; blocks are paid for each token."
        ),
        file="texts.csv",
        columns=[each.name for each in fields(TextResult)],
        rows=({"device": device, **asdict(result)} for device, result in work.pieces),
        made=(
            "What was written",
            "".join(_text(device, each, blocks) for device, each in shown),
            "Bars show who ran which blocks: the device first, the server after it.",
        ),
        timed="a token",
        head=HEAD,
        devices=[_device(each) for each in work.devices],
    )


# ---------------------------------------------------------------- private


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
    return (
        f'<article><p class="prompt">{escape(each.prompt)}</p>'
        f'<p class="text">{escape(each.text)}</p>'
        f"{strip(each.amount, blocks - each.amount, words=who)}{notes(told)}</article>"
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


def _device(each: DeviceTexts) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.texts}", f"{each.tokens}", f"{each.tokens_per_s:.3g}"),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}", f"{each.paid_credits:.3f}"),
    )
