"""Decisions in context: diffusion models trained once, for fleets never seen before."""
