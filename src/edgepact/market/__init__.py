"""Live rounds: offers, commitments, work and payments between processes."""
