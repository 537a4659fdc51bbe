"""edgepact on a real Flower deployment."""
