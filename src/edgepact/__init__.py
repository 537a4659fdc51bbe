"""Price, split and pay for the work of a mobile edge network.

The folders follow the layers of the framework this package implements
(Lai et al., arXiv 2312.12063): ``efficiency`` leaves a variable open,
``mechanisms`` price it, ``solvers`` find the price, ``inference`` and
``market`` do the work and settle it. ``problem`` is the seam between
mechanisms and solvers.

Importing this package loads none of them: a device process must stay free of
JAX, and ``edgepact --help`` must answer at once.
"""

__version__ = "0.1.0"
