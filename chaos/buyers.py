"""SIGKILL where buyers ask for the work: nothing is sold twice, none pays beyond its quota.

Whatever holds of other markets holds too, see `kills`.
"""

from chaos import kills
from chaos.parts import Given, Outcome

ABOUT = "kill -9 where devices work on what buyers ask and pay for"


def run(given: Given) -> Outcome:
    """Kills, and in the end holds what was sold against what was delivered and asked for."""
    return kills.run(given, buyers=True)
