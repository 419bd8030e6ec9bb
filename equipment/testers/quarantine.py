"""Is a file the result that it is said to be? Every doubt about it, for a person to decide.

A file is held against its hand-off: the cell's barcode, the channel and its lease, the instrument, the time of the
test and the number of records. Nothing is dropped or changed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from equipment.testers.contract import ResultReport
from equipment.testers.examination import Examination
from equipment.testers.handoff_records import Handoff
from traceability.errors import Finding

CLOCK_TOLERANCE = timedelta(minutes=2)
"""By how much the clock of a tester PC may differ, and a file's rounded times lie outside the test."""

_DECIDE = "Look at the file; accept it with a reason if it is this cell's, else reject it."


def doubts(handoff: Handoff, said: ResultReport, read: Examination, now: datetime) -> Iterator[Finding]:
    """Every reason not to believe that a file is the result of a hand-off.

    Args:
        handoff: Whose result it is said to be.
        said: What the tester says of the file.
        read: What the file says of itself.
        now: Domain time.
    """
    if read.problem is not None:
        yield Finding("unreadable", read.problem, "Export the file again; the raw file is kept.", said.file_name)
    yield from _identity(handoff, said, read)
    yield from _window(handoff, said, read, now)
    if read.analysis is not None and read.analysis.n_records != said.n_records:
        message = f"The tester says {said.n_records} records; the file has {read.analysis.n_records}."
        yield Finding("records_differ", message, _DECIDE, "n_records")


def _identity(handoff: Handoff, said: ResultReport, read: Examination) -> Iterator[Finding]:
    if handoff.channel is None:
        yield Finding("never_loaded", f"{handoff.cell_serial} was on no channel.", _DECIDE, "channel")
    elif said.channel != handoff.channel:
        message = f"It is of channel {said.channel}; {handoff.cell_serial} is on {handoff.channel}."
        yield Finding("other_channel", message, _DECIDE, "channel")
    if said.channel_lease is not None and said.channel_lease != handoff.channel_lease:
        message = f"It carries lease {said.channel_lease} of the channel; {handoff.channel_lease} is the cell's."
        yield Finding("stale_lease", message, _DECIDE, "channel_lease")
    if handoff.tester_serial and said.tester_serial != handoff.tester_serial:
        message = f"It is of instrument {said.tester_serial}; {handoff.tester_serial} took the cell."
        yield Finding("other_tester", message, _DECIDE, "tester_serial")
    if read.problem is not None and not read.preamble:
        return
    written = {
        "cell_barcode": ("other_cell", handoff.cell_serial),
        "channel": ("other_channel", handoff.channel or ""),
        "tester_serial": ("other_tester", handoff.tester_serial),
    }
    if "cell_barcode" not in read.preamble:
        yield Finding("no_barcode", "The file names no cell.", _DECIDE, "cell_barcode")
    for name, (code, expected) in written.items():
        found = read.preamble.get(name)
        if found is not None and expected and found != expected:
            subject = name.replace("_", " ")
            yield Finding(code, f"The file names the {subject} {found}, not {expected}.", _DECIDE, name)


def _window(handoff: Handoff, said: ResultReport, read: Examination, now: datetime) -> Iterator[Finding]:
    if handoff.started_at is None:
        yield Finding("never_started", f"No test of {handoff.cell_serial} has started.", _DECIDE, "first_at")
        return
    earliest = handoff.started_at - CLOCK_TOLERANCE
    latest = (handoff.ended_at or now) + CLOCK_TOLERANCE
    times = {"first_at": said.first_at, "last_at": said.last_at}
    analysis = read.analysis
    if analysis is not None and analysis.first_unix_s is not None and analysis.last_unix_s is not None:
        times["first record"] = datetime.fromtimestamp(analysis.first_unix_s, UTC)
        times["last record"] = datetime.fromtimestamp(analysis.last_unix_s, UTC)
    outside = [name for name, at in times.items() if not earliest <= at <= latest]
    if outside:
        shown = ", ".join(f"{name} {times[name]:%Y-%m-%d %H:%M:%S}" for name in outside)
        window = f"{handoff.started_at:%Y-%m-%d %H:%M:%S} to {handoff.ended_at or now:%Y-%m-%d %H:%M:%S}"
        yield Finding("outside_window", f"The test ran {window} UTC; the file has {shown}.", _DECIDE, "first_at")
