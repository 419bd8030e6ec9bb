"""The life of a version of a recipe, route or protocol: one table of moves for all three.

    1 draft      submit          in_review
    2 in_review  return          draft
    3 in_review  approve         approved      signed, by none of the authors
    4 approved   make_effective  effective     supersedes the one that was
    5 effective  supersede       superseded
    6 any of draft, in_review, approved, effective: withdraw → withdrawn

Only a draft's content may be changed, and only while no run has used it. Who may do what stands in `recipes.acts`.
"""

from __future__ import annotations

from enum import StrEnum

from traceability.transitions import TransitionTable


class Status(StrEnum):
    """Where a version stands."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    EFFECTIVE = "effective"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


class LifecycleMove(StrEnum):
    """What moves it."""

    SUBMIT = "submit"
    RETURN = "return"
    APPROVE = "approve"
    MAKE_EFFECTIVE = "make_effective"
    SUPERSEDE = "supersede"
    WITHDRAW = "withdraw"


LIFECYCLE: TransitionTable[Status, LifecycleMove] = TransitionTable(
    "recipe version",
    [
        (Status.DRAFT, LifecycleMove.SUBMIT, Status.IN_REVIEW),
        (Status.IN_REVIEW, LifecycleMove.RETURN, Status.DRAFT),
        (Status.IN_REVIEW, LifecycleMove.APPROVE, Status.APPROVED),
        (Status.APPROVED, LifecycleMove.MAKE_EFFECTIVE, Status.EFFECTIVE),
        (Status.EFFECTIVE, LifecycleMove.SUPERSEDE, Status.SUPERSEDED),
        (Status.DRAFT, LifecycleMove.WITHDRAW, Status.WITHDRAWN),
        (Status.IN_REVIEW, LifecycleMove.WITHDRAW, Status.WITHDRAWN),
        (Status.APPROVED, LifecycleMove.WITHDRAW, Status.WITHDRAWN),
        (Status.EFFECTIVE, LifecycleMove.WITHDRAW, Status.WITHDRAWN),
    ],
)

EXPERIMENTAL = frozenset({Status.DRAFT, Status.IN_REVIEW, Status.APPROVED, Status.EFFECTIVE})
"""What an experiment run may use; product runs use the effective version only."""
