"""What the display of an instrument can show: readings in steps of their tag's resolution.

A controller sends what its converters give, never the noise of a float below them; without this a trace would store
digits that no tool has.
"""

from __future__ import annotations

from collections.abc import Mapping

from equipment.tags import TagTable, TagValue


class Displays:
    """The displays of one tool.

    Args:
        tags: Tell the resolution of each reading.
    """

    def __init__(self, tags: TagTable) -> None:
        # Steps a unit, so that a decimal step gives the nearest float of its decimal: 47 / 100, not 47 * 0.01.
        self._per_unit = {tag.name: round(1.0 / tag.resolution, 9) for tag in tags if tag.resolution}

    def shown(self, readings: Mapping[str, TagValue]) -> dict[str, TagValue]:
        """The readings as they are sent; those without a resolution as they are."""
        shown = dict(readings)
        for name, per_unit in self._per_unit.items():
            value = shown[name]
            if isinstance(value, float):
                shown[name] = round(value * per_unit) / per_unit
        return shown
