"""The running service: every long-lived part, made once from the settings and handed on from here.

Nothing else creates databases, stores, clocks or controllers; tests make a service of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import equipment.acts
import recipes.acts
import traceability.acts
from api.settings import Settings
from traceability.clock import Clock, PiecewiseClock, SystemClock
from traceability.database import Database

ACTS = (*traceability.acts.ACTS, *recipes.acts.ACTS, *equipment.acts.ACTS)


@dataclass
class Service:
    """The parts of one process.

    Attributes:
        settings: As read at the start.
        clock: Domain time.
        database: The record.
    """

    settings: Settings
    clock: Clock
    database: Database

    @classmethod
    def create(cls, settings: Settings) -> Service:
        """Make the parts; nothing runs yet and nothing is migrated."""
        settings.data_folder.mkdir(parents=True, exist_ok=True)
        clock: Clock = PiecewiseClock(settings.clock_file) if settings.clock_file else SystemClock()
        return cls(settings, clock, Database(settings.url, clock, ACTS))

    def close(self) -> None:
        """Give everything back."""
        self.database.close()
