"""The one interpreter of every state table in the project.

Lot status, recipe lifecycle, job states, E10 states and hand-off states are tables of rows
`(from, event, to)`; what follows from a move is written where the table lives, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Generic, TypeVar

from traceability.errors import Finding, Refused

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class TransitionTable(Generic[State, Event]):
    """Which event leads from which state to which.

    Args:
        subject: What moves, for messages: "lot", "recipe version".
        rows: Triples of state, event, next state. A pair may stand only once.
    """

    def __init__(self, subject: str, rows: Iterable[tuple[State, Event, State]]) -> None:
        self._subject = subject
        self._next: dict[tuple[State, Event], State] = {}
        for state, event, target in rows:
            if (state, event) in self._next:
                raise ValueError(f"{subject}: {event} from {state} stands twice in the table")
            self._next[state, event] = target

    def events_from(self, state: State) -> list[Event]:
        """What may happen in a state, in table order."""
        return [event for source, event in self._next if source == state]

    def next(self, state: State, event: Event, name: str = "") -> State:
        """The state that follows.

        Raises:
            Refused: The table has no such move; the finding lists those it has.
        """
        if (state, event) in self._next:
            return self._next[state, event]
        possible = ", ".join(self.events_from(state)) or "nothing"
        subject = f"{self._subject} {name}".strip()
        raise Refused(
            f"The {subject} is {state}; {event} is not possible.",
            [
                Finding(
                    code="wrong_state",
                    message=f"{subject} is {state}; {event} is not possible.",
                    action=f"Possible now: {possible}.",
                    path=name,
                )
            ],
        )
