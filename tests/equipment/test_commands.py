"""A command is a row before it is anything else: asked for once, moved step by step, only by the lease's holder."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipment.commands import (
    CommandVerb,
    IntentEvent,
    IntentState,
    claim_intent,
    find_intent,
    is_withdrawn,
    move_intent,
    request_command,
    unfinished_intents,
)
from equipment.journal import DONE, CommandJournal
from equipment.lease import LeaseLost, take_lease
from equipment.order_comparison import compare_orders
from equipment.press import PRESS
from tests.conftest import START
from tests.equipment.simulators.orders import press_order
from tests.system.press_line import PERSON, TOOL, Record
from traceability.acts import Actor
from traceability.clock import ManualClock
from traceability.errors import InvalidInput, NotFound, NotPermitted, Refused, StaleVersion


@pytest.fixture
def record(database_url: str) -> Record:
    return Record(database_url, ManualClock(START))


def test_asking_again_for_what_is_under_way_is_the_same_command(record: Record) -> None:
    run = record.plan()
    assert record.ask(CommandVerb.START, run) == record.ask(CommandVerb.START, run)
    assert record.ask(CommandVerb.PAUSE, run) != record.ask(CommandVerb.START, run)
    record.database.close()


def test_the_most_urgent_command_comes_first(record: Record) -> None:
    run = record.plan()
    for verb in (CommandVerb.START, CommandVerb.PAUSE, CommandVerb.STOP, CommandVerb.ABORT):
        record.ask(verb, run)
    with record.database.read() as session:
        verbs = [intent.verb for intent in unfinished_intents(session, TOOL)]
        assert is_withdrawn(session, run)
    assert verbs == [CommandVerb.ABORT, CommandVerb.STOP, CommandVerb.START, CommandVerb.PAUSE]
    record.database.close()


def test_a_request_that_makes_no_sense_is_refused_before_it_is_written(record: Record) -> None:
    run = record.plan()
    wrong = [
        (InvalidInput, {"tool": TOOL, "verb": CommandVerb.START}),
        (InvalidInput, {"tool": "RH450", "verb": CommandVerb.START, "run_serial": run}),
        (InvalidInput, {"tool": TOOL, "verb": CommandVerb.ACKNOWLEDGE_ALARM}),
        (NotFound, {"tool": TOOL, "verb": CommandVerb.STOP, "run_serial": "RUN-000099-X"}),
        (StaleVersion, {"tool": TOOL, "verb": CommandVerb.STOP, "run_serial": run, "expected_run_version": 7}),
    ]
    for error, request in wrong:
        with pytest.raises(error), record.database.write(PERSON) as session:
            request_command(session, **request)
    with record.database.read() as session:
        assert unfinished_intents(session, TOOL) == []
    record.database.close()


def test_everybody_may_stop_and_only_the_line_may_start(record: Record, qa: Actor) -> None:
    run = record.plan()
    with record.database.write(qa) as session:
        request_command(session, tool=TOOL, verb=CommandVerb.STOP, run_serial=run)
    with pytest.raises(NotPermitted), record.database.write(qa) as session:
        request_command(session, tool=TOOL, verb=CommandVerb.RESUME, run_serial=run)
    record.database.close()


def test_only_the_holder_of_the_lease_moves_a_command_and_only_along_its_table(record: Record) -> None:
    serial = record.ask(CommandVerb.START, record.plan())
    with record.database.read() as session:
        intent_id = find_intent(session, serial).key
    with record.database.write(PERSON) as session:
        late = take_lease(session, TOOL, "late", ttl_s=0.0)
        heir = take_lease(session, TOOL, "heir")
    assert late is not None
    assert heir is not None
    with pytest.raises(LeaseLost), record.database.write(PERSON) as session:
        claim_intent(session, intent_id, late)
    with pytest.raises(Refused, match="verify is not possible"), record.database.write(PERSON) as session:
        move_intent(session, intent_id, heir, IntentEvent.VERIFY)
    with record.database.write(PERSON) as session:
        claimed = claim_intent(session, intent_id, heir)
        assert (claimed.state, claimed.holder, claimed.epoch, claimed.attempts) == (
            IntentState.CLAIMED, "heir", 2, 1
        )  # fmt: skip
        move_intent(session, intent_id, heir, IntentEvent.DOWNLOAD, boot_id="b1")
        again = claim_intent(session, intent_id, heir)
        assert (again.state, again.attempts, again.boot_id) == (IntentState.DOWNLOADED, 2, "b1")
        move_intent(session, intent_id, heir, IntentEvent.FINISH)
    with pytest.raises(Refused), record.database.write(PERSON) as session:
        claim_intent(session, intent_id, heir)
    record.database.close()


def test_a_journal_keeps_a_stop_through_a_torn_write_and_forgets_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep" / "commands.journal"
    journal = CommandJournal(path)
    common = {"tool": TOOL, "run_serial": "RUN-1", "requested_by": "olga", "reason": "smoke", "requested_at": START}
    first = journal.append(verb=CommandVerb.STOP, **common)
    with path.open("ab") as file:
        file.write(b'0badc0de {"kind": "comm')  # the power went while this was written
    second = CommandJournal(path).append(verb=CommandVerb.ABORT, **common)
    assert journal.to_send(TOOL) == [first, second]
    assert journal.to_send("RH450") == []
    journal.answered(first, DONE)
    assert journal.to_send(TOOL) == [second]
    assert [entry.key for entry in journal.to_reconcile(TOOL)] == [first.key]
    journal.reconciled(first)
    assert CommandJournal(path).to_reconcile(TOOL) == []
    with pytest.raises(InvalidInput):
        journal.append(verb=CommandVerb.START, **common)


def test_every_difference_between_an_order_and_what_the_tool_holds_is_named() -> None:
    sent = press_order()
    assert compare_orders(sent, sent, PRESS) == []
    held = press_order(pellet="PEL-2", pressure_mpa=120.0, rogue=1.0)
    found = {(finding.code, finding.path): finding.message for finding in compare_orders(sent, held, PRESS)}
    assert found["parameter_differs", "pressure_mpa"] == "pressure_mpa: sent 240.0 MPa, the tool holds 120.0 MPa."
    assert {code for code, _ in found} == {
        "parameter_differs", "parameter_added", "material_missing", "material_added"
    }  # fmt: skip
    assert [finding.code for finding in compare_orders(sent, None, PRESS)] == ["no_read_back"]
