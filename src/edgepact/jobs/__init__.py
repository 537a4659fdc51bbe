"""The jobs there are: what device and server do together, a file each."""
