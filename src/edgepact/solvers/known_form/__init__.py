"""Rivals that are told how devices decide, though not their costs."""
