"""Networks that were taught in advance to decide, with nothing generated: rivals of studies."""
