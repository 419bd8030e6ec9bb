"""Which tag table belongs to which class of equipment: the one place that lists the classes the MES can drive."""

from __future__ import annotations

from collections.abc import Mapping

from equipment.press import PRESS
from equipment.sputter import SPUTTER
from equipment.tags import TagTable
from traceability.activities import ActivityKind
from traceability.errors import NotFound
from traceability.exposure import Atmosphere

TAG_TABLES: Mapping[str, TagTable] = {table.equipment_class: table for table in (SPUTTER, PRESS)}

ACTIVITY_KINDS: Mapping[str, ActivityKind] = {
    SPUTTER.equipment_class: ActivityKind.SPUTTER_RUN,
    PRESS.equipment_class: ActivityKind.PRESS_RUN,
}

ATMOSPHERES: Mapping[str, Atmosphere] = {
    SPUTTER.equipment_class: Atmosphere.CHAMBER,
    PRESS.equipment_class: Atmosphere.PRESS,
}
"""What surrounds a thing that lies in the tool."""

GLOVEBOX = "glovebox"
"""Where things are before and after a run: all tools open into the same box."""


def tag_table(equipment_class: str) -> TagTable:
    """The tag table of a class of equipment.

    Raises:
        NotFound: The MES drives no such class.
    """
    if equipment_class not in TAG_TABLES:
        raise NotFound(f"No tool class {equipment_class!r} is known; there are {', '.join(TAG_TABLES)}.")
    return TAG_TABLES[equipment_class]
