"""Layer 3: training, of the embedded CLIP and (later) federated.

Nothing else imports this package: a user who only runs the shipped model never
loads it, and a device must not (it needs JAX).
"""
