"""Making a model itself lighter: int8 weights, fewer hidden units, weights set to zero.

One method a file. Each reads a model folder and writes another, with stages of its
own, that is usable wherever the first one was; `report` measures what was gained and
what was lost. `efficiency/compression.py` is about updates on the wire, not models.
"""
