"""How a decision is found: the generative diffusion model and its rivals."""
