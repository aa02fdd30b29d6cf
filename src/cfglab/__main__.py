"""`python -m cfglab` is the command line."""

from cfglab.cli import main

main()
