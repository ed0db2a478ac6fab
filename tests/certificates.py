"""Certificates as an authority gives them to somebody who signs media (C2PA specification 2.2, 14.5.1)."""

import http.server
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.web import send, serving

NOW = datetime.now(UTC)
YEAR = timedelta(days=365)


def _name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def pem_of(key: Any, lock: KeySerializationEncryption | None = None) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock or NoEncryption())
    return pem


def locked(key: Any) -> bytes:
    return pem_of(key, BestAvailableEncryption(b"passphrase"))


@dataclass
class Authority:
    """A root, which signs others."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def certificate(self) -> x509.Certificate:
        return (
            x509.CertificateBuilder(_name("root"), _name("root"), self.key.public_key(), 1, NOW - YEAR, NOW + YEAR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, SHA256())
        )

    def vouch(
        self,
        key: Any,
        *,
        begins: datetime = NOW - YEAR,
        ends: datetime = NOW + YEAR,
        purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.EMAIL_PROTECTION,
        is_purpose_critical: bool = False,
    ) -> bytes:
        """A certificate in PEM for the holder of `key`."""
        public = key.public_key()
        built = (
            x509.CertificateBuilder(_name("root"), _name("signer"), public, 2, begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if purpose is not None:
            built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=is_purpose_critical)
        return built.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


def write_credentials(folder: Path) -> list[str]:
    """A certificate and its key, and the overrides that name them."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "chain.pem").write_bytes(Authority().vouch(key))
    (folder / "key.pem").write_bytes(pem_of(key))
    return [f"video.c2pa.certificate={folder}/chain.pem", f"video.c2pa.key={folder}/key.pem"]


_TSA = """[tsa]
default_tsa = own
[own]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


@contextmanager
def time_stamping_service(folder: Path) -> Iterator[str]:
    """The URL of a service that gives time stamps (RFC 3161), by the command `openssl ts`."""
    key = rsa.generate_private_key(65537, 2048)
    purpose = ExtendedKeyUsageOID.TIME_STAMPING
    (folder / "tsa.pem").write_bytes(Authority().vouch(key, purpose=purpose, is_purpose_critical=True))
    (folder / "tsa.key").write_bytes(pem_of(key))
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(_TSA.format(folder=folder))

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = [
                "openssl",
                "ts",
                "-reply",
                "-config",
                str(folder / "tsa.cnf"),
                "-queryfile",
                str(folder / "query"),
            ]
            answer = subprocess.run(command, check=True, capture_output=True).stdout
            send(self, 200, answer, {"Content-Type": "application/timestamp-reply"})

    with serving(Answering) as url:
        yield url
