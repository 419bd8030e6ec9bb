"""What every row must look like, said by the events alone, compared with what the tables hold.

The changes of all events are replayed into a scratch store on disk, whose memory stays bounded however long the
trail is; then each audited table is read once. The chain that makes the events trustworthy is checked by
`verification`.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from types import TracebackType
from typing import Any

import orjson
from sqlalchemy import Boolean, Column, Connection, Enum, Float, Integer, LargeBinary, String, inspect
from sqlmodel import AutoString, SQLModel

from traceability.canonical import JsonValue, canonical_value, timestamp
from traceability.columns import CanonicalJson, Choice, ExactDecimal, UtcDateTime

_FETCH = 500
_CACHED_ROWS = 20_000

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that is not as the trail says.

    Attributes:
        kind: Stable name of what is wrong, e.g. `event_changed`, `row_changed`.
        message: One sentence for people.
        seq: The event concerned: the bad one, or the one that last wrote the row; None where none did.
        table: Table of the row, or empty.
        key: Its primary key, canonical JSON, or empty.
        column: The column that differs, or empty.
        expected: What the trail says.
        found: What is there.
    """

    kind: str
    message: str
    seq: int | None = None
    table: str = ""
    key: str = ""
    column: str = ""
    expected: JsonValue = None
    found: JsonValue = None


Report = Callable[[Discrepancy], None]


def stream(connection: Connection, sql: str, parameters: Sequence[Any] = ()) -> Generator[Sequence[Any], None, None]:
    """The rows of a query as the driver gives them, some hundreds at a time and never all in memory."""
    options = {"stream_results": True, "yield_per": _FETCH}
    with connection.exec_driver_sql(sql, tuple(parameters), execution_options=options) as result:
        for rows in result.partitions(_FETCH):
            yield from rows


class TableShape:
    """How the rows of one audited table become the documents that events hold.

    Values are taken as the driver gives them, so that a cell which no type could read is reported and not fatal.
    """

    def __init__(self, model: type[SQLModel], dialect: str) -> None:
        mapper = inspect(model)
        columns = {mapper.get_property_by_column(column).key: column for column in mapper.local_table.columns}
        self.name = str(mapper.local_table.name)
        self.attributes = tuple(columns)
        self.key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        self._columns = columns
        self._readers = [(name, _reader(column, dialect)) for name, column in columns.items()]
        selected = ", ".join(f'"{column.name}"' for column in columns.values())
        self.sql = f'SELECT {selected} FROM "{self.name}"'  # nosec B608  # names of our own tables and columns

    def document(self, values: Sequence[Any]) -> Document:
        """A row of `sql` as attribute → canonical value."""
        return {
            name: value if reader is None or value is None else reader(value)
            for (name, reader), value in zip(self._readers, values, strict=True)
        }

    def same(self, attribute: str, one: JsonValue, other: JsonValue) -> bool:
        """Whether two canonical values are equal in that column: 200 and "200.0" are, in a float's."""
        if one == other or attribute not in self._columns:
            return True
        if one is None or other is None:
            return False
        column_type = self._columns[attribute].type
        try:
            if isinstance(column_type, Float):
                return float(str(one)) == float(str(other))
            if isinstance(column_type, ExactDecimal):
                return Decimal(str(one)) == Decimal(str(other))
        except (ValueError, InvalidOperation):
            return False
        return False


def audited_tables(dialect: str) -> list[TableShape]:
    """The tables of all imported packages whose rows are records, by name."""
    models = [mapper.class_ for mapper in SQLModel._sa_registry.mappers]
    shapes = [TableShape(model, dialect) for model in models if not hasattr(model, "__unaudited__")]
    return sorted(shapes, key=lambda shape: shape.name)


@dataclass(slots=True)
class _Row:
    seq: int
    document: Document | None
    created: bool


