"""What people ask of runs: one planned from what was scanned, and commands to one that there is.

Known here is how a scanned serial is bound to a material of the recipe, and which commands make sense in which state.
What forbids a run is `dispatch`'s, what a planned one goes through is `runs`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import ValidationError
from sqlmodel import col, select

from equipment.commands import CommandIntent, CommandVerb, IntentState, intents_of_run, request_command
from equipment.dispatch import blockers
from equipment.maintenance import Target
from equipment.run_records import Run, Use, find_run
from equipment.runs import plan_run
from equipment.states import RunState
from recipes.control import Adjustment, BoundMaterial, ControlRecipe, freeze
from recipes.errors import NotRunnable
from recipes.lifecycle import Status
from recipes.master import MasterRecipe
from recipes.store import RecipeVersion, find_version, read_master_version, versions_of
from traceability.acts import Actor
from traceability.database import RecordSession
from traceability.errors import Finding, NotFound, refuse_for
from traceability.items import Item, look_up
from traceability.materials import Lot
from traceability.units import Unit

_STOPS = frozenset({CommandVerb.STOP, CommandVerb.ABORT})


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing for a run, as it was scanned.

    Attributes:
        position: Place on the carrier, where it has one.
        quantity: How much of a lot, in `unit`; None for one piece.
    """

    serial: str
    use: Use
    position: int | None = None
    quantity: Decimal | None = None
    unit: str = "piece"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that somebody wants.

    Attributes:
        tool: Name of the tool.
        recipe_id: Master recipe.
        number: Its version; the effective one where None.
        adjustments: Numbers set for this run, inside the tolerances of the recipe.
        experiment: It may use a version that is not effective; what it makes says so for ever.
    """

    tool: str
    recipe_id: str
    things: Sequence[Thing]
    number: int | None = None
    adjustments: Mapping[str, Adjustment] = field(default_factory=dict)
    experiment: bool = False


@dataclass(frozen=True, slots=True)
class _Wish:
    """What `dispatch` judges while no control recipe can be frozen."""

    work_master: str
    master: MasterRecipe
    experiment: bool
    materials: Sequence[BoundMaterial]


def check_request(record: RecordSession, request: RunRequest, actor: Actor) -> list[Finding]:
    """Everything that forbids or warns about a run if the actor started it now; nothing is changed.

    Raises:
        NotFound: The line has no such tool, or there is no such recipe.
        NotRunnable: The document is a route or a protocol.
    """
    wish, control, findings = _frozen(record, request)
    return [*findings, *blockers(record, tool=request.tool, control=control or wish, actor=actor, starting=True)]


def plan_request(record: RecordSession, request: RunRequest, *, order: str | None = None) -> Run:
    """Plan the run that is asked for.

    Raises:
        NotFound: There is no such tool, recipe or order.
        NotRunnable: The document is a route or a protocol.
        Refused: Something forbids it; all findings of binding, material, tool, person and recipe.
    """
    wish, control, findings = _frozen(record, request)
    if control is None:
        with record.act("run.planned", *(thing.serial for thing in request.things)):
            found = [*findings, *blockers(record, tool=request.tool, control=wish)]
            refuse_for(f"The run can't be planned on {request.tool}.", found)
            raise RuntimeError("a recipe that can't be frozen has an error among its findings")
    return plan_run(record, tool=request.tool, control_recipe=control, order=order)


def command_run(
    record: RecordSession, serial: str, verb: CommandVerb, *, reason: str = "", expected_version: int | None = None
) -> CommandIntent:
    """Ask the tool of a run to pause, resume, stop or abort it.

    Raises:
        NotFound: There is no such run.
        Refused: The run has ended, or is only planned.
        StaleVersion: The run was changed since it was read.
    """
    kind = "command.stop_requested" if verb in _STOPS else "command.requested"
    with record.act(kind, serial, reason=reason, detail={"verb": verb}):
        run = find_run(record, serial, expected_version)
        refuse_for(f"{serial} can't be asked to {verb}.", _state_findings(record, run, verb))
        return request_command(record, tool=run.tool, verb=verb, run_serial=serial, reason=reason)


def _state_findings(record: RecordSession, run: Run, verb: CommandVerb) -> Iterator[Finding]:
    if run.state.ended:
        message = f"{run.serial} has ended: it is {run.state}."
        yield Finding("run_ended", message, "Nothing is left to do.", run.serial)
    elif run.state is RunState.PLANNED:
        asked = any(
            intent.verb is CommandVerb.START and intent.state is not IntentState.REFUSED
            for intent in intents_of_run(record, run.serial)
        )
        if verb not in _STOPS or not asked:
            message = f"{run.serial} is planned and on no tool."
            yield Finding("run_not_started", message, "Start it, or withdraw it.", run.serial)


def _frozen(record: RecordSession, request: RunRequest) -> tuple[_Wish, ControlRecipe | None, list[Finding]]:
    """The control recipe, or what stands against it."""
    version = _version(record, request)
    master = read_master_version(record, version)
    materials, findings = _bound(record, master, request.things)
    wish = _Wish(version.work_master, master, request.experiment, materials)
    try:
        control = freeze(
            master,
            materials=materials,
            adjustments=request.adjustments,
            experiment=request.experiment,
            target_energy_kwh=_target_energy_kwh(record, materials),
        )
    except NotRunnable as error:
        return wish, None, [*findings, *error.findings]
    return wish, None if findings else control, findings


def _version(record: RecordSession, request: RunRequest) -> RecipeVersion:
    """The version to run; the newest where none is effective, so that all else that forbids the run is found too."""
    if request.number is not None:
        return find_version(record, request.recipe_id, request.number)
    versions = versions_of(record, request.recipe_id)
    if not versions:
        raise NotFound(f"There is no recipe {request.recipe_id}.")
    return next((version for version in versions if version.status is Status.EFFECTIVE), versions[-1])


def _bound(
    record: RecordSession, master: MasterRecipe, things: Sequence[Thing]
) -> tuple[list[BoundMaterial], list[Finding]]:
    items, _ = look_up(record, [thing.serial for thing in things if thing.use is not Use.DIE])
    codes = _material_codes(record, items)
    wanted = {line.use: line.material for line in master.materials_in}
    bound: list[BoundMaterial] = []
    findings: list[Finding] = []
    for thing in things:
        item = items.get(thing.serial)
        try:
            bound.append(
                BoundMaterial(
                    use=thing.use,
                    # A thing that does not say what it is, is taken for what the recipe wants there.
                    material=codes.get(thing.serial) or wanted.get(thing.use, "UNKNOWN"),
                    serial=thing.serial if item is None else item.serial,
                    position=thing.position,
                    quantity=Decimal(1) if thing.quantity is None else thing.quantity,
                    unit=thing.unit,
                )
            )
        except ValidationError as error:
            findings += [
                Finding("not_bindable", str(detail["msg"]), "Correct it.", f"{thing.serial}.{detail['loc'][0]}")
                for detail in error.errors()
            ]
    return bound, findings


def _material_codes(record: RecordSession, items: Mapping[str, Item]) -> dict[str, str]:
    """What each thing is, by the serial it was asked for."""
    keys = [item.key for item in items.values()]
    codes = {lot.item_id: lot.material_code for lot in record.exec(select(Lot).where(col(Lot.item_id).in_(keys)))}
    codes |= {unit.item_id: unit.product for unit in record.exec(select(Unit).where(col(Unit.item_id).in_(keys)))}
    return {serial: codes.get(item.key, "") for serial, item in items.items()}


def _target_energy_kwh(record: RecordSession, materials: Sequence[BoundMaterial]) -> float:
    serials = [bound.serial for bound in materials if bound.use == Use.TARGET]
    targets = record.exec(select(Target).where(col(Target.serial).in_(serials)))
    return float(sum((target.energy_kwh for target in targets), Decimal(0)))
