"""What a procedure must be so that each of its phases can be reached and completed.

Judged from the document alone: the order in which the equipment class runs its phases, what each sets and waits
for, and whether the waiting can end before the time-out.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from recipes.formula import Formula
from recipes.limits import EquipmentRules
from recipes.procedure import Completion, Phase, Setpoint, When
from recipes.reading import MasterParts, did_you_mean
from traceability.errors import Finding
from traceability.quantities import plain

SECONDS = {"s": Decimal(1), "min": Decimal(60), "h": Decimal(3600)}


def procedure_findings(parts: MasterParts, rules: EquipmentRules) -> Iterator[Finding]:
    """Everything that keeps a phase from being reached or completed."""
    yield from _order_findings(parts, rules)
    for path, phase in parts.phases:
        for signal, setpoint in phase.setpoints.items():
            yield from _setpoint_findings(f"{path}.setpoints.{signal}", signal, setpoint, parts, rules)
        yield from _completion_findings(f"{path}.completion", phase, parts, rules)


def _order_findings(parts: MasterParts, rules: EquipmentRules) -> Iterator[Finding]:
    furthest, last = -1, ""
    seen: set[str] = set()
    for path, phase in parts.phases:
        if phase.phase not in rules.phases:
            action = did_you_mean(phase.phase, rules.phases)
            yield Finding("unknown_phase", f"{phase.phase} is no phase of this equipment class.", action, path)
            continue
        place = rules.phases.index(phase.phase)
        if phase.phase in seen:
            yield Finding(
                "phase_twice", f"{phase.phase} stands there twice; the tool runs it once.", "Remove one.", path
            )
        elif place < furthest:
            yield Finding(
                "unreachable_phase",
                f"{phase.phase} is never reached: the tool runs it before {last}.",
                f"Put it before {last}.",
                path,
            )
        seen.add(phase.phase)
        if place > furthest:
            furthest, last = place, phase.phase
    if parts.phases_whole:
        for name in rules.phases:
            if name not in seen:
                yield Finding(
                    "missing_phase", f"The phase {name} is missing.", "Add it to an operation.", "procedure"
                )


def _setpoint_findings(
    path: str, signal: str, setpoint: Setpoint, parts: MasterParts, rules: EquipmentRules
) -> Iterator[Finding]:
    yield from _signal_findings(path, signal, rules)
    yield from _reference_findings(f"{path}.parameter", setpoint.parameter, parts, rules)
    yield from _reference_findings(f"{path}.rate", setpoint.rate, parts, rules)
    resolved = setpoint.resolve(parts.formula)
    if resolved is not None and signal in rules.signals and resolved[1] != rules.signals[signal]:
        yield _unit_finding(path, signal, resolved[1], rules.signals[signal])


def _completion_findings(path: str, phase: Phase, parts: MasterParts, rules: EquipmentRules) -> Iterator[Finding]:
    completion = phase.completion
    yield from _reference_findings(f"{path}.parameter", completion.parameter, parts, rules)
    if completion.signal is not None:
        yield from _signal_findings(f"{path}.signal", completion.signal, rules)
    if completion.when is When.ENDPOINT and "endpoint" not in rules.choices:
        yield Finding(
            "never_completes",
            f"{phase.phase} waits for an endpoint, which this equipment class has not.",
            "Wait for a signal or a time.",
            path,
        )
    resolved = completion.resolve(parts.formula)
    if resolved is None:
        return
    value, unit = resolved
    if completion.when is When.ELAPSED:
        yield from _waiting_findings(path, phase, value, unit)
    elif completion.signal is not None and completion.signal in rules.signals:
        if unit != rules.signals[completion.signal]:
            yield _unit_finding(path, completion.signal, unit, rules.signals[completion.signal])
        else:
            yield from _contradiction_findings(path, phase, completion, value, unit, parts.formula)


def _waiting_findings(path: str, phase: Phase, value: Decimal, unit: str) -> Iterator[Finding]:
    if unit not in SECONDS:
        yield _unit_finding(path, "elapsed time", unit, "s")
        return
    waiting = value * SECONDS[unit]
    if waiting >= phase.timeout_s:
        yield Finding(
            "never_completes",
            f"{phase.phase} waits {plain(waiting)} s but is too late after {plain(phase.timeout_s)} s, "
            "so what follows is never reached.",
            f"Raise timeout_s above {plain(waiting)}.",
            path,
        )


def _contradiction_findings(
    path: str, phase: Phase, completion: Completion, value: Decimal, unit: str, formula: Formula
) -> Iterator[Finding]:
    """A phase that sets a signal to where its own completion can't be, or ramps it too slowly."""
    setpoint = phase.setpoints.get(completion.signal or "")
    resolved = None if setpoint is None else setpoint.resolve(formula)
    if setpoint is None or resolved is None or resolved[1] != unit:
        return
    wanted = resolved[0]
    if (wanted > value) if completion.when is When.AT_MOST else (wanted < value):
        yield Finding(
            "never_completes",
            f"{phase.phase} sets {completion.signal} to {plain(wanted)} {unit} and waits for "
            f"{completion.when.replace('_', ' ')} {plain(value)} {unit}, so what follows is never reached.",
            "Make both agree.",
            path,
        )


def _signal_findings(path: str, signal: str, rules: EquipmentRules) -> Iterator[Finding]:
    if signal not in rules.signals:
        action = did_you_mean(signal, rules.signals)
        yield Finding("unknown_signal", f"{signal} is no signal of this equipment class.", action, path)


def _reference_findings(path: str, name: str | None, parts: MasterParts, rules: EquipmentRules) -> Iterator[Finding]:
    if name is None or name in parts.named:
        return
    action = f"Add {name} to the formula." if name in rules.parameters else did_you_mean(name, rules.parameters)
    yield Finding("unknown_parameter", f"The formula has no parameter {name}.", action, path)


def _unit_finding(path: str, signal: str, given: str, wanted: str) -> Finding:
    return Finding(
        "wrong_unit", f"{signal} is given in {given or 'no unit'}, not in {wanted}.", f"Convert to {wanted}.", path
    )
