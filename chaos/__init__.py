"""Whether the market keeps its promises whatever happens to it: real processes, real faults.

    make chaos ROUNDS=1000
    python -m chaos [PART ...] [--rounds N] [--seed S] [--json FILE] [--folder DIR] [--keep]

One number, `--rounds`, is the length of everything; each part says what it makes of it. All that
is drawn at random is drawn from `--seed`, which is printed, so that a run can be repeated.

A part is a module of this package, named in `chaos.parts.PARTS`, with

    ABOUT: str
        One line: what it does to the market.
    def run(given: Given) -> Outcome:
        Does it. `given` (see `chaos.parts.Given`) has the seed, the length, a folder of its own and
        `say`, which shows how far it is. What is promised and was not kept is a sentence in
        `Outcome.broken`; what was counted or measured stands in `Outcome.figures`. A part that the
        machine cannot do raises `CannotHere` with the reason, which is told and is no success.

Parts run one after another. A part that raises anything else counts as broken. The exit status is
1 if a promise was broken. `market` has the processes that parts are made of, `promises` what has
to hold of a ledger and of what devices were told.
"""
