"""Solvers that learn any `Problem`: the value-guided diffusion model, PPO, random."""
