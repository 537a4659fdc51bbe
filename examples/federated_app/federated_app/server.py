"""The server side, as edgepact has it."""

from edgepact.training.federated.apps import server_side as app

__all__ = ["app"]
