"""What Fashion-MNIST is, for settings that are read before anything large is loaded."""

from pathlib import Path

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts it."""

IMAGE_SIZE = 28
"""Pixels of a side."""
