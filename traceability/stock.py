"""Taking from lots, splitting and merging them: every amount that leaves one place arrives in another, exactly.

Lots are locked in one order before they are judged, so that two people can't take the same last gram. Whether a
split or merged lot may be used later is decided when it is used; it carries its parents' holds by genealogy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from traceability.activities import ActivityKind, ActivityRow, Outcome, begin_activity, end_activity
from traceability.database import RecordSession
from traceability.errors import Finding, refuse_for
from traceability.genealogy import EdgeKind, link_new
from traceability.holds import holds_on
from traceability.items import ItemKind, look_up
from traceability.materials import Lot, LotStatus, amount_findings, find_lot, lock_lots, lot_findings, new_lot, take
from traceability.quantities import Quantity


def consume(record: RecordSession, serial: str, quantity: Quantity, activity: ActivityRow) -> Lot:
    """Take an amount from a lot for an activity that makes nothing of it which has a serial (gas, a trial, waste).

    Raises:
        InvalidInput: The serial is none.
        NotFound: There is no such lot.
        Refused: It may not be used, or has not so much; all findings.
    """
    with record.act("lot.consumed", serial, activity.serial, detail={"quantity": str(quantity)}):
        lot = find_lot(record, serial, lock=True)
        findings = lot_findings(lot, record.clock.now(), quantity)
        findings += [hold.finding for hold in holds_on(record, [lot.serial])]
        refuse_for(f"{lot.serial} can't be used.", findings)
        take(record, lot, quantity.to(lot.unit))
    return lot


def split_lot(record: RecordSession, serial: str, amounts: Sequence[Quantity], *, reason: str = "") -> list[Lot]:
    """Take amounts out of a lot as lots of their own; what is left stays in the first.

    A lot in quarantine, expired or held may be split: the parts are so too.

    Args:
        record: Open write session.
        serial: The lot.
        amounts: One for each part.
        reason: Why.

    Returns:
        The parts in the order of their amounts.

    Raises:
        InvalidInput: The serial is none.
        NotFound: There is no such lot.
        Refused: It is used up or scrapped, or has not so much; all findings.
    """
    with record.act("lot.split", serial, reason=reason, detail={"amounts": [str(a) for a in amounts]}) as act:
        lot = find_lot(record, serial, lock=True)
        findings = [finding for amount in amounts for finding in amount_findings(lot, amount)] + _gone(lot)
        if not amounts:
            message = "No amount was given."
            findings.append(Finding("quantity_missing", message, "Say how much each part gets.", lot.serial))
        if not findings:
            total = sum((amount.to(lot.unit).value for amount in amounts), start=lot.quantity * 0)
            findings = amount_findings(lot, Quantity(total, lot.unit))
        refuse_for(f"{lot.serial} can't be split so.", findings)
        activity = logistics_activity(record, "split")
        # The parts stand as the lot stood before the last of it was taken.
        status, parts = lot.status, []
        for amount in amounts:
            part = new_lot(
                record,
                material_code=lot.material_code,
                quantity=amount.to(lot.unit),
                status=status,
                expires_at=lot.expires_at,
                location=lot.location,
                supplier=lot.supplier,
                supplier_lot=lot.supplier_lot,
                certificate=lot.certificate,
            )
            take(record, lot, part.left)
            link_new(record, lot.item_id, part.item_id, EdgeKind.SPLIT, activity, part.left)
            act.items.append(part.serial)
            parts.append(part)
    return parts


def merge_lots(record: RecordSession, serials: Sequence[str], *, location: str = "", reason: str = "") -> Lot:
    """Make one lot of several of the same material; it expires with the first of them.

    Args:
        record: Open write session.
        serials: At least two lots, all released or all in quarantine.
        location: Where the new lot is; where the first was if left out.
        reason: Why.

    Raises:
        Refused: They can't be merged; all findings.
    """
    with record.act("lot.merged", *serials, reason=reason) as act:
        items, findings = look_up(record, serials)
        locked = lock_lots(record, (item.key for item in items.values()))
        for serial, item in items.items():
            if item.kind is not ItemKind.LOT:
                message = f"{item.serial} is a {item.kind}, not a lot."
                findings.append(Finding("wrong_kind", message, "Give lots only.", serial))
        lots = [locked[item.key] for item in items.values() if item.key in locked]
        findings += _merge_findings(lots) + [hold.finding for hold in holds_on(record, [lot.serial for lot in lots])]
        refuse_for("The lots can't be merged.", findings)
        activity = logistics_activity(record, "merge")
        first, total = lots[0], lots[0].left
        for lot in lots[1:]:
            total = total + lot.left
        expiries = [lot.expires_at for lot in lots if lot.expires_at is not None]
        merged = new_lot(
            record,
            material_code=first.material_code,
            quantity=total,
            status=first.status,
            expires_at=min(expiries, default=None),
            location=location or first.location,
            supplier=_shared(lot.supplier for lot in lots),
            supplier_lot=_shared(lot.supplier_lot for lot in lots),
            certificate=_shared(lot.certificate for lot in lots),
        )
        for lot in lots:
            link_new(record, lot.item_id, merged.item_id, EdgeKind.MERGED, activity, lot.left)
            take(record, lot, lot.left)
        act.items.append(merged.serial)
    return merged


def logistics_activity(record: RecordSession, purpose: str) -> ActivityRow:
    """A finished activity of handling, for edges that no tool made."""
    activity = begin_activity(record, ActivityKind.LOGISTICS, detail={"purpose": purpose})
    return end_activity(record, activity, Outcome.COMPLETED)


def _gone(lot: Lot) -> list[Finding]:
    if lot.status in (LotStatus.CONSUMED, LotStatus.SCRAPPED):
        return [Finding(f"lot_{lot.status}", f"{lot.serial} is {lot.status}.", "Use another lot.", lot.serial)]
    return []


def _merge_findings(lots: Sequence[Lot]) -> list[Finding]:
    findings = [finding for lot in lots for finding in _gone(lot)]
    if len(lots) < 2:
        findings.append(Finding("too_few_lots", "A merge needs two different lots.", "Scan the others too."))
        return findings
    first = lots[0]
    for lot in lots[1:]:
        if lot.material_code != first.material_code:
            message = f"{lot.serial} is {lot.material_code}, {first.serial} is {first.material_code}."
            findings.append(Finding("other_material", message, "Merge lots of one material only.", lot.serial))
        elif lot.status is not first.status and not _gone(lot) and not _gone(first):
            message = f"{lot.serial} is {lot.status}, {first.serial} is {first.status}."
            findings.append(Finding("other_status", message, "Release all of them first.", lot.serial))
    return findings


def _shared(values: Iterable[str]) -> str:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else ""
