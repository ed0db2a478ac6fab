"""What clips are signed with (C2PA): read and tried by the driver, before anything else is done.

Workers get it with the stage that signs: the paths are of the driver's machine, and no other one has to hold the key.
"""

import importlib.util
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np

from actors import scratch, secrets, video
from actors.errors import ConfigError, StorageError, VideoError
from actors.marks.credentials import Credentials, mistakes_in, normal
from actors.marks.source_types import MADE_BY_AI
from actors.settings import C2paSettings, VideoSettings
from actors.storage import Storage
from pipelines.config import Config

_PEM = "-----BEGIN "
# Lines of a key, of 64 characters; a shorter one could be a word.
_LEAST_CHARACTERS = 16
# The smallest file that there is to sign: pixels, and frames.
_SIDE, _FRAMES = 16, 1


def credentials_of(config: Config, storage: Storage) -> Credentials | None:
    """What `video.c2pa` names, None where it is null. From here on, messages of this process mask the key.

    Raises:
        ConfigError: one of them cannot be read, or clips cannot be signed with them.
    """
    settings = config.video.c2pa
    if settings is None:
        return None
    if importlib.util.find_spec("c2pa") is None:
        raise ConfigError(
            "video.c2pa needs a package that is not installed: pip install 'stillreel[c2pa]', on each node; or set it "
            "to null"
        )
    credentials = Credentials(
        _read("certificate", settings.certificate, storage),
        _key(settings, storage),
        settings.algorithm,
        settings.timestamp_url,
    )
    _hide(credentials.key)
    mistakes = [f"video.c2pa.{name}: {clause}" for name, clause in mistakes_in(credentials, datetime.now(UTC))]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    credentials = replace(credentials, key=normal(credentials.key))
    _hide(credentials.key)
    _try(credentials)
    return credentials


def _key(settings: C2paSettings, storage: Storage) -> bytes:
    given = settings.key.get_secret_value()
    return given.encode() if given.lstrip().startswith(_PEM) else _read("key", given, storage)


def _read(name: str, uri: str, storage: Storage) -> bytes:
    try:
        return storage.read_bytes(uri)
    except StorageError as error:
        raise ConfigError(f"video.c2pa.{name}: cannot be read ({error})") from error


def _hide(key: bytes) -> None:
    """Have messages, here and in the workers, mask the key and each of its lines."""
    text = key.decode(errors="replace")
    lines = (line for line in text.split() if len(line) >= _LEAST_CHARACTERS and not line.startswith("-"))
    secrets.remember(text, *lines)


def _try(credentials: Credentials) -> None:
    """Sign a file, as a worker would: C2PA asks more of a certificate than dates.

    Raises:
        ConfigError: that fails, for the certificate's sake or the time stamp's.
    """
    _sign_a_file(
        replace(credentials, timestamp_url=None),
        "video.c2pa.certificate: C2PA asks for one that an authority has given to sign with (key usage "
        "digitalSignature, an extended key usage such as emailProtection), and not for one that vouches for itself; "
        "a trial failed",
    )
    if credentials.timestamp_url:
        _sign_a_file(credentials, "video.c2pa.timestamp_url: the service gave no time stamp (RFC 3161); a trial failed")


def _sign_a_file(credentials: Credentials, problem: str) -> None:
    from actors.marks.signing import Signer

    frame_HWC = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    with scratch.folder() as folder:
        path = folder / "trial.mp4"
        video.encode(
            [frame_HWC] * _FRAMES,
            path,
            width=_SIDE,
            height=_SIDE,
            frame_rate=Fraction(1),
            settings=VideoSettings(),
            tag="",
        )
        try:
            Signer(credentials).sign(path, MADE_BY_AI)
        except VideoError as error:
            raise ConfigError(f"{problem}: {error}") from error