class Replay:
    """The rows as the events so far make them. Use as a context manager; the scratch file goes at exit.

    Args:
        tables: Every audited table.
        report: Takes what does not fit between one event and the next.
    """

    def __init__(self, tables: Sequence[TableShape], report: Report) -> None:
        self._tables = {table.name: table for table in tables}
        self._report = report
        self._rows: dict[tuple[str, str], _Row] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="argonaut-verify-")
        self._store = sqlite3.connect(f"{self._folder.name}/rows.db", isolation_level=None)
        # Nothing here outlives the process, so nothing need survive a crash.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -32000"):
            self._store.execute(f"PRAGMA {pragma}")
        self._store.execute(
            'CREATE TABLE expected ("table" TEXT, "key" TEXT, seq INTEGER, document BLOB, '
            'PRIMARY KEY ("table", "key")) WITHOUT ROWID'
        )

    def __enter__(self) -> Replay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
        self._folder.cleanup()

    def apply(self, seq: int, change: Mapping[str, Any]) -> None:
        """Take one change of an event: `{table, key, old, new}`."""
        address = (change["table"], orjson.dumps(change["key"]).decode())
        old, new = change["old"], change["new"]
        if old is None:
            known = self._rows.get(address)
            if known is not None and known.document is not None:
                self._created_twice(seq, address, known.seq)
            self._put(address, _Row(seq, new, created=known is None or known.created))
            return
        row = self._find(address)
        if row is None or row.document is None:
            self._report(Discrepancy("row_unknown", f"Event {seq} changes a row that no event made.", seq, *address))
            row = _Row(seq, dict(old), created=False)
        self._compare_old(seq, address, row, old)
        merged = None if new is None else {**(row.document or {}), **new}
        self._put(address, _Row(seq, merged, row.created))

    def put(self, seq: int, table: str, key: str, document: Document | None) -> None:
        """Set what is expected under a name that is no table: sealed content, by its owner's key."""
        self._put((table, key), _Row(seq, document, created=False))

    def expected(self, table: str) -> Iterator[tuple[str, int, Document]]:
        """All that is expected under a name: key, event that last wrote it, document."""
        self._flush()
        rows = self._store.execute(
            'SELECT "key", seq, document FROM expected WHERE "table" = ? AND document IS NOT NULL', (table,)
        )
        for key, seq, document in rows:
            yield key, seq, orjson.loads(document)

    def compare(self, connection: Connection, report: Report) -> None:
        """Read every audited table once and report each row that is changed, missing or too many, or a table gone."""
        self._flush()
        self._store.execute('CREATE TABLE seen ("key" TEXT PRIMARY KEY) WITHOUT ROWID')
        present = set(inspect(connection).get_table_names())
        for table in self._tables.values():
            if table.name in present:
                self._compare_table(connection, table, report)
            else:
                report(Discrepancy("table_missing", f"The table {table.name} is gone.", table=table.name))

    def _compare_table(self, connection: Connection, table: TableShape, report: Report) -> None:
        matched = 0
        for rows in _batches(stream(connection, table.sql)):
            documents = [table.document(values) for values in rows]
            keys = [_key(table, document) for document in documents]
            known = self._known(table.name, keys)
            for key, document in zip(keys, documents, strict=True):
                seq, expected = known.get(key, (None, None))
                if expected is None:
                    report(_inserted(table.name, key, seq, document))
                    continue
                matched += 1
                if seq is not None and expected != _dump(document):
                    for discrepancy in _differences(table, key, seq, orjson.loads(expected), document):
                        report(discrepancy)
        (live,) = self._store.execute(
            'SELECT count(*) FROM expected WHERE "table" = ? AND document IS NOT NULL', (table.name,)
        ).fetchone()
        if matched != live:
            self._report_missing(connection, table, report)

    def _report_missing(self, connection: Connection, table: TableShape, report: Report) -> None:
        self._store.execute("DELETE FROM seen")
        keys = ((_key(table, table.document(values)),) for values in stream(connection, table.sql))
        self._store.executemany("INSERT OR IGNORE INTO seen VALUES (?)", keys)
        missing = self._store.execute(
            'SELECT "key", seq, document FROM expected WHERE "table" = ? AND document IS NOT NULL '
            'AND "key" NOT IN (SELECT "key" FROM seen) ORDER BY seq',
            (table.name,),
        )
        for key, seq, document in missing:
            report(
                Discrepancy(
                    "row_missing",
                    f"{table.name} {key} is gone; event {seq} was the last to write it.",
                    seq,
                    table.name,
                    key,
                    expected=orjson.loads(document),
                )
            )

    def _compare_old(self, seq: int, address: tuple[str, str], row: _Row, old: Document) -> None:
        table = self._tables.get(address[0])
        for attribute, value in old.items():
            known = (row.document or {}).get(attribute, value)
            if known == value or (table is not None and table.same(attribute, known, value)):
                continue
            self._report(
                Discrepancy(
                    "row_changed_between",
                    f"{address[0]} {address[1]}: event {seq} found {attribute} at {_short(value)}, but event "
                    f"{row.seq} had left it at {_short(known)}.",
                    seq,
                    *address,
                    attribute,
                    known,
                    value,
                )
            )

    def _created_twice(self, seq: int, address: tuple[str, str], first: int) -> None:
        self._report(
            Discrepancy(
                "row_created_twice",
                f"Event {seq} makes {address[0]} {address[1]}, which event {first} had made: it was removed between.",
                seq,
                *address,
            )
        )

    def _find(self, address: tuple[str, str]) -> _Row | None:
        row = self._rows.get(address)
        if row is None:
            stored = self._store.execute(
                'SELECT seq, document FROM expected WHERE "table" = ? AND "key" = ?', address
            ).fetchone()
            if stored is not None:
                row = _Row(stored[0], None if stored[1] is None else orjson.loads(stored[1]), created=False)
        return row

    def _put(self, address: tuple[str, str], row: _Row) -> None:
        self._rows[address] = row
        if len(self._rows) >= _CACHED_ROWS:
            self._flush()

    def _known(self, table: str, keys: Sequence[str]) -> dict[str, tuple[int, bytes | None]]:
        marks = ", ".join("?" * len(keys))
        sql = f'SELECT "key", seq, document FROM expected WHERE "table" = ? AND "key" IN ({marks})'  # nosec B608  # question marks
        return {key: (seq, document) for key, seq, document in self._store.execute(sql, (table, *keys))}

    def _flush(self) -> None:
        """Move the cached rows to the store, and find those created anew that it held already."""
        self._store.execute("BEGIN")
        created = [(*address, row.seq, _stored(row)) for address, row in self._rows.items() if row.created]
        changed = [(*address, row.seq, _stored(row)) for address, row in self._rows.items() if not row.created]
        before = self._store.total_changes
        self._store.executemany("INSERT OR IGNORE INTO expected VALUES (?, ?, ?, ?)", created)
        if self._store.total_changes - before < len(created):
            self._find_created_twice(created)
            changed += created
        self._store.executemany("INSERT OR REPLACE INTO expected VALUES (?, ?, ?, ?)", changed)
        self._store.execute("COMMIT")
        self._rows.clear()

    def _find_created_twice(self, created: Iterable[tuple[str, str, int, bytes | None]]) -> None:
        for table, key, seq, _ in created:
            first, document = self._known(table, [key])[key]
            if first != seq and document is not None:
                self._created_twice(seq, (table, key), first)


