"""Pictures from text: a server does the first steps of the chain, a device the last."""
