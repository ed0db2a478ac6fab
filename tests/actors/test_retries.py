import errno
from types import SimpleNamespace

import aiohttp
import botocore.exceptions as boto
import pytest

from actors.errors import StorageError
from actors.retries import Fault, TruncatedRead, causes, fault_of, is_conflict, is_unsupported, wait_s


def _s3(status: int, code: str) -> OSError:
    """What s3fs raises: an OSError from botocore's error."""
    answer = {"Error": {"Code": code, "Message": "says the store"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raised = OSError(errno.EIO, "says the store")
    raised.__cause__ = boto.ClientError(answer, "GetObject")
    return raised


def _http(status: int) -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(SimpleNamespace(real_url="http://h"), (), status=status)  # type: ignore[arg-type]


def _of_class(name: str, **fields: object) -> Exception:
    """An error of a client that is not installed here."""
    error: Exception = type(name, (Exception,), {})("says the store")
    for field, value in fields.items():
        setattr(error, field, value)
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(_s3(status, "") for status in (408, 429, 500, 502, 503, 504)),
        *(_http(status) for status in (429, 500, 502, 503, 504)),
        _s3(503, "SlowDown"),
        _s3(400, "RequestTimeout"),
        _s3(409, "ConditionalRequestConflict"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        TimeoutError(),
        TruncatedRead("it ended at byte 1 of 2"),
        *(OSError(number, "") for number in (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EDQUOT)),
        aiohttp.ClientPayloadError("half an answer"),
        aiohttp.ServerDisconnectedError(),
        boto.EndpointConnectionError(endpoint_url="http://h"),
        boto.ReadTimeoutError(endpoint_url="http://h"),
        boto.ConnectionClosedError(endpoint_url="http://h"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        _of_class("HttpError", code=503),
        _of_class("ServiceResponseError"),
        _of_class("HttpResponseError", status_code=500, error_code="InternalError"),
    ],
    ids=repr,
)
def test_what_passes_by_itself(error: Exception) -> None:
    assert fault_of(error) is Fault.PASSING


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "none"),
        PermissionError(errno.EACCES, "no"),
        IsADirectoryError(errno.EISDIR, "folder"),
        ImportError("s3fs"),
        ValueError("Protocol not known: x"),
        *(_s3(status, "") for status in (301, 403, 404, 405, 411, 412, 416, 501)),
        _s3(403, "SignatureDoesNotMatch"),
        _s3(403, "InvalidAccessKeyId"),
        *(_http(status) for status in (400, 401, 403, 404, 410)),
        boto.NoCredentialsError(),
        boto.SSLError(endpoint_url="http://h", error="certificate verify failed: self-signed certificate"),
        _of_class("HttpError", code=403),
        _of_class("HttpResponseError", status_code=403, error_code="AuthenticationFailed"),
    ],
    ids=repr,
)
def test_what_lasts(error: Exception) -> None:
    assert fault_of(error) is Fault.LASTING


@pytest.mark.parametrize(
    "error",
    [_s3(400, "ExpiredToken"), _s3(400, "400"), _s3(400, "TokenRefreshRequired"), _of_class("RefreshError")],
    ids=repr,
)
def test_what_new_credentials_may_heal(error: Exception) -> None:
    assert fault_of(error) is Fault.EXPIRED


def test_half_an_answer_is_not_taken_for_an_answer() -> None:
    raised = aiohttp.ClientPayloadError("Response payload is not completed")
    raised.__cause__ = aiohttp.http_exceptions.ContentLengthError("received 1 of 2 bytes")  # it carries a code, 400
    assert fault_of(raised) is Fault.PASSING


def test_refusals_of_conditional_writes() -> None:
    for conflict in (FileExistsError(), _s3(412, "PreconditionFailed"), _s3(412, "412")):
        assert is_conflict(conflict)
        assert not is_unsupported(conflict)
    for unsupported in (_s3(501, "NotImplemented"), NotImplementedError()):
        assert is_unsupported(unsupported)
        assert not is_conflict(unsupported)
    for other in (_s3(503, "SlowDown"), PermissionError(), ConnectionResetError()):
        assert not is_conflict(other)
        assert not is_unsupported(other)


def test_waits_grow_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[tuple[float, float]] = []

    def highest(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    monkeypatch.setattr("actors.retries.random.uniform", highest)
    assert [wait_s(attempt) for attempt in (1, 2, 3, 5, 6, 60)] == [1, 2, 4, 16, 20, 20]
    assert {low for low, _ in ranges} == {0}


def test_an_error_that_is_its_own_cause_has_one() -> None:
    error = StorageError("it was replaced while it was read")
    error.__cause__ = error
    assert list(causes(error)) == [error]
    assert fault_of(error) is Fault.LASTING
