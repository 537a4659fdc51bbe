"""What server and device say to each other, and how much of it they accept.

Two vocabularies share one connection: the market's own messages (`messages`) are small JSON
objects; a job's tensors travel by the Open Inference Protocol (`oip`). Both sides use these
modules, so that a device needs neither a web framework nor a database. Whatever comes from the
other side is checked here before anything is computed with it; what does not fit raises
`InputError`, whose message names the field. Sizes have limits.
"""
