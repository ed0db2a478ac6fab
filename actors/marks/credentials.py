"""Certificate and private key of somebody who signs clips, and whether the two can do so."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# C2PA specification 2.2, 13.2.1: of RSA keys at least so many bits.
_LEAST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a worker signs with. What is printed of it holds no key.

    Attributes:
        certificate: PEM; the signer's own first, then those that vouch for it.
        key: PEM, without a passphrase.
        algorithm: `es256` and so on, as C2PA calls it.
        timestamp_url: of a time stamping service (RFC 3161); None: no time stamps.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    algorithm: str = "es256"
    timestamp_url: str | None = field(default=None, repr=False)  # may hold a login


def mistakes_in(credentials: Credentials, now: datetime) -> Iterator[tuple[str, str]]:
    """What is wrong: the setting of `video.c2pa`, and a clause. `cryptography` has to be there.

    Args:
        now: with a time zone.
    """
    chain = _certificates(credentials.certificate)
    if not chain:
        yield (
            "certificate",
            "is no certificate in PEM: give the file that begins with BEGIN CERTIFICATE, with those that vouch for it",
        )
    for certificate in chain:
        yield from _out_of_date(certificate, now)
    key, problem = _private_key(credentials.key)
    if problem:
        yield "key", problem
    if not chain or key is None:
        return
    if _spelt(key.public_key()) != _spelt(chain[0].public_key()):
        yield "key", "is not that of the first certificate in video.c2pa.certificate: give the two that belong together"
    elif needs := _what_does_not_fit(key, credentials.algorithm):
        yield "algorithm", f"{credentials.algorithm} needs {needs}, and the key is another: change one of them"


def normal(key: bytes) -> bytes:
    """The same key as PKCS #8 in lines, which is all that the signing library reads; of a key that `mistakes_in` knows.

    OpenSSL's older commands write `BEGIN EC PRIVATE KEY`, and YAML may have made spaces of the ends of lines.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private, problem = _private_key(key)
    assert private is not None, problem
    pem: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def _certificates(pem: bytes) -> "list[Certificate]":
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        return []


def _out_of_date(certificate: "Certificate", now: datetime) -> Iterator[tuple[str, str]]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        yield "certificate", f"a certificate in it ended on {ends:%Y-%m-%d}: have it renewed"
    elif now < begins:
        yield (
            "certificate",
            f"a certificate in it begins only on {begins:%Y-%m-%d %H:%M} UTC: see to this machine's clock",
        )


def _private_key(pem: bytes) -> tuple[Any, str]:
    """The key, or why there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, None), ""
    except TypeError:
        return None, "is locked by a passphrase: give a key without one (openssl pkey -in LOCKED -out OPEN)"
    except (ValueError, UnsupportedAlgorithm):
        return None, "is no private key in PEM: give the file that begins with BEGIN PRIVATE KEY, or its text"


def _spelt(public_key: Any) -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _what_does_not_fit(key: Any, algorithm: str) -> str:
    """The kind of key that an algorithm needs where this one is another; else ""."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    curves: dict[str, tuple[type, str]] = {
        "es256": (ec.SECP256R1, "P-256"),
        "es384": (ec.SECP384R1, "P-384"),
        "es512": (ec.SECP521R1, "P-521"),
    }
    if algorithm in curves:
        curve, name = curves[algorithm]
        fits = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, curve)
        return "" if fits else f"a key on the curve {name}"
    if algorithm == "ed25519":
        return "" if isinstance(key, ed25519.Ed25519PrivateKey) else "an Ed25519 key"
    fits = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS
    return "" if fits else f"an RSA key of {_LEAST_RSA_BITS} bits or more"
