"""`python -m api.cli`: the same as the command `argonaut`."""

from api.cli import main

main()
