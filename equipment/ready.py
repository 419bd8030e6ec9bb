"""What could be done next: the steps that open orders have for a tool, with what is there for them and what is not.

Worked out each time from orders, routes and stock; nothing of it is stored. Whether a run may really start is asked
of `dispatch` when its things are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from sqlmodel import col, select

from equipment.dispatch import KINDS, taken_by_runs
from equipment.orders import WorkOrder, open_orders
from equipment.run_records import Run, RunPosition, Use
from equipment.sputter import EQUIPMENT_CLASS as SPUTTER_CLASS
from equipment.states import RunState
from equipment.utilisation import find_tool
from recipes.errors import NotRunnable
from recipes.routes import BomLine, Route, RouteStep, StepKind
from recipes.store import find_version, read_content
from traceability.database import RecordSession
from traceability.errors import Finding
from traceability.exposure import exposure_of
from traceability.holds import holds_on
from traceability.items import ItemKind, find_item
from traceability.materials import Lot, LotStatus
from traceability.quantities import plain
from traceability.units import Unit, UnitStatus, find_unit

# Dies are set up on the press and are no things of the record.
_NOT_IN_STOCK = frozenset({Use.DIE.value})
_ONE_BY_ONE = frozenset(use.value for use, kinds in KINDS.items() if ItemKind.LOT not in kinds)


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A step of an open order.

    Attributes:
        order: Serial of the order.
        route: `id/version`.
        recipes: Of which the order picks one.
        remaining: How many are still to be made or in hand nowhere.
        candidates: Serials that could be used, by what they are to the step; what expires or came first stands first.
        missing: What is not there; empty when the step can be taken up.
    """

    order: str
    route: str
    step: str
    title: str
    recipes: tuple[str, ...]
    remaining: int
    candidates: Mapping[str, tuple[str, ...]]
    missing: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """All that it needs is there."""
        return not self.missing


def ready_list(record: RecordSession, tool: str | None) -> list[ReadyStep]:
    """What open orders have for a tool, or to be done by hand where `tool` is None; ready steps first.

    Raises:
        NotFound: The line has no such tool.
    """
    equipment_class = None if tool is None else find_tool(record, tool).equipment_class
    found: list[ReadyStep] = []
    for order in open_orders(record):
        route = route_of(record, order)
        for step in route.steps:
            wanted = StepKind.MANUAL if equipment_class is None else StepKind.EQUIPMENT
            if step.kind is wanted and step.equipment_class == equipment_class:
                remaining = _remaining(record, order, route, step)
                if remaining > 0:
                    found.append(_ready_step(record, order, route, step, remaining))
    return sorted(found, key=lambda step: not step.ready)


def route_of(record: RecordSession, order: WorkOrder) -> Route:
    """The route of an order, in the version that it was placed with.

    Raises:
        NotFound: There is no such version.
        NotRunnable: The document is no route.
    """
    document = read_content(record, find_version(record, order.route_id, order.route_version))
    if not isinstance(document, Route):
        raise NotRunnable(f"{order.route_id}/{order.route_version} is no route.")
    return document


def wait_findings(record: RecordSession, route: Route, step: RouteStep, serials: Iterable[str]) -> list[Finding]:
    """Things that have waited too long, or in too much water, for a step.

    A wait is counted from when the thing came to be, which is when the step that it is counted from made it or took
    it in.
    """
    findings: list[Finding] = []
    now = record.clock.now()
    for serial in serials:
        item, unit = find_item(record, serial), find_unit(record, serial)
        for wait in step.waits:
            if unit.product not in _products(route.step(wait.since_step)):
                continue
            waited, most = now - item.created_at, timedelta(hours=float(wait.max_h))
            if waited > most:
                message = (
                    f"{item.serial} has waited {waited / timedelta(hours=1):.1f} h since {wait.since_step}; "
                    f"at most {plain(wait.max_h)} h are allowed before {step.step}."
                )
                findings.append(Finding("queue_time_exceeded", message, "Use another, or ask QA.", item.serial))
            water_pa_s = 0.0 if wait.max_water_pa_s is None else exposure_of(record, serial).water_pa_s
            if wait.max_water_pa_s is not None and water_pa_s > wait.max_water_pa_s:
                most_pa_s = plain(wait.max_water_pa_s)
                message = f"{item.serial} has taken {water_pa_s:.0f} Pa·s of water; {most_pa_s} are allowed."
                findings.append(Finding("water_dose_exceeded", message, "Use another, or ask QA.", item.serial))
    return findings


