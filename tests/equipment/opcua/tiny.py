"""A tool small enough to see through: one setpoint, one process value, one alarm, and jobs that last a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipment.jobs import JobOrder, MaterialRequirement, Parameter
from equipment.simulators.plant import Activity
from equipment.tags import (
    AlarmDefinition,
    JobParameter,
    Tag,
    TagRole,
    TagTable,
    TagType,
    TagValue,
    link_alarms,
    link_tags,
)

TINY = TagTable(
    equipment_class="tiny",
    components=("Heater",),
    tags=(
        *link_tags(),
        Tag("temperature_c", ("Monitoring", "Process", "Temperature"), TagType.DOUBLE, TagRole.PROCESS_VALUE, "Cel",
            -50.0, 500.0, 0.1, "temperature_setpoint_c", traced=True, description="Of the heater."),
        Tag("temperature_setpoint_c", ("Monitoring", "Process", "TemperatureSetpoint"), TagType.DOUBLE,
            TagRole.SETPOINT, "Cel", -50.0, 500.0, 0.1, traced=True),
        Tag("phase_name", ("Monitoring", "Status", "PhaseName"), TagType.STRING, TagRole.STATE),
        Tag("strokes", ("Components", "Heater", "Strokes"), TagType.UINT32, TagRole.COUNTER, "1", low=0.0),
    ),
    job_parameters=(
        JobParameter("temperature_c", TagType.DOUBLE, "Cel", 0.0, 400.0),
        JobParameter("duration_s", TagType.DOUBLE, "s", 0.1, 1e6),
        JobParameter("cycles", TagType.INT64, "1", 1, 10, required=False),
        JobParameter("gentle", TagType.BOOLEAN, required=False),
    ),
    job_actuals=(JobParameter("elapsed_s", TagType.DOUBLE, "s"),),
    alarms=(
        AlarmDefinition("too_hot", "The heater is too hot.", 700, "A stuck relay.", "Damage.", "Switch it off."),
        *link_alarms(),
    ),
)  # fmt: skip


class TinyPlant:
    """Heats at 10 K/s to the setpoint for the duration of a job."""

    tags = TINY
    serial_number = "T-1"
    model = "Tiny"
    manufacturer = "Nobody"

    def __init__(self) -> None:
        self.activity = Activity.IDLE
        self.door_open = False
        self._temperature = 20.0
        self._setpoint = 20.0
        self._left_s = 0.0
        self._elapsed_s = 0.0
        self._strokes = 0
        self._too_hot = False

    def problems(self, order: JobOrder) -> Sequence[str]:
        return [] if all(m.use == "disc" for m in order.materials) else ["only discs can be heated"]

    def start(self, order: JobOrder) -> Sequence[str]:
        if self.door_open:
            return ["the door is open"]
        self._setpoint = float(order.parameter("temperature_c"))
        self._left_s, self._elapsed_s = float(order.parameter("duration_s")), 0.0
        self._strokes += 1
        self.activity = Activity.RUNNING
        return []

    def pause(self) -> bool:
        self.activity = Activity.SUSPENDED
        return True

    def resume(self) -> bool:
        if self._too_hot:
            return False
        self.activity = Activity.RUNNING
        return True

    def stop(self) -> bool:
        self.activity = Activity.STOPPED
        return True

    def abort(self) -> None:
        self.activity = Activity.ABORTED

    def advance(self, dt_s: float) -> None:
        if self._too_hot and self.activity is Activity.RUNNING:
            self.activity = Activity.HELD
        if self.activity is not Activity.RUNNING:
            return
        step = 10.0 * dt_s
        self._temperature += max(-step, min(step, self._setpoint - self._temperature))
        self._elapsed_s += dt_s
        self._left_s -= dt_s
        if self._left_s <= 0.0:
            self.activity = Activity.COMPLETED

    def sample(self) -> Mapping[str, TagValue]:
        return {
            "temperature_c": self._temperature,
            "temperature_setpoint_c": self._setpoint,
            "phase_name": self.activity.value,
            "strokes": self._strokes,
            "machinery_state": 3 if self.activity is Activity.RUNNING else 2,
            "interlock_ok": not self.door_open,
        }

    def alarms(self) -> Mapping[str, bool]:
        return {"too_hot": self._too_hot}

    def actuals(self) -> Sequence[Parameter]:
        return [Parameter("elapsed_s", self._elapsed_s, "s")]

    def inject(self, fault: str, active: bool, **settings: float) -> None:
        if fault != "too_hot":
            raise LookupError(f"no fault {fault}; there is too_hot")
        self._too_hot = active

    def snapshot(self) -> Mapping[str, object]:
        return {"strokes": self._strokes}

    def restore(self, state: Mapping[str, object]) -> None:
        self._strokes = int(str(state["strokes"]))


def order(job_id: str, *, epoch: int = 1, temperature_c: float = 40.0, duration_s: float = 3600.0) -> JobOrder:
    """A job that is right for the tiny tool."""
    return JobOrder(
        job_id,
        "tiny-recipe/1/" + "0" * 64,
        (
            Parameter("temperature_c", temperature_c, "Cel"),
            Parameter("duration_s", duration_s, "s"),
            Parameter("cycles", 2, "1"),
            Parameter("gentle", True),
        ),
        (MaterialRequirement("D-1", "disc", 1), MaterialRequirement("D-2", "disc", None, "1.50", "g")),
        epoch,
        "a job for a test",
    )
