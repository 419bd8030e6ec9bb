"""What can be wrong with a tester's file, as one documented tree.

Each error says what to do about it and, where it is known, the line. Nothing here knows a layout; what an error
means to an HTTP client is decided elsewhere.

    ResultFileError (an EquipmentError)
    ├── ProfileInvalid           a profile is not what a profile must be: a person corrects the YAML
    ├── UnreadableFile           nothing of the file can be read as text
    │   ├── BinaryTesterFile     the tester's own binary format: export it as text first
    │   ├── WrongEncoding        bytes that none of the profile's encodings knows, or NUL bytes
    │   └── FileTooLarge         longer than the limit, or a line without end
    ├── ForeignFile              text, but no profile knows it (or two do)
    │   └── MissingColumns       a profile's file, without columns that it must have
    └── DamagedFile              a known layout, and a row that can't be
        ├── TruncatedFile        the file stops in the middle of a row, or before the first
        └── BadValue             a field that is not what its column holds, or contradicts the others
"""

from __future__ import annotations

from equipment.errors import EquipmentError


class ResultFileError(EquipmentError):
    """Root of the errors of tester files and their profiles.

    Attributes:
        file: Name of the file, as it was given.
        line: Line number from 1; None where no single line is to blame.
    """

    def __init__(self, file: str, what: str, line: int | None = None) -> None:
        super().__init__(f"{file}, line {line}: {what}" if line is not None else f"{file}: {what}")
        self.file = file
        self.line = line


class ProfileInvalid(ResultFileError):
    """A profile can't be used as it stands."""


class UnreadableFile(ResultFileError):
    """Nothing of the file can be read as text."""


class BinaryTesterFile(UnreadableFile):
    """The tester's own binary format; it is kept with its hash, and not read."""


class WrongEncoding(UnreadableFile):
    """The file is not text in any encoding of the profile, or holds NUL bytes."""


class FileTooLarge(UnreadableFile):
    """The file, or one of its lines, is longer than the limit."""


class ForeignFile(ResultFileError):
    """No profile knows the file, or more than one knows it equally well."""


class MissingColumns(ForeignFile):
    """The file looks like that of one profile and lacks columns that are needed.

    Attributes:
        missing: Our names of the columns.
    """

    def __init__(self, file: str, profile: str, missing: tuple[str, ...], line: int) -> None:
        super().__init__(
            file,
            f"looks like {profile} but has no column for {', '.join(missing)}; export it with these columns",
            line,
        )
        self.missing = missing


class DamagedFile(ResultFileError):
    """The layout is known, and a row of the file can't be."""


class TruncatedFile(DamagedFile):
    """The file stops too early: export or copy it again."""


class BadValue(DamagedFile):
    """A field is not what its column holds, or contradicts other fields."""
