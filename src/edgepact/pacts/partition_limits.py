"""Limits of a market that is played with processes on one machine.

They stand by themselves since the command line's help states them and loads nothing large.
"""

ROUNDS_MAX = IMAGES_MAX = 1000

DEVICES_MAX = 64
"""Most devices, each a process, on one machine."""

DEVICES = 5
"""Devices to draw, if nothing is said."""
