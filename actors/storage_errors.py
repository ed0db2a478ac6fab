"""What a failure of a store means, in one sentence for the person who runs the job."""

import errno

from actors.errors import StorageError
from actors.retries import causes
from actors.secrets import hidden

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or storage.options.s3 (key, secret; anon)",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS or storage.options.gs (token)",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or storage.options.abfs",
}


class NotFound(StorageError):  # noqa: N818 - reads as what it says: `except NotFound`
    """There is no such file, object or bucket."""


def explained(error: Exception, done: str, uri: str, scheme: str, extra: str, tries: int) -> StorageError:
    """The error that says why `uri` could not be `done`, after so many `tries`.

    `extra` is the one that installs the client of an object store, "" for all else. A StorageError stays what it is,
    also where a client has raised an error of its own from it.
    """
    if own := next((cause for cause in causes(error) if isinstance(cause, StorageError)), None):
        return own
    # The client may name the secrets of the URI in a way of its own.
    said = hidden(" ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split()), uri)
    if isinstance(error, FileNotFoundError):
        if "bucket does not exist" in said:
            return NotFound(f"{uri} could not be {done}: the bucket does not exist; create it, or correct the name")
        hint = "; if it is private or gated, set HF_TOKEN or storage.options.hf (token)" if scheme == "hf" else ""
        return NotFound(f"{uri} does not exist{hint}")
    tried = f" (tried {tries} times)" if tries > 1 else ""
    return StorageError(f"{uri} could not be {done}: {_reason(scheme, extra, said, error)}{tried}")


def _reason(scheme: str, extra: str, said: str, error: Exception) -> str:  # noqa: PLR0911 - a list of reasons
    """What went wrong, and what to do about it."""
    kind = type(error).__name__
    if isinstance(error, ImportError):
        return f"a package is missing ({said})" + (f"; pip install -e '.[{extra}]'" if extra else "")
    if isinstance(error, ValueError) and "Protocol not known" in said:
        return f"{scheme}:// is not a known scheme; use a local path, s3://, gs://, abfs:// or https://"
    if getattr(error, "errno", None) == errno.EROFS:
        return "it is mounted read-only; mount it for writing, or name another place"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return f"there are no credentials; set {_CREDENTIALS[extra]}"
    if isinstance(error, PermissionError) and scheme in ("", "file"):
        return "this user has no permission"
    if isinstance(error, PermissionError):
        return f"access denied ({said}); check {_CREDENTIALS.get(extra, 'storage.options.' + scheme)}"
    if status := getattr(error, "status", None):
        return f"the server answered {status} {hidden(str(getattr(error, 'message', '')))}".rstrip()
    if isinstance(error, (ConnectionError, TimeoutError)) or "Connect" in kind or "Timeout" in kind:
        return f"no connection ({said}); check the network, and the endpoint in storage.options.{scheme}"
    return said
