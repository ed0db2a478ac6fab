"""Signing a clip's file (C2PA): who made it and how, bound to its content. By c2pa-python, the extra `c2pa`."""

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID

from actors import __version__
from actors.errors import ConfigError, VideoError
from actors.marks.credentials import Credentials
from actors.retries import retried

_PROGRAM = {"name": "stillreel", "version": __version__}
# The library would make a thumbnail of an image, and look for what a file refers to on the web.
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}, "generate_c2pa_archive": False},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
# A time stamping service may be busy. All else that keeps a file from being signed stays as it is.
_TRIES = 5


class _NotSignedError(ConnectionError):
    """The library's own error, as one that may pass."""


class Signer:
    """Signs clips, one after the other."""

    def __init__(self, credentials: Credentials) -> None:
        """Raises ConfigError where the library is not there, VideoError where it refuses certificate or key."""
        try:
            import c2pa
        except ImportError as error:
            raise ConfigError(
                "video.c2pa needs a package that this worker does not have: pip install 'stillreel[c2pa]' on each node"
            ) from error
        self._c2pa = c2pa
        self._tries = _TRIES if credentials.timestamp_url else 1
        url = credentials.timestamp_url
        info = c2pa.C2paSignerInfo(
            alg=credentials.algorithm.encode(),
            sign_cert=credentials.certificate,
            private_key=credentials.key,
            ta_url=url.encode() if url else None,
        )
        try:
            self._context = c2pa.Context.from_dict(_SETTINGS)
            self._signer = c2pa.Signer.from_info(info)
        except c2pa.C2paError as error:
            raise VideoError(f"clips cannot be signed with this certificate and key: {error}") from error

    def sign(self, path: Path, source_type: str) -> None:
        """Put a signed manifest into an MP4 file that is called after its clip; what is there moves, and stays.

        Raises VideoError, with what the library says; OSError where the disk is full.
        """
        signed = path.with_name(f".{path.name}.signed")
        try:
            retried(lambda: self._write(path, signed, source_type), self._tries, of=_NotSignedError)
            signed.replace(path)
        except _NotSignedError as error:
            raise VideoError(f"the file could not be signed: {error}") from error
        finally:
            signed.unlink(missing_ok=True)

    def _write(self, path: Path, signed: Path, source_type: str) -> None:
        with path.open("rb") as source, signed.open("w+b") as target:
            try:
                builder = self._c2pa.Builder(manifest(path.name, source_type), context=self._context)
                builder.sign(self._signer, "video/mp4", source, target)
            except self._c2pa.C2paError as error:
                raise _NotSignedError(str(error)) from error


def manifest(name: str, source_type: str) -> dict[str, Any]:
    """What is said of the file `name`. Its ids come from the name, which is the clip_id: none is drawn."""
    ident = UUID(bytes=hashlib.sha256(name.encode()).digest()[:16], version=4)
    created = {"action": "c2pa.created", "digitalSourceType": source_type, "softwareAgent": _PROGRAM}
    return {
        "claim_generator_info": [_PROGRAM],
        "title": name,
        "format": "video/mp4",
        "label": f"urn:c2pa:{ident}",
        "instance_id": f"xmp:iid:{ident}",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}, "created": True}],
    }