def _inserted(table: str, key: str, seq: int | None, found: Document) -> Discrepancy:
    how = "no event made it" if seq is None else f"event {seq} removed it"
    return Discrepancy("row_inserted", f"{table} {key} is there, but {how}.", seq, table, key, found=found)


def _stored(row: _Row) -> bytes | None:
    return None if row.document is None else _dump(row.document)


def _batches(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _FETCH)):
        yield batch


def _differences(table: TableShape, key: str, seq: int, expected: Document, found: Document) -> Iterator[Discrepancy]:
    for attribute, value in expected.items():
        # A column that a later schema took away has nothing to compare; one it added is in no old event.
        if attribute not in found or table.same(attribute, value, found[attribute]):
            continue
        yield Discrepancy(
            "row_changed",
            f"{table.name} {key}: {attribute} is {_short(found[attribute])}, but event {seq}, the last to write the "
            f"row, leaves it at {_short(value)}.",
            seq,
            table.name,
            key,
            attribute,
            value,
            found[attribute],
        )


def _dump(document: Document) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _key(table: TableShape, document: Document) -> str:
    return orjson.dumps([document[name] for name in table.key]).decode()


def _short(value: JsonValue) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _reader(column: Column[Any], dialect: str) -> Callable[[Any], JsonValue] | None:
    """What turns a driver's value of that column into its canonical form; None if it is that already."""
    column_type = column.type
    if isinstance(column_type, UtcDateTime):
        return _sqlite_moment if dialect == "sqlite" else _moment
    if isinstance(column_type, CanonicalJson):
        return _json
    if isinstance(column_type, ExactDecimal | Choice | String | AutoString) and not isinstance(column_type, Enum):
        return None
    if isinstance(column_type, Boolean):
        return _boolean
    if isinstance(column_type, Integer):
        return _integer
    if isinstance(column_type, Float | LargeBinary):
        return canonical_value
    raise TypeError(f"{column.table.name}.{column.name}: no canonical form is known for {column_type!r}")


def _moment(value: Any) -> JsonValue:
    return timestamp(value) if isinstance(value, datetime) else repr(value)


def _sqlite_moment(value: Any) -> JsonValue:
    text = str(value)
    return f"{text[:10]}T{text[11:]}Z"


def _json(value: Any) -> JsonValue:
    try:
        parsed: JsonValue = orjson.loads(value)
    except ValueError:
        return {"unreadable": str(value)}
    return parsed


def _boolean(value: Any) -> JsonValue:
    return bool(value) if value in (0, 1) else repr(value)


def _integer(value: Any) -> JsonValue:
    return value if isinstance(value, int) and abs(value) < 2**53 else str(value)
