"""`python -m api.endpoints` writes the OpenAPI document of a tester endpoint to standard output."""

from __future__ import annotations

import sys

import orjson

from api.endpoints.tester import openapi_document

_FORM = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def published() -> bytes:
    """The document as it is kept in `docs/tester-endpoint.openapi.json`."""
    return orjson.dumps(openapi_document(), option=_FORM)


if __name__ == "__main__":
    sys.stdout.buffer.write(published())
