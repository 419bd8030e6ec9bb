#!/usr/bin/env python3
"""Verify an Argonaut audit bundle on any computer: no server, no network, nothing installed but Python 3.9.

    python3 verify_export.py bundle.zip [--key qa.pem.pub]

Run it without arguments beside the unpacked files and it verifies those. It checks every file against MANIFEST.json,
every event against its hash, every event against the one before it, and every checkpoint against its event and its
Ed25519 signature. The key in the bundle is only as good as the bundle: take QA's key from elsewhere and name it with
--key to know who signed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

GENESIS = "0" * 64
LINE_START, LINE_MIDDLE = b'{"hash":"', b'","event":'
BODY_AT = len(LINE_START) + 64 + len(LINE_MIDDLE)


def say(text: str) -> None:
    """Tell the person."""
    sys.stdout.write(text + "\n")


class Bundle:
    """The files of a bundle, in a zip or in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = None if path.is_dir() else zipfile.ZipFile(path)

    def names(self) -> list[str]:
        """Names of all files."""
        if self.archive:
            return sorted(self.archive.namelist())
        return sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())

    def open(self, name: str) -> IO[bytes]:
        """A file, for reading bytes."""
        return self.archive.open(name) if self.archive else (self.path / name).open("rb")

    def read(self, name: str) -> bytes:
        """A whole small file."""
        with self.open(name) as file:
            return file.read()


def check_files(bundle: Bundle, manifest: dict[str, Any], problems: list[str]) -> None:
    """Compare every file's SHA-256 and size with the manifest."""
    present = set(bundle.names())
    for entry in manifest["files"]:
        name = entry["name"]
        if name not in present:
            problems.append(f"{name} is missing")
            continue
        digest, size = hashlib.sha256(), 0
        with bundle.open(name) as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
        if (digest.hexdigest(), size) != (entry["sha256"], entry["bytes"]):
            problems.append(f"{name} is not the file that was exported")


def check_events(
    bundle: Bundle, manifest: dict[str, Any], wanted: set[int], problems: list[str]
) -> tuple[int, dict[int, str]]:
    """Follow the events; returns how many there are and the hashes of the wanted numbers."""
    complete = manifest["complete"]
    previous_seq, previous_hash, count = 0, GENESIS, 0
    found: dict[int, str] = {}
    with bundle.open("audit_trail.ndjson") as lines:
        for line in lines:
            count += 1
            stated, body = line[len(LINE_START) : len(LINE_START) + 64].decode("ascii", "replace"), line[BODY_AT:-2]
            computed = hashlib.sha256(body).hexdigest()
            try:
                if line[:BODY_AT] != LINE_START + stated.encode() + LINE_MIDDLE or line[-2:] != b"}\n":
                    raise ValueError
                event = json.loads(body)
                seq, prev = int(event["seq"]), event["prev"]
            except (ValueError, LookupError, TypeError):
                problems.append(f"line {count} of audit_trail.ndjson is no event")
                continue
            if computed != stated:
                problems.append(f"event {seq} was changed: its hash is not the one it was sealed with")
            if seq <= previous_seq:
                problems.append(f"event {seq} is out of order")
            elif complete and seq != previous_seq + 1:
                problems.append(f"event {previous_seq + 1} is missing")
            elif seq == previous_seq + 1 and prev != previous_hash:
                problems.append(f"event {seq} does not follow from the event before it")
            previous_seq, previous_hash = seq, stated
            if seq in wanted:
                found[seq] = stated
    if count != manifest["events"]:
        problems.append(f"there are {count} events; the manifest says {manifest['events']}")
    if complete and previous_seq != manifest["last_seq"]:
        problems.append(f"the trail ends at event {previous_seq}; it was exported up to {manifest['last_seq']}")
    return count, found


