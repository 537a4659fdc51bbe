"""Layer 3: training, of the embedded CLIP by itself and of its image tower together with devices.

Nothing else imports this package: a user who only runs the shipped model never
loads it, and a device must not (it needs JAX).
"""
