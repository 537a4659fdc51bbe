"""`python -m edgepact`, the same as the `edgepact` command."""

from edgepact.cli import main

main()
