"""The command `argonaut`: everything that is done at a shell, each group in its own module."""

from api.cli.application import main

__all__ = ["main"]
