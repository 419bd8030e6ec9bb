"""May this run be done now: everything that forbids it, all at once.

The blockers of a run are looked for in four places, material, tool, person and recipe, and each says what to do.
Nothing is changed here. What could be done next by orders and routes is `ready`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from sqlmodel import col, select

from equipment.maintenance import Target, calibration_findings, target_findings
from equipment.run_records import Run, RunPosition, Use
from equipment.sputter import EQUIPMENT_CLASS as SPUTTER_CLASS
from equipment.states import RunState, ToolState
from equipment.utilisation import Tool, find_tool
from recipes.control import BoundMaterial
from recipes.errors import NotRunnable
from recipes.master import MasterRecipe
from recipes.store import runnable
from traceability.acts import Actor
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, Severity
from traceability.items import Item, ItemKind, look_up
from traceability.materials import Lot, Material
from traceability.quantities import Quantity
from traceability.units import Unit
from traceability.usability import Wanted as Asked
from traceability.usability import use_findings
from traceability.users import User

KINDS: Mapping[Use, frozenset[ItemKind]] = {
    Use.DISC: frozenset({ItemKind.DISC, ItemKind.COATED_DISC}),
    Use.WITNESS: frozenset({ItemKind.WITNESS}),
    Use.TARGET: frozenset({ItemKind.TARGET}),
    Use.POWDER: frozenset({ItemKind.LOT}),
    Use.PELLET: frozenset({ItemKind.PELLET}),
    Use.CATHODE: frozenset({ItemKind.CATHODE_BATCH}),
    Use.COLLECTOR: frozenset({ItemKind.LOT}),
}
"""What kind of thing may be used as what."""


class Wanted(Protocol):
    """What is wanted of a run: a control recipe, or what would become one."""

    @property
    def work_master(self) -> str:
        """`id/version/sha256` of the master recipe."""

    @property
    def master(self) -> MasterRecipe:
        """The whole master recipe."""

    @property
    def experiment(self) -> bool:
        """It may use a recipe that is not effective."""

    @property
    def materials(self) -> Sequence[BoundMaterial]:
        """What lies in the tool."""


_DOWN = (ToolState.SCHEDULED_DOWN, ToolState.UNSCHEDULED_DOWN, ToolState.NON_SCHEDULED)
_OPEN = [state for state in RunState if not state.ended]


def blockers(
    record: RecordSession,
    *,
    tool: str,
    control: Wanted,
    actor: Actor | None = None,
    run: Run | None = None,
    starting: bool = False,
) -> list[Finding]:
    """Everything that forbids a run, and warnings; empty when it may be done.

    Args:
        record: Open session.
        tool: Name of the tool.
        control: The frozen recipe, or what is to be frozen, with what is bound to it.
        actor: Who wants it; who acts in the session if left out.
        run: The run itself, where it is planned already: what it has taken does not stand against it.
        starting: It is to be started now, not only planned.

    Raises:
        NotFound: The line has no such tool.
    """
    found = find_tool(record, tool)
    return [
        *_recipe_findings(record, control, found),
        *_tool_findings(record, found, run, starting),
        *_person_findings(record, actor or record.actor, found),
        *_material_findings(record, control, run),
    ]


def _recipe_findings(record: RecordSession, control: Wanted, tool: Tool) -> Iterator[Finding]:
    master = control.master
    reference = f"{master.document_id}/{master.version}"
    if master.equipment_class != tool.equipment_class:
        yield Finding(
            "wrong_tool",
            f"{reference} is for a {master.equipment_class}; {tool.name} is a {tool.equipment_class}.",
            "Choose a tool of that class.",
            tool.name,
        )
    try:
        version = runnable(record, master.document_id, number=master.version, experiment=control.experiment)
    except NotFound as error:
        yield Finding("recipe_unknown", error.message, "Store the recipe first.", reference)
    except NotRunnable as error:
        yield from error.findings
    else:
        if version.work_master != control.work_master:
            message = f"{reference} has other content now than when this control recipe was frozen."
            yield Finding("recipe_changed", message, "Freeze it again.", reference)


def _tool_findings(record: RecordSession, tool: Tool, run: Run | None, starting: bool) -> Iterator[Finding]:
    if tool.state in _DOWN:
        reason = f": {tool.reason}" if tool.reason else ""
        message = f"{tool.name} is down ({tool.state}{reason})."
        yield Finding("tool_down", message, "Return it to service first.", tool.name)
    if starting and not tool.linked:
        reason = f" ({tool.link_note})" if tool.link_note else ""
        message = f"{tool.name} can't be spoken to{reason}."
        yield Finding("tool_not_linked", message, "Check the tool and its network.", tool.name)
    busy = record.exec(
        select(Run).where(Run.tool == tool.name, col(Run.state).in_([s for s in _OPEN if s.on_tool]))
    ).first()
    if starting and busy is not None and (run is None or busy.id != run.id):
        message = f"{busy.serial} is {busy.state} on {tool.name}."
        yield Finding("tool_busy", message, "Wait for its end.", busy.serial)
    yield from calibration_findings(record, tool.name)


def _person_findings(record: RecordSession, actor: Actor, tool: Tool) -> Iterator[Finding]:
    if actor.user_id is None:
        return
    user = record.get(User, actor.user_id)
    if user is None or tool.equipment_class not in user.trained_for:
        yield Finding(
            "not_trained",
            f"{actor.name} is not trained for a {tool.equipment_class}.",
            "Ask somebody who is, or have the training recorded.",
            actor.name,
        )


def _material_findings(record: RecordSession, control: Wanted, run: Run | None) -> Iterator[Finding]:
    things = [bound for bound in control.materials if bound.use != Use.DIE]
    items, _ = look_up(record, [bound.serial for bound in things])
    # One lot may lie in the die in two portions; all of it is asked for at once.
    amounts: dict[str, Decimal] = {}
    for bound in things:
        amounts[bound.serial] = amounts.get(bound.serial, Decimal(0)) + bound.quantity
    asked = {bound.serial: _asked(bound, items.get(bound.serial), amounts[bound.serial]) for bound in things}
    yield from use_findings(record, list(asked.values()))
    yield from _position_findings(control, things)
    keys = [item.key for item in items.values()]
    lots = {row.item_id: row for row in record.exec(select(Lot).where(col(Lot.item_id).in_(keys)))}
    units = {row.item_id: row for row in record.exec(select(Unit).where(col(Unit.item_id).in_(keys)))}
    targets = {row.item_id: row for row in record.exec(select(Target).where(col(Target.item_id).in_(keys)))}
    taken = taken_by_runs(record, keys, run)
    for bound in things:
        item = items.get(bound.serial)
        if item is None:
            continue
        if item.key in lots:
            yield from _promise_findings(bound, amounts[bound.serial], lots[item.key], taken.get(item.key, ()))
        elif item.key in units:
            yield from _unit_findings(bound, units[item.key], taken.get(item.key, ()))
        if item.kind is ItemKind.TARGET:
            yield from _target_findings(bound, targets.get(item.key))
    yield from _film_findings(record, control)


def _asked(bound: BoundMaterial, item: Item | None, amount: Decimal) -> Asked:
    """What the record is asked about a thing that is bound to a run."""
    kinds = KINDS[Use(bound.use)] if bound.use in list(Use) else frozenset()
    is_lot = item is not None and item.kind is ItemKind.LOT
    quantity = Quantity(amount, bound.unit) if is_lot else None
    return Asked(bound.serial, kinds, bound.material if is_lot else "", quantity)


def _position_findings(control: Wanted, things: Sequence[BoundMaterial]) -> Iterator[Finding]:
    for bound in things:
        if bound.use not in list(Use):
            message = f"{bound.serial} is bound as {bound.use}, which no run knows."
            yield Finding("unknown_use", message, f"Use one of {', '.join(Use)}.", bound.serial)
        on_carrier = bound.use in (Use.DISC, Use.WITNESS) and control.master.equipment_class == SPUTTER_CLASS
        if on_carrier and bound.position is None:
            message = f"{bound.serial} has no place on the carrier."
            yield Finding("position_missing", message, "Say at which position it lies.", bound.serial)


def _promise_findings(
    bound: BoundMaterial, amount: Decimal, lot: Lot, taken: Sequence[RunPosition]
) -> Iterator[Finding]:
    promised = sum((p.quantity for p in taken if p.quantity is not None and p.unit == bound.unit), Decimal(0))
    if not promised or not _same_measure(lot, bound.unit):
        return
    if lot.left.to(bound.unit).value < promised + amount:
        message = f"{lot.serial} has {lot.left} left, of which {Quantity(promised, bound.unit)} are for other runs."
        yield Finding("lot_promised", message, "Take less, or another lot.", lot.serial)


def _same_measure(lot: Lot, unit: str) -> bool:
    try:
        lot.left.to(unit)
    except InvalidInput:
        return False
    return True


def _unit_findings(bound: BoundMaterial, unit: Unit, taken: Sequence[RunPosition]) -> Iterator[Finding]:
    if unit.product and unit.product != bound.material:
        message = f"{unit.serial} is {unit.product}, not {bound.material}."
        yield Finding("other_material", message, f"Scan a {bound.material}.", unit.serial)
    if bound.use != Use.TARGET and taken:
        yield Finding("unit_taken", f"{unit.serial} is taken for another run.", "Scan another.", unit.serial)


def _target_findings(bound: BoundMaterial, target: Target | None) -> Iterator[Finding]:
    if target is None:
        message = f"The life of {bound.serial} is not counted yet."
        yield Finding("target_not_counted", message, "Counting begins with this run.", bound.serial, Severity.WARNING)
    else:
        yield from target_findings(target)


def _film_findings(record: RecordSession, control: Wanted) -> Iterator[Finding]:
    """The film has to have a name in the record before there is one."""
    for bound in control.materials:
        if bound.use != Use.TARGET:
            continue
        target = record.exec(select(Material).where(Material.code == bound.material)).first()
        code = bound.material if target is None else target.properties.get("film_material", bound.material)
        if target is None or record.exec(select(Material).where(Material.code == str(code))).first() is None:
            yield Finding("material_unknown", f"There is no material {code}.", "Define it first.", bound.serial)


def taken_by_runs(
    record: RecordSession, item_ids: Iterable[int], run: Run | None = None
) -> dict[int, list[RunPosition]]:
    """What runs that have not ended have taken of some things, by item; `run` itself does not count."""
    query = (
        select(RunPosition)
        .join(Run, col(Run.id) == RunPosition.run_id)
        .where(col(RunPosition.item_id).in_(set(item_ids)), col(Run.state).in_(_OPEN))
    )
    found: dict[int, list[RunPosition]] = {}
    for position in record.exec(query):
        if position.item_id is not None and (run is None or position.run_id != run.id):
            found.setdefault(position.item_id, []).append(position)
    return found
