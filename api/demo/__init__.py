"""`argonaut demo`: the whole line on simulators, driven by people at the public API, from disc to tested cell."""

from api.demo.line import run_demo

__all__ = ["run_demo"]
