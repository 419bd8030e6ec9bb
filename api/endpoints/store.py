"""What a tester endpoint remembers: its hand-offs, its channels, and what it still has to tell the MES.

A small SQLite file of its own, nothing of the MES's. A step of a hand-off and the event that reports it are one
transaction, so that kill -9 leaves neither without the other. What is done on the bench is not known here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from equipment.testers.contract import ChannelRequest, EndpointView, EventReport, Offer, ResultReport
from equipment.testers.handoff_states import HANDOFF_STATES, ON_CHANNEL, HandoffEvent, HandoffState
from traceability.errors import Conflict, Finding, NotFound, Refused

_LIVE = ", ".join(f"'{state}'" for state in ON_CHANNEL)
_OPEN = ", ".join(f"'{state}'" for state in HandoffState if state.open)

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS handoffs (
    uuid TEXT PRIMARY KEY, offer TEXT NOT NULL, offer_sha256 TEXT NOT NULL, cell_serial TEXT NOT NULL,
    state TEXT NOT NULL, channel TEXT, channel_lease INTEGER, ocv_v REAL, reason TEXT NOT NULL DEFAULT '',
    started_at TEXT, duration_h REAL, reported_h REAL NOT NULL DEFAULT 0, last_seq INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS one_cell_a_channel ON handoffs (channel)
    WHERE channel IS NOT NULL AND state IN ({_LIVE});
CREATE UNIQUE INDEX IF NOT EXISTS one_handoff_a_cell ON handoffs (cell_serial) WHERE state IN ({_OPEN});
CREATE TABLE IF NOT EXISTS leases (channel TEXT PRIMARY KEY, lease INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL REFERENCES handoffs (uuid), seq INTEGER, body TEXT NOT NULL,
    path TEXT, attempts INTEGER NOT NULL DEFAULT 0, next_wall_s REAL NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '', delivered INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS to_deliver ON deliveries (delivered, id);
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A hand-off as the endpoint has it.

    Attributes:
        started_at: Domain time; None before the start.
        duration_h: How long the test will last; known to the bench once it has started.
        reported_h: Test time up to which a file was written.
    """

    uuid: str
    offer: Offer
    offer_sha256: str
    state: HandoffState
    channel: str | None
    channel_lease: int | None
    ocv_v: float | None
    reason: str
    started_at: datetime | None
    duration_h: float | None
    reported_h: float
    last_seq: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something for the MES: an event, or a result with its file."""

    id: int
    uuid: str
    seq: int | None
    body: str
    path: Path | None
    attempts: int


class EndpointStore:
    """The memory of one endpoint, in one file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._transaction() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)

    def put(self, offer: Offer) -> bool:
        """Keep an offer; False where it was kept before.

        Raises:
            Conflict: Another one stands under its uuid, or the cell is here under another uuid.
        """
        sha256 = offer.hash()
        with self._transaction() as connection:
            row = connection.execute("SELECT offer_sha256 FROM handoffs WHERE uuid = ?", (offer.uuid,)).fetchone()
            if row is not None and row["offer_sha256"] == sha256:
                return False
            if row is not None:
                raise Conflict(f"Another body stands under {offer.uuid}; its SHA-256 is {row['offer_sha256']}.")
            try:
                connection.execute(
                    "INSERT INTO handoffs (uuid, offer, offer_sha256, cell_serial, state) VALUES (?, ?, ?, ?, ?)",
                    (offer.uuid, offer.model_dump_json(), sha256, offer.cell_serial, HandoffState.OFFERED.value),
                )
            except sqlite3.IntegrityError as error:
                raise Conflict(f"{offer.cell_serial} is here already under another hand-off.") from error
        return True

    def get(self, uuid: str) -> Held:
        """One hand-off.

        Raises:
            NotFound: There is none.
        """
        with self._transaction() as connection:
            return _held(connection, uuid)

    def all(self, *, only_open: bool = False) -> Sequence[Held]:
        """All hand-offs, oldest first."""
        query = "SELECT * FROM handoffs" + (f" WHERE state IN ({_OPEN})" if only_open else "") + " ORDER BY rowid"  # nosec B608  # a list of states from the code
        with self._transaction() as connection:
            return [_as_held(row) for row in connection.execute(query)]

    def view(self, uuid: str) -> EndpointView:
        """A hand-off as others see it."""
        with self._transaction() as connection:
            held = _held(connection, uuid)
            waiting = connection.execute(
                "SELECT COUNT(*) FROM deliveries WHERE uuid = ? AND NOT delivered", (uuid,)
            ).fetchone()[0]
        longest_h = held.duration_h or 0.0
        return EndpointView(
            uuid=uuid,
            cell_serial=held.offer.cell_serial,
            state=held.state,
            channel=held.channel,
            channel_lease=held.channel_lease,
            reason=held.reason,
            progress=1.0 if held.state.over else min(1.0, held.reported_h / longest_h) if longest_h else 0.0,
            offer_sha256=held.offer_sha256,
            last_seq=held.last_seq,
            waiting=waiting,
        )

    def advance(self, uuid: str, event: HandoffEvent, at: datetime, *, reason: str = "", **said: Any) -> Held:
        """Move a hand-off on and put the report of it into the outbox.

        Args:
            uuid: Which one.
            event: What happened.
            at: Domain time.
            reason: Why.
            said: Further fields of the report.

        Raises:
            Refused: Its state does not allow it.
        """
        with self._transaction() as connection:
            _advance(connection, uuid, event, at, reason, said)
            return _held(connection, uuid)

    def load(self, uuid: str, where: ChannelRequest, at: datetime) -> Held:
        """Put a cell on a channel and lease the channel to it.

        Raises:
            Refused: The barcode is another cell's, or the channel is taken.
        """
        with self._transaction() as connection:
            held = _held(connection, uuid)
            if where.cell_barcode != held.offer.cell_serial:
                message = f"The barcode says {where.cell_barcode}; this hand-off is of {held.offer.cell_serial}."
                raise Refused(message, [Finding("wrong_barcode", message, "Put the right cell on.", "cell_barcode")])
            (lease,) = connection.execute(
                "INSERT INTO leases (channel, lease) VALUES (?, 1) "
                "ON CONFLICT (channel) DO UPDATE SET lease = lease + 1 RETURNING lease",
                (where.channel,),
            ).fetchone()
            said = where.model_dump() | {"channel_lease": lease}
            try:
                _advance(connection, uuid, HandoffEvent.LOAD, at, "", said)
                connection.execute(
                    "UPDATE handoffs SET channel = ?, channel_lease = ?, ocv_v = ? WHERE uuid = ?",
                    (where.channel, lease, where.ocv_v, uuid),
                )
            except sqlite3.IntegrityError as error:
                message = f"Channel {where.channel} holds another cell."
                raise Refused(
                    message, [Finding("channel_taken", message, "Use a free one.", where.channel)]
                ) from error
            return _held(connection, uuid)

    def start(self, uuid: str, at: datetime, duration_h: float) -> Held:
        """Begin the test, which will last so long."""
        with self._transaction() as connection:
            _advance(connection, uuid, HandoffEvent.START, at, "", {})
            connection.execute(
                "UPDATE handoffs SET started_at = ?, duration_h = ? WHERE uuid = ?",
                (at.isoformat(), duration_h, uuid),
            )
            return _held(connection, uuid)

    def wrote(
        self,
        uuid: str,
        report: ResultReport,
        path: Path,
        until_h: float,
        end: tuple[HandoffEvent, datetime, str] | None,
    ) -> None:
        """A file was written; with `end` the test is over as well."""
        with self._transaction() as connection:
            if end is not None:
                _advance(connection, uuid, *end, {})
            connection.execute("UPDATE handoffs SET reported_h = ? WHERE uuid = ?", (until_h, uuid))
            connection.execute(
                "INSERT INTO deliveries (uuid, body, path) VALUES (?, ?, ?)",
                (uuid, report.model_dump_json(), str(path)),
            )

    def settle(self, uuid: str) -> None:
        """The MES has the last result: the channel is free again. Not reported, for the MES said so."""
        with self._transaction() as connection:
            held = _held(connection, uuid)
            if HandoffEvent.INGEST in HANDOFF_STATES.events_from(held.state):
                connection.execute(
                    "UPDATE handoffs SET state = ? WHERE uuid = ?", (HandoffState.INGESTED.value, uuid)
                )

    def due(self, wall_s: float) -> Sequence[Delivery]:
        """What may be sent now: of each hand-off the oldest alone, so that all arrive in order."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM deliveries WHERE id IN "
                "(SELECT MIN(id) FROM deliveries WHERE NOT delivered GROUP BY uuid) "
                "AND next_wall_s <= ? ORDER BY id",
                (wall_s,),
            ).fetchall()
        return [
            Delivery(r["id"], r["uuid"], r["seq"], r["body"], Path(r["path"]) if r["path"] else None, r["attempts"])
            for r in rows
        ]

    def delivered(self, delivery: Delivery) -> None:
        """The MES has it."""
        with self._transaction() as connection:
            connection.execute("UPDATE deliveries SET delivered = 1, problem = '' WHERE id = ?", (delivery.id,))

    def put_off(self, delivery: Delivery, problem: str, next_wall_s: float) -> None:
        """The MES did not take it; again later."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET attempts = attempts + 1, problem = ?, next_wall_s = ? WHERE id = ?",
                (problem[:500], next_wall_s, delivery.id),
            )

    def resend(self, uuid: str, from_seq: int) -> None:
        """Send a hand-off's events anew from one on: the MES says that it lacks them."""
        with self._transaction() as connection:
            connection.execute("UPDATE deliveries SET delivered = 0 WHERE uuid = ? AND seq >= ?", (uuid, from_seq))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=20.0, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        finally:
            # Whatever was not committed is rolled back.
            connection.close()


