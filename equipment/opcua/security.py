"""Who may talk to whom: pinned server certificates, our own certificate, user and password.

A tool that is not on loopback is only spoken to with Basic256Sha256, signed and encrypted, and only while it shows
the very certificate that was pinned for it; there is no trust by a chain and none on first use. Certificates are
judged by real time. Knows no session.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlparse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from equipment.errors import ChangedCertificate, EncryptionRequired, ExpiredCertificate, UntrustedCertificate

CLIENT_APPLICATION_URI = "urn:argonaut:mes"
_KEY_BITS = 2048  # the most that every stack takes under Basic256Sha256 without trouble; the policy allows 4096


@dataclass(frozen=True)
class CertificatePair:
    """A certificate and its private key, as files in PEM."""

    certificate: Path
    private_key: Path

    def load(self) -> x509.Certificate:
        """The certificate."""
        return load_certificate(self.certificate)


@dataclass(frozen=True)
class ToolSecurity:
    """How one tool is to be spoken to.

    Attributes:
        own: Our certificate; None speaks unencrypted, which only loopback allows.
        server_certificate: The pinned certificate of the tool, PEM or DER.
        server_fingerprint: Or its SHA-256, as hex digits, colons allowed.
        user, password: Of the tool's operator account; None for anonymous.
        application_uri: As in our certificate.
    """

    own: CertificatePair | None = None
    server_certificate: Path | None = None
    server_fingerprint: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    application_uri: str = CLIENT_APPLICATION_URI

    def check_endpoint(self, endpoint: str) -> None:
        """Refuse to speak unencrypted to anything but loopback.

        Raises:
            EncryptionRequired: That is what was asked for.
        """
        if self.own is None and not is_loopback(endpoint):
            raise EncryptionRequired(
                f"{endpoint} is not on this machine and no certificate is configured for it: make one with"
                " `argonaut certs`, pin the tool's, and name both in the line's configuration"
            )

    def check_server(self, shown: bytes | None, tool: str, now: datetime) -> x509.Certificate:
        """Judge the certificate that a tool shows, DER.

        Raises:
            UntrustedCertificate: None is shown, or none was pinned.
            ChangedCertificate: Another than the pinned one.
            ExpiredCertificate: The pinned one, but not valid now.
        """
        if not shown:
            raise UntrustedCertificate(f"{tool} shows no certificate: it does not offer encryption")
        certificate = x509.load_der_x509_certificate(shown)
        seen, pinned = fingerprint(certificate), self.pinned_fingerprint()
        if pinned is None:
            raise UntrustedCertificate(
                f"{tool} shows the certificate {seen}, and none is pinned for it: compare it at the tool, then pin it"
            )
        if not hmac.compare_digest(seen, pinned):
            raise ChangedCertificate(
                f"{tool} shows the certificate {seen} instead of the pinned {pinned}: find out at the tool who"
                " changed it before you pin the new one"
            )
        check_validity(certificate, tool, now)
        return certificate

    def check_own(self, now: datetime) -> None:
        """See whether our own certificate is valid.

        Raises:
            ExpiredCertificate: It is not.
        """
        if self.own is not None:
            check_validity(self.own.load(), "the MES itself", now)

    def pinned_fingerprint(self) -> str | None:
        """SHA-256 of the pinned certificate in lower-case hex; None when nothing is pinned."""
        if self.server_fingerprint is not None:
            return self.server_fingerprint.replace(":", "").strip().lower()
        if self.server_certificate is not None:
            return fingerprint(load_certificate(self.server_certificate))
        return None


def is_loopback(endpoint: str) -> bool:
    """Whether an `opc.tcp://` address stays on this machine."""
    host = urlparse(endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_certificate(path: Path) -> x509.Certificate:
    """A certificate from a PEM or DER file."""
    content = path.read_bytes()
    if content.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificate(content)
    return x509.load_der_x509_certificate(content)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, 64 lower-case hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def check_validity(certificate: x509.Certificate, owner: str, now: datetime) -> None:
    """See whether a certificate is within its period of validity.

    Raises:
        ExpiredCertificate: It is not.
    """
    if now > certificate.not_valid_after_utc:
        raise ExpiredCertificate(
            f"the certificate of {owner} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: make a new one with"
            " `argonaut certs` and pin it"
        )
    if now < certificate.not_valid_before_utc:
        raise ExpiredCertificate(
            f"the certificate of {owner} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC:"
            " compare the clocks of both machines"
        )


def make_certificate(
    folder: Path,
    name: str,
    application_uri: str,
    *,
    now: datetime,
    hosts: Sequence[str] = ("localhost", "127.0.0.1"),
    days: int = 730,
) -> CertificatePair:
    """Make a key and a self-signed application instance certificate (OPC 10000-6, 6.2.2).

    Args:
        folder: Where `<name>.pem` and `<name>.key.pem` go; made if need be. The key is readable by its owner only.
        name: Common name and file name.
        application_uri: Goes into the certificate; the other side compares it.
        now: Beginning of validity, real time.
        hosts: DNS names and addresses.
        days: Length of validity; a negative one makes an expired certificate, for tests.

    Raises:
        FileExistsError: There is such a key already; nothing is overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pair = CertificatePair(folder / f"{name}.pem", folder / f"{name}.key.pem")
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = now + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - timedelta(minutes=5))
        .not_valid_after(end)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(application_uri), *map(_host_name, hosts)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(_KEY_USAGE, critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(pair.private_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return pair


_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=True,
    key_encipherment=True,
    data_encipherment=True,
    key_agreement=False,
    key_cert_sign=True,  # a self-signed application certificate must carry it (OPC 10000-6, table 36)
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
