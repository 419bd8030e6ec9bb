"""What people ask of runs: one planned from what was scanned, and commands to one that there is.

Known here is how a scanned serial is bound to a material of the recipe, and which commands make sense in which state.
What forbids a run is `dispatch`'s, how its deposition time is corrected is `run_corrections`'s, what a planned one
goes through is `runs`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import ValidationError
from sqlmodel import col, select

from equipment.commands import CommandIntent, CommandVerb, IntentState, intents_of_run, request_command
from equipment.dispatch import blockers
from equipment.run_corrections import Correction, correction_for, keep_correction
from equipment.run_records import Run, Use, find_run
from equipment.runs import enter_run
from equipment.states import RunState
from equipment.utilisation import find_tool
from recipes.control import Adjustment, BoundMaterial, ControlRecipe, freeze
from recipes.errors import NotRunnable
from recipes.lifecycle import Status
from recipes.limits import EquipmentClass
from recipes.master import MasterRecipe
from recipes.store import RecipeVersion, find_version, read_master_version, versions_of
from traceability.acts import Actor
from traceability.database import RecordSession
from traceability.errors import Finding, NotFound, Severity, refuse_for
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
class RunForecast:
    """What a wanted run would be if it were planned now.

    Attributes:
        control: The recipe as it would be frozen; None where it can't be.
        findings: Everything that forbids the run, and warnings.
    """

    control: ControlRecipe | None
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class _Wish:
    """What `dispatch` judges while no control recipe can be frozen."""

    work_master: str
    master: MasterRecipe
    experiment: bool
    materials: Sequence[BoundMaterial]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A wish with the control recipe and correction that it would get, or what stands against them."""

    wish: _Wish
    control: ControlRecipe | None
    correction: Correction | None
    findings: Sequence[Finding]


def check_request(record: RecordSession, request: RunRequest, actor: Actor) -> RunForecast:
    """What would come of the run, and against it, if the actor started it now; nothing is changed.

    Raises:
        NotFound: The line has no such tool, or there is no such recipe.
        NotRunnable: The document is a route or a protocol.
    """
    draft = _draft(record, request)
    wanted = draft.control or draft.wish
    found = blockers(record, tool=request.tool, control=wanted, actor=actor, starting=True)
    return RunForecast(draft.control, [*draft.findings, *found])


def plan_request(record: RecordSession, request: RunRequest, *, order: str | None = None) -> Run:
    """Plan the run that is asked for, its deposition time corrected by what earlier runs have taught.

    Raises:
        NotFound: There is no such tool, recipe or order.
        NotRunnable: The document is a route or a protocol.
        Refused: Something forbids it; all findings of binding, material, tool, person, recipe and correction.
    """
    with record.act("run.planned", *(thing.serial for thing in request.things)) as act:
        # From here on nobody else plans or decides for this tool: what is foreseen is what will be stored.
        find_tool(record, request.tool, lock=True)
        draft = _draft(record, request)
        if draft.control is None:
            found = [*draft.findings, *blockers(record, tool=request.tool, control=draft.wish)]
            refuse_for(f"The run can't be planned on {request.tool}.", found)
            raise RuntimeError("a recipe that can't be frozen has an error among its findings")
        move_id = None
        if draft.correction is not None:
            move_id = keep_correction(record, draft.wish.master, draft.correction)
        return enter_run(record, act, tool=request.tool, control_recipe=draft.control, order=order, move_id=move_id)


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


def _draft(record: RecordSession, request: RunRequest) -> _Draft:
    version = _version(record, request)
    master = read_master_version(record, version)
    materials, findings = _bound(record, master, request.things)
    wish = _Wish(version.work_master, master, request.experiment, materials)
    correction = _correction(record, request, wish)
    if correction is not None:
        findings += correction.findings
    control = None
    try:
        control = freeze(
            master,
            materials=materials,
            move=None if correction is None else correction.move,
            adjustments=request.adjustments,
            experiment=request.experiment,
            target_energy_kwh=0.0 if correction is None else correction.target_energy_kwh,
        )
    except NotRunnable as error:
        findings += error.findings
    forbidden = any(finding.severity is Severity.ERROR for finding in findings)
    return _Draft(wish, None if forbidden else control, correction, findings)


def _correction(record: RecordSession, request: RunRequest, wish: _Wish) -> Correction | None:
    """The run-to-run correction of a film; None where there is none, or it is not said from which target."""
    targets = [bound.serial for bound in wish.materials if bound.use == Use.TARGET]
    uses = {line.use for line in wish.master.materials_in}
    if wish.master.equipment_class is not EquipmentClass.SPUTTER or Use.TARGET not in uses or len(targets) != 1:
        return None
    return correction_for(
        record, wish.master, tool=request.tool, target_serial=targets[0], experiment=request.experiment
    )


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
