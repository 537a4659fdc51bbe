"""Side-by-side comparisons with other software; `python -m benchmarks`."""
