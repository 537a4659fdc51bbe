"""The client side, as edgepact has it."""

from edgepact.training.federated.apps import client_side as app

__all__ = ["app"]