def _ready_step(record: RecordSession, order: WorkOrder, route: Route, step: RouteStep, remaining: int) -> ReadyStep:
    candidates: dict[str, tuple[str, ...]] = {}
    missing: list[Finding] = []
    for line in step.materials:
        if line.use in _NOT_IN_STOCK:
            continue
        candidates[line.use], amount = _in_stock(record, route, step, line)
        if amount < line.quantity:
            message = (
                f"{plain(line.quantity)} {line.unit} of {line.material} are needed; {plain(amount)} can be used."
            )
            missing.append(Finding("not_available", message, "Receive, release or make it.", line.material))
    return ReadyStep(
        order=order.serial,
        route=f"{route.document_id}/{route.version}",
        step=step.step,
        title=step.title,
        recipes=step.recipes,
        remaining=remaining,
        candidates=candidates,
        missing=tuple(missing),
    )


def _in_stock(record: RecordSession, route: Route, step: RouteStep, line: BomLine) -> tuple[tuple[str, ...], Decimal]:
    """Serials of what may be used for a line of a step, and how much that is in the line's unit."""
    codes = [line.material, *line.alternatives]
    units = record.exec(
        select(Unit)
        .where(col(Unit.product).in_(codes), Unit.status == UnitStatus.AVAILABLE)
        .order_by(col(Unit.item_id))
    ).all()
    if units or line.use in _ONE_BY_ONE:
        taken = {} if line.use == Use.TARGET else taken_by_runs(record, [unit.item_id for unit in units])
        free = _not_held(record, [unit.serial for unit in units if unit.item_id not in taken])
        late = {finding.path for finding in wait_findings(record, route, step, free)}
        usable = tuple(serial for serial in free if serial not in late)
        return usable, Decimal(len(usable))
    now = record.clock.now()
    lots = record.exec(
        select(Lot)
        .where(col(Lot.material_code).in_(codes), Lot.status == LotStatus.RELEASED)
        .order_by(col(Lot.expires_at).is_(None), col(Lot.expires_at), col(Lot.item_id))
    )
    good = {lot.serial: lot for lot in lots if lot.expires_at is None or lot.expires_at > now}
    free = _not_held(record, list(good))
    return tuple(free), sum((good[serial].left.to(line.unit).value for serial in free), Decimal(0))


def _not_held(record: RecordSession, serials: Sequence[str]) -> list[str]:
    held = {hold.serial for hold in holds_on(record, serials)}
    return [serial for serial in serials if serial not in held]


def _remaining(record: RecordSession, order: WorkOrder, route: Route, step: RouteStep) -> int:
    """How many of a step's product the order still lacks, what is under way counted as there."""
    if step.produces is None:
        return 0
    wanted = order.quantity * _needed_later(route, step)
    runs = record.exec(select(Run).where(Run.order_id == order.key)).all()
    going = [run for run in runs if not run.state.ended and run.work_master.partition("/")[0] in step.recipes]
    ended = [run.key for run in runs if run.state is RunState.COMPLETED]
    results = select(RunPosition.result_serial).where(col(RunPosition.run_id).in_(ended))
    made = record.exec(
        select(Unit.serial).where(
            col(Unit.serial).in_(results),
            Unit.product == step.produces.material,
            Unit.status != UnitStatus.SCRAPPED,
        )
    ).all()
    return wanted - len(set(made)) - sum(_will_make(record, run) for run in going)


def _will_make(record: RecordSession, run: Run) -> int:
    if run.equipment_class != SPUTTER_CLASS:
        return 1
    discs = select(RunPosition).where(RunPosition.run_id == run.key, RunPosition.use == Use.DISC)
    return len(record.exec(discs).all())


def _needed_later(route: Route, step: RouteStep) -> int:
    """How many of a step's product one product of the route takes."""
    if step.produces is None or step.produces == route.product:
        return 1
    for later in route.steps:
        for line in later.materials:
            if line.from_step == step.step:
                return int(line.quantity)
    return 1


def _products(step: RouteStep) -> Iterator[str]:
    if step.produces is not None:
        yield step.produces.material
    elif step.kind is StepKind.RECEIVE:
        for line in step.materials:
            yield from (line.material, *line.alternatives)
