"""Routes: the operations that make each product, in order, with what each needs and how long things may wait.

A route names recipes and test protocols by their ids; which version runs is the effective one at the time. It knows
no order, no tool and no lot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from recipes.documents import Document, Frozen, Identifier, Name, Number, Text, Title, read
from recipes.errors import UnreadableDocument
from recipes.limits import EquipmentClass
from recipes.reading import Report, did_you_mean, read_whole
from traceability.errors import Finding
from traceability.items import ItemKind
from traceability.quantities import plain

Positive = Annotated[Number, Field(gt=0)]


class StepKind(StrEnum):
    """How a step is done."""

    RECEIVE = "receive"
    EQUIPMENT = "equipment"
    MANUAL = "manual"
    SCREEN = "screen"
    HANDOFF = "handoff"


class BomLine(Frozen):
    """A material that a step needs."""

    use: Name
    """What it is to the step: `disc`, `collector`, `screw`, `powder` …"""
    material: Identifier
    """Code of the material definition."""
    alternatives: Annotated[tuple[Identifier, ...], Field(max_length=20)] = ()
    """Other materials that may take its place."""
    quantity: Positive = Decimal(1)
    """For one product."""
    unit: Annotated[str, Field(max_length=16)] = "piece"
    """Unit of `quantity`."""
    from_step: Name | None = None
    """Earlier step that makes it; None for what comes from a lot or from another route."""


class LoggedValue(Frozen):
    """A number that the operator or an instrument logs at a step."""

    name: Name
    """Carries the unit, e.g. `screw_torque_n_m`."""
    unit: Annotated[str, Field(max_length=16)]
    """UCUM symbol."""
    help: Text
    """What to do, one sentence."""
    count: Annotated[int, Field(ge=1, le=50)] = 1
    """How many values, e.g. one a screw."""
    target: Number | None = None
    """What is aimed at."""
    low: Number | None = None
    """Below it the step is refused."""
    high: Number | None = None
    """Above it the step is refused."""


class Wait(Frozen):
    """How long, and in what air, a thing may wait before a step."""

    since_step: Name
    """Counted from the end of this earlier step."""
    max_h: Positive
    """Hours."""
    max_water_pa_s: Positive | None = None
    """Dose of water: partial pressure × time."""


class Product(Frozen):
    """What a step makes."""

    kind: ItemKind
    """Kind of serialised thing."""
    material: Identifier
    """Code of its definition."""


class RouteStep(Frozen):
    """One operation of a route."""

    step: Name
    """Unique within the route."""
    title: Title
    """For people."""
    kind: StepKind
    """How it is done."""
    equipment_class: EquipmentClass | None = None
    """For `equipment`."""
    recipes: Annotated[tuple[Identifier, ...], Field(max_length=50)] = ()
    """For `equipment`: master recipes of which the order picks one."""
    protocols: Annotated[tuple[Identifier, ...], Field(max_length=50)] = ()
    """For `handoff`: test protocols of which the order picks one."""
    materials: Annotated[tuple[BomLine, ...], Field(max_length=50)] = ()
    """What it needs for one product."""
    logs: Annotated[tuple[LoggedValue, ...], Field(max_length=50)] = ()
    """What is logged."""
    waits: Annotated[tuple[Wait, ...], Field(max_length=20)] = ()
    """Queue-time and dose limits before it."""
    produces: Product | None = None
    """What it makes."""
    instructions: Text = ""
    """For the operator."""


class Route(Document):
    """One version of the way in which one product is made."""

    format: Literal["argonaut-route"] = "argonaut-route"
    """Tells the kind of document."""
    route_id: Identifier
    """The same for all versions."""
    description: Text = ""
    """What it makes."""
    product: Product
    """What the whole route makes."""
    steps: Annotated[tuple[RouteStep, ...], Field(min_length=1, max_length=100)]
    """In order."""

    @property
    def document_id(self) -> str:
        """The same for all versions."""
        return self.route_id

    def step(self, name: str) -> RouteStep:
        """One step by name.

        Raises:
            LookupError: The route has no such step.
        """
        for step in self.steps:
            if step.step == name:
                return step
        raise LookupError(f"route {self.route_id} has no step {name!r}")

    def uses(self) -> frozenset[str]:
        """Ids of all recipes and protocols that it names."""
        return frozenset(name for step in self.steps for name in (*step.recipes, *step.protocols))


def log_findings(step: RouteStep, values: Mapping[str, Collection[Decimal]]) -> list[Finding]:
    """What keeps logged values from completing a step: missing, too many, unknown, out of limits.

    Args:
        step: The step.
        values: By name of the logged value, in its unit.
    """
    wanted = {log.name: log for log in step.logs}
    findings = [
        Finding("unknown_log", f"{name} is not logged at {step.step}.", did_you_mean(name, wanted), name)
        for name in values
        if name not in wanted
    ]
    for log in step.logs:
        given = values.get(log.name, ())
        if len(given) != log.count:
            findings.append(
                Finding(
                    "log_incomplete",
                    f"{len(given)} of {log.count} values of {log.name} are given.",
                    log.help,
                    log.name,
                )
            )
        for value in given:
            if (log.low is not None and value < log.low) or (log.high is not None and value > log.high):
                limits = " to ".join("open" if limit is None else plain(limit) for limit in (log.low, log.high))
                findings.append(
                    Finding(
                        "log_out_of_limits",
                        f"{log.name} {plain(value)} {log.unit} is outside {limits} {log.unit}.",
                        "Correct the step, or reject the part.",
                        log.name,
                    )
                )
    return findings


def validate_route(document: str | bytes | Mapping[str, Any]) -> Report[Route]:
    """Find everything that is wrong with a route by itself; never raises because of the input."""
    try:
        data = read(document)
    except UnreadableDocument as error:
        return Report[Route].unreadable(error)
    route, findings = read_whole(Route, data)
    return Report.judged(route, findings if route is None else [*findings, *_step_findings(route)])


def _step_findings(route: Route) -> Iterator[Finding]:
    before: dict[str, RouteStep] = {}
    for i, step in enumerate(route.steps):
        path = f"steps.{i}"
        if step.step in before:
            yield Finding("step_twice", f"{step.step} stands there twice.", "Name each step once.", f"{path}.step")
        yield from _kind_findings(path, step)
        for j, line in enumerate(step.materials):
            yield from _source_findings(f"{path}.materials.{j}", line, before)
        for j, wait in enumerate(step.waits):
            if wait.since_step not in before:
                yield _not_earlier(f"{path}.waits.{j}.since_step", wait.since_step, before)
        for j, log in enumerate(step.logs):
            if log.low is not None and log.high is not None and log.low > log.high:
                yield Finding("limits_crossed", f"The limits of {log.name} are crossed.", "Exchange them.",
                              f"{path}.logs.{j}.low")  # fmt: skip
        before[step.step] = step
    made = [step.produces for step in route.steps if step.produces is not None]
    if not made or made[-1] != route.product:
        yield Finding(
            "product_not_made",
            f"No step makes the route's product ({route.product.kind} {route.product.material}) as the last thing.",
            "Let the last making step produce it.",
            "product",
        )


def _kind_findings(path: str, step: RouteStep) -> Iterator[Finding]:
    needs = {
        "equipment_class": (step.kind is StepKind.EQUIPMENT, step.equipment_class is not None),
        "recipes": (step.kind is StepKind.EQUIPMENT, bool(step.recipes)),
        "protocols": (step.kind is StepKind.HANDOFF, bool(step.protocols)),
    }
    for field, (needed, given) in needs.items():
        if needed and not given:
            yield Finding("missing_field", f"An {step.kind} step needs {field}.", "Add it.", f"{path}.{field}")
        elif given and not needed:
            yield Finding("unknown_field", f"A {step.kind} step has no {field}.", "Remove it.", f"{path}.{field}")


def _source_findings(path: str, line: BomLine, before: Mapping[str, RouteStep]) -> Iterator[Finding]:
    if line.from_step is None:
        return
    if line.from_step not in before:
        yield _not_earlier(f"{path}.from_step", line.from_step, before)
        return
    made = before[line.from_step].produces
    if made is None or made.material not in {line.material, *line.alternatives}:
        yield Finding(
            "not_made_there",
            f"{line.from_step} does not make {line.material}.",
            "Name the step that makes it.",
            f"{path}.from_step",
        )


def _not_earlier(path: str, name: str, before: Mapping[str, RouteStep]) -> Finding:
    return Finding("not_an_earlier_step", f"{name} is no earlier step.", did_you_mean(name, before), path)
