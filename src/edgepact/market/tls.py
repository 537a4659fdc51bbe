"""A certificate for a server that has none: an authority of its own, made on first use.

The folder keeps the authority and the server's certificate, so that devices that trust the
authority's file go on trusting after a restart, under another name, or after renewal.
"""

import contextlib
import datetime
import os
import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgepact.errors import InputError

AUTHORITY = "authority.pem"
"""The file that devices trust, see `device --ca`."""

AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
RENEWED_DAYS = 30
"""A server's certificate is made anew at a start when it holds for fewer days."""

LOCAL = ("localhost", "127.0.0.1", "::1")


def server_context(folder: Path, names: Iterable[str]) -> ssl.SSLContext:
    """TLS for a server, with the certificates of a folder, which are made where they are missing.

    Args:
        folder: of `authority.pem`, `authority.key`, `server.pem` and `server.key`; the keys are
            private to their owner.
        names: host names and addresses that the server is called by, beside the local ones.

    Raises:
        InputError: the folder cannot be used, or holds something else.
    """
    wanted = list(dict.fromkeys((*LOCAL, *(name.lower() for name in names))))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, key = _authority(folder)
        if not _serves(folder / "server.pem", authority, wanted):
            _issue(folder, authority, key, wanted)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or f"{error}" or type(error).__name__
        expected = f"a folder with the authority's and the server's certificates ({folder})"
        raise InputError("serve", "tls", expected, f"{found}") from None
    return context


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    held, secret = folder / AUTHORITY, folder / "authority.key"
    if held.exists() or secret.exists():
        key = serialization.load_pem_private_key(secret.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is of another kind")
        authority = x509.load_pem_x509_certificate(held.read_bytes())
        if authority.public_key() != key.public_key():
            raise ValueError("the authority's certificate is not of its key")
        return authority, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgepact authority")])
    certificate = (
        _certificate(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(secret, _private(key), 0o600)
    _write(held, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key


def _issue(
    folder: Path, authority: x509.Certificate, by: ec.EllipticCurvePrivateKey, names: list[str]
) -> None:
    """Makes the server's key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgepact server")])
    certificate = (
        _certificate(name, authority.subject, key.public_key(), SERVER_DAYS)
        .add_extension(
            x509.SubjectAlternativeName([_general(each) for each in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
        .sign(by, hashes.SHA256())
    )
    _write(folder / "server.key", _private(key), 0o600)
    _write(folder / "server.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _serves(held: Path, authority: x509.Certificate, names: list[str]) -> bool:
    """Whether there is a certificate of this authority for all names that holds for a while."""
    if not held.exists():
        return False
    certificate = x509.load_pem_x509_certificate(held.read_bytes())
    try:
        certificate.verify_directly_issued_by(authority)
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception:  # of another authority: made anew
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    known = set(listed.value)
    return left.days >= RENEWED_DAYS and all(_general(each) in known for each in names)


def _certificate(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # for clocks that are behind
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Writes a file in one piece, which nobody can read before it has its permissions."""
    part = path.with_name(path.name + ".part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    part.replace(path)
