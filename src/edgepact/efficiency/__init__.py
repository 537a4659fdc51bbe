"""Layer 1: what can be saved. Stages of a model, what each costs, where it can be cut."""
