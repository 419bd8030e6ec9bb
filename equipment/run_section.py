"""What the equipment has to say in the history record of a thing: the runs that it, or something in it, was in.

Each with the recipe as it was run, what was set against what was, deviations, alarms, phases of its trace and the
hash the trace is sealed with. Which runs belong to the history is decided by the record.
"""

from __future__ import annotations

from collections.abc import Sequence

from equipment.alarms import Alarm
from equipment.deviations import set_against_actual
from equipment.run_records import Deviation, Run, RunPosition
from equipment.trace_reading import phases, read_gaps
from equipment.traces import TraceRow, TraceSeal
from recipes.control import ControlRecipe
from traceability.canonical import JsonValue, canonical_value
from traceability.database import RecordSession
from traceability.errors import InvalidInput
from traceability.exports.record_sections import fields, rows_in

_TOLD_ELSEWHERE = (
    "id",
    "version",
    "activity_id",
    "order_id",
    "intent_id",
    "move_id",
    "epoch",
    "control_recipe",
    "actuals",
)


class RunSection:
    """The runs, in the order in which they were done."""

    name = "runs"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """Oldest first."""
        runs = rows_in(record, Run, "activity_id", activity_ids)
        keys = [run.key for run in runs]
        positions = rows_in(record, RunPosition, "run_id", keys)
        deviations = rows_in(record, Deviation, "run_id", keys)
        alarms = rows_in(record, Alarm, "run_serial", [run.serial for run in runs])
        return [
            {
                **fields(run, leave_out=_TOLD_ELSEWHERE),
                "things": [
                    fields(row, leave_out=("id", "run_id", "item_id")) for row in positions if row.run_id == run.id
                ],
                **_recipe(run),
                "deviations": [fields(row, leave_out=("id", "run_id")) for row in deviations if row.run_id == run.id],
                "alarms": [
                    fields(row, leave_out=("id", "version")) for row in alarms if row.run_serial == run.serial
                ],
                "trace": _trace(record, run),
            }
            for run in runs
        ]


def _recipe(run: Run) -> dict[str, JsonValue]:
    """The control recipe as it was run, and what was set against what was."""
    control = ControlRecipe.from_canonical(run.control_recipe)
    return {
        "recipe": canonical_value(
            {
                "title": control.master.title,
                "parameters": {name: {"value": p.value, "unit": p.unit} for name, p in control.parameters.items()},
                "choices": dict(control.choices),
                "corrections": [correction.model_dump() for correction in control.corrections],
            }
        ),
        "set_against_actual": [
            canonical_value(
                {
                    "parameter": line.parameter,
                    "unit": line.unit,
                    "rule": line.rule,
                    "set": line.target,
                    "tolerance": line.tolerance,
                    "actual": line.actual,
                    "inside": line.passed,
                }
            )
            for line in set_against_actual(run, control)
        ],
        "actuals": canonical_value(run.actuals),
    }


def _trace(record: RecordSession, run: Run) -> JsonValue:
    """The seal of the trace, its phases and its gaps; None where nothing was recorded."""
    if record.get(TraceRow, run.key) is None:
        return None
    seal = record.get(TraceSeal, run.key)
    connection = record.connection()
    try:
        spans = phases(connection, run.key)
    except InvalidInput:
        spans = []  # a tool that tells no phase
    return canonical_value(
        {
            "sealed": None if seal is None else {"sha256": seal.hash, "values": seal.samples, "at": seal.sealed_at},
            "phases": [{"number": span.number, "start": span.start, "end": span.end} for span in spans],
            "gaps": [
                {"start": gap.start, "end": gap.end, "reason": gap.reason} for gap in read_gaps(connection, run.key)
            ],
        }
    )