def _advance(
    connection: sqlite3.Connection,
    uuid: str,
    event: HandoffEvent,
    at: datetime,
    reason: str,
    said: dict[str, Any],
) -> None:
    held = _held(connection, uuid)
    state = HANDOFF_STATES.next(held.state, event, uuid)
    report = EventReport(seq=held.last_seq + 1, event=event, at=at, reason=reason, **said)
    connection.execute(
        "UPDATE handoffs SET state = ?, last_seq = ?, reason = ? WHERE uuid = ?",
        (state.value, report.seq, reason or held.reason, uuid),
    )
    connection.execute(
        "INSERT INTO deliveries (uuid, seq, body) VALUES (?, ?, ?)", (uuid, report.seq, report.model_dump_json())
    )


def _held(connection: sqlite3.Connection, uuid: str) -> Held:
    row = connection.execute("SELECT * FROM handoffs WHERE uuid = ?", (uuid,)).fetchone()
    if row is None:
        raise NotFound(f"There is no hand-off {uuid} here.")
    return _as_held(row)


def _as_held(row: sqlite3.Row) -> Held:
    return Held(
        uuid=row["uuid"],
        offer=Offer.model_validate_json(row["offer"]),
        offer_sha256=row["offer_sha256"],
        state=HandoffState(row["state"]),
        channel=row["channel"],
        channel_lease=row["channel_lease"],
        ocv_v=row["ocv_v"],
        reason=row["reason"],
        started_at=None if row["started_at"] is None else datetime.fromisoformat(row["started_at"]),
        duration_h=row["duration_h"],
        reported_h=row["reported_h"],
        last_seq=row["last_seq"],
    )
