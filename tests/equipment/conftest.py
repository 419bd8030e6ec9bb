"""A small line on both databases."""

from __future__ import annotations

import pytest

from tests.equipment.line import Line
from traceability.database import Database


@pytest.fixture
def line(database: Database) -> Line:
    return Line(database)
