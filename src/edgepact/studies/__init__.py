"""One file per figure or benchmark, each headed by its Config."""
