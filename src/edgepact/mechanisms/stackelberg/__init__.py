"""The Stackelberg game: the server posts a price per layer, devices answer with layers."""
