"""The kinds of act that this package performs on the record, with the roles that may."""

from __future__ import annotations

from traceability.acts import Act, Role

_LINE = frozenset({Role.OPERATOR, Role.ENGINEER})

ACTS: tuple[Act, ...] = (
    Act("run.planned", _LINE, "Plan a run."),
    Act("run.withdrawn", _LINE, "Withdraw a planned run."),
    Act("run.given_up", frozenset({Role.ENGINEER, Role.QA}), "Close a run whose end nobody will know."),
    Act(
        "correction.reviewed",
        frozenset({Role.ENGINEER, Role.QA}),
        "Decide on a run-to-run correction that is left to a person.",
    ),
    Act("run.starting", frozenset(), "A run is being started on its tool."),
    Act("run.start_refused", frozenset(), "A run could not be started."),
    Act("run.moved", frozenset(), "A run changed its state."),
    Act("run.completed", frozenset(), "A run ended and what it made was recorded."),
    Act("run.deviated", frozenset(), "A run was not as planned."),
    Act("trace.sealed", frozenset(), "The trace of a run was sealed."),
    Act("alarm.changed", frozenset(), "An alarm was raised or returned to normal."),
    Act("alarm.acknowledged", _LINE, "Acknowledge an alarm."),
    Act("tool.registered", frozenset(), "A tool of the line was entered."),
    Act("tool.linked", frozenset(), "The link to a tool came up or went down."),
    Act("tool.state_changed", _LINE, "Change a tool's state."),
    Act("tool.maintained", _LINE, "Record maintenance or calibration of a tool."),
    Act("maintenance.noticed", frozenset(), "Something has become due, or was seen to."),
    Act("target.registered", _LINE, "Enter a target with the life it has."),
    Act("target.worn", frozenset(), "A run used some of a target's life."),
    Act("order.placed", _LINE, "Place a work order."),
    Act("order.changed", _LINE, "Change a work order."),
    Act("command.requested", _LINE, "Ask something of a tool."),
    Act("command.stop_requested", frozenset(Role), "Ask a tool to stop or abort a run."),
    Act("command.reconciled", frozenset(), "A command that went out without the database was entered."),
    Act("command.moved", frozenset(), "A command came a step further."),
    Act("cell.assembled", _LINE, "Assemble a cell."),
    Act("cell.screened", _LINE, "Screen a cell before testing."),
    Act("handoff.offered", _LINE, "Offer a cell to a tester."),
    Act("handoff.reported", _LINE, "Report what happened to a cell at its tester."),
    Act("handoff.cancel_requested", _LINE, "Ask a tester to give a cell back."),
    Act("handoff.answered", frozenset(), "A tester answered an offer."),
    Act("handoff.resolved", frozenset({Role.ENGINEER, Role.QA}), "Say what became of a hand-off nobody knows about."),
    Act("handoff.released", _LINE, "Take a cell off its tester."),
    Act("result.received", _LINE, "Bring in a tester's file."),
    Act("result.accepted", frozenset({Role.ENGINEER, Role.QA}), "Accept a result that is in quarantine."),
    Act("result.rejected", frozenset({Role.ENGINEER, Role.QA}), "Reject a result that is in quarantine."),
)
