"""Layer 2: who pays whom. Utilities, best responses, exact optima and audits."""
