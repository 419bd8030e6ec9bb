"""The web face of Argonaut: HTTP, process start, settings and everything that composes the packages below."""
