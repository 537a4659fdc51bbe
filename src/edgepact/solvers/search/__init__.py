"""Rivals that are told nothing: they look for the peak of a curve."""
