"""Cells on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.equipment.testers.cells import Cells
from traceability.database import Database


@pytest.fixture
def cells(database: Database, tmp_path: Path) -> Cells:
    return Cells(database, tmp_path)
