"""Federated training for real: rounds, mechanisms, judgement and pay, over Flower.

::

    task, shards          what is learnt, and who holds which images
    engagement, contract  who trains, at which rate, for what (step 2 of the framework)
    messages, transport   what crosses the wire, and over what; in memory, or `flower`
    client                answers, trains, compresses; keeps its cost and residual
    judgement, aggregate  what the server believes, and what it makes of it
    rounds                the server's loop: ask, engage, train, judge, keep, pay
    folder                what of a run is on the disk
    simulated, run        `edgepact train`
    flower, apps          Flower's simulation, and the apps of a deployment

Only `flower` and `apps` import Flower; everything else runs without the extra.
"""
