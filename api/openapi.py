"""Write the published documents of the API: `python -m api.openapi`.

`openapi.json` at the root of the project is the service's, `docs/tester-endpoint.openapi.json` that of a tester
endpoint. Both are kept, so that a change of the API shows in a review; a test compares them with the code.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import orjson

from api.app import create_app
from api.endpoints.tester import openapi_document as tester_document
from api.service import Service
from api.settings import Settings

ROOT = Path(__file__).parents[1]


def service_document() -> dict[str, Any]:
    """The OpenAPI document of the service, with all its routes, whatever the settings."""
    with tempfile.TemporaryDirectory() as folder:
        line = Path(folder) / "line.yaml"
        line.write_text("site: none\n", encoding="utf-8")
        settings = Settings(
            data_folder=Path(folder),
            database_url="",
            line_file=line,
            clock_file=None,
            drive_tools=False,
            run_jobs=False,
        )
        service = Service(settings)
        try:
            return create_app(service).openapi()
        finally:
            service.database.close()


def as_bytes(document: dict[str, Any]) -> bytes:
    """A document as it is kept: indented, in an order that does not depend on that of the code."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def main() -> None:
    """Write both documents anew."""
    (ROOT / "openapi.json").write_bytes(as_bytes(service_document()))
    (ROOT / "docs" / "tester-endpoint.openapi.json").write_bytes(as_bytes(tester_document()))


if __name__ == "__main__":
    main()
