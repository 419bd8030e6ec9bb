"""The kinds of act that this package performs on the record, with the roles that may."""

from __future__ import annotations

from traceability.acts import Act

ACTS: tuple[Act, ...] = ()