def check_checkpoints(
    checkpoints: list[tuple[str, dict[str, Any]]],
    found: dict[int, str],
    key: bytes | None,
    manifest: dict[str, Any],
    problems: list[str],
) -> int:
    """Compare checkpoints with their events; returns how many could be compared."""
    compared = 0
    for name, checkpoint in checkpoints:
        seq = checkpoint["seq"]
        if key is not None:
            parts = {part: checkpoint[part] for part in ("format", "seq", "hash", "at")}
            signed = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
            if not ed25519_verify(key, base64.b64decode(checkpoint["signature"]), signed):
                problems.append(f"{name} is not signed with this key")
                continue
        if seq in found:
            compared += 1
            if found[seq] != checkpoint["hash"]:
                problems.append(f"event {seq} is not the one that {name} was signed over: the chain was rewritten")
        elif manifest["complete"] and seq <= manifest["last_seq"]:
            problems.append(f"event {seq}, which {name} was signed over, is missing")
    return compared


# Ed25519 as in RFC 8032, section 5.1; slow and short, for a handful of signatures.
Point = tuple[int, int, int, int]
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def _add(a: Point, b: Point) -> Point:
    """Sum of two points in extended coordinates."""
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, d - c, d + c, f + e
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(number: int, point: Point) -> Point:
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = _add(total, point)
        point, number = _add(point, point), number >> 1
    return total


def _point(encoded: bytes) -> Point | None:
    """The point that 32 bytes name, or None."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


# The base point: y = 4/5, x even.
_BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = _point(_BASE_Y.to_bytes(32, "little"))


def ed25519_verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a 64-byte signature of a message is of the 32-byte public key."""
    if len(key) != 32 or len(signature) != 64:
        return False
    a, r, s = _point(key), _point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or BASE is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    left, right = _times(s, BASE), _add(r, _times(h, a))
    return not ((left[0] * right[2] - right[0] * left[2]) % P or (left[1] * right[2] - right[1] * left[2]) % P)


def pem_key(text: str) -> bytes:
    """The 32 bytes of an Ed25519 public key in PEM; they end its DER form."""
    lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
    return base64.b64decode("".join(lines))[-32:]


def verify(path: Path, key_path: Path | None) -> list[str]:
    """Verify a bundle; returns the problems, first the first bad one."""
    problems: list[str] = []
    bundle = Bundle(path)
    manifest = json.loads(bundle.read("MANIFEST.json"))
    check_files(bundle, manifest, problems)
    names = set(bundle.names())
    checkpoints = [(n, json.loads(bundle.read(n))) for n in sorted(names) if n.startswith("checkpoints/")]
    key = None
    if key_path is not None:
        key = pem_key(key_path.read_text())
    elif "public_key.pem" in names:
        key = pem_key(bundle.read("public_key.pem").decode())
    count, found = check_events(bundle, manifest, {c["seq"] for _, c in checkpoints}, problems)
    compared = check_checkpoints(checkpoints, found, key, manifest, problems)
    say(f"events: {count}" + ("" if manifest["complete"] else " (a selection: gaps between them are not checked)"))
    say(f"checkpoints: {compared} of {len(checkpoints)} compared with their event")
    if key is None:
        say("LEFT OUT: signatures of checkpoints; no public key was given")
    elif key_path is None:
        say("key: the one in the bundle, SHA-256 " + hashlib.sha256(key).hexdigest() + "; compare it with QA's")
    if not compared:
        say("LEFT OUT: no checkpoint covers these events, so a chain rewritten whole would not show")
    return problems


def main() -> int:
    """Run from the command line; the exit status is 0 only for an intact bundle."""
    parser = argparse.ArgumentParser(description="Verify an Argonaut audit bundle.")
    parser.add_argument("bundle", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--key", type=Path, help="QA's public key (PEM), got from elsewhere than the bundle")
    arguments = parser.parse_args()
    try:
        problems = verify(arguments.bundle, arguments.key)
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile, EOFError) as error:
        problems = [f"{arguments.bundle} can't be read as a bundle ({error})"]
    for problem in problems[:20]:
        say(f"BAD: {problem}")
    if len(problems) > 20:
        say(f"BAD: and {len(problems) - 20} more")
    say("NOT INTACT" if problems else "INTACT")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
