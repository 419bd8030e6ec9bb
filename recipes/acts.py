"""The kinds of act that this package performs on the record, with the roles that may."""

from __future__ import annotations

from traceability.acts import Act, Role

_AUTHORS = frozenset({Role.ENGINEER})
_APPROVERS = frozenset({Role.ENGINEER, Role.QA})

ACTS: tuple[Act, ...] = (
    Act("recipe.drafted", _AUTHORS, "Write a recipe, route or protocol."),
    Act("recipe.revised", _AUTHORS, "Change a draft."),
    Act("recipe.submitted", _AUTHORS, "Submit a draft for review."),
    Act("recipe.returned", _APPROVERS, "Return a document in review to its authors."),
    Act("recipe.approved", _APPROVERS, "Approve a document with a signature."),
    Act("recipe.made_effective", _APPROVERS, "Make an approved version the effective one."),
    Act("recipe.superseded", frozenset(), "A version was replaced by the next effective one."),
    Act("recipe.withdrawn", _APPROVERS, "Withdraw a version for good."),
    Act("recipe.imported", _AUTHORS, "Import a library of documents as drafts."),
    Act("run_to_run.moved", frozenset(), "A deposition time was decided from run to run."),
    Act("run_to_run.approved", _APPROVERS, "Let a deposition time go beyond the run-to-run clamp."),
    Act("run_to_run.learned", frozenset({Role.OPERATOR, Role.ENGINEER}), "A measured film taught the next time."),
    Act("run_to_run.released", _APPROVERS, "Release a held run-to-run context."),
)
