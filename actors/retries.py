"""Which failures of a store pass by themselves, and how long to wait before the next try.

The clients (botocore, aiohttp, azure, google) share no base class and none has to be installed, so their errors are
known by what they carry: an HTTP status, an error code of the store, or the names of their classes.
"""

import errno
import itertools
import random
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from typing import Any, TypeVar

T = TypeVar("T")

# The AWS SDKs' own values: a second is what a throttled store needs to recover, twenty is where longer helps nobody.
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 20.0
# Tries end after this time too. A request that stalls fails after 15 to 30 s, and the clients of Google and Azure
# try again for half a minute on their own: five of those would hide a dead store for minutes.
GIVE_UP_AFTER_S = 120.0
# What a server asks for (Retry-After) is waited for, up to this: Wikimedia asks for a minute at most.
LONGEST_ASKED_WAIT_S = 60.0

_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
# What S3, and stores that speak as it does, answer with another status, or in the middle of one.
_PASSING_CODES = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "XAmzContentSHA256Mismatch",
    }
)
# A HEAD has no body to name its error in: S3 answers it with a bare 400 when the token has expired.
_EXPIRED_CODES = frozenset(
    {
        "400",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAuthenticationInfo",
        "RequestExpired",
        "TokenRefreshRequired",
    }
)
# Full, failing and stale file systems, also of the temporary folder that a download goes through.
_PASSING_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EHOSTUNREACH, errno.ENETUNREACH})
_PASSING_KINDS = frozenset(
    {
        "ChecksumError",  # gcsfs
        "ClientConnectionError",  # aiohttp, as the next
        "ClientPayloadError",
        "ConnectionError",  # Python's own, botocore's, and that of requests
        "HTTPClientError",  # botocore
        "IncompleteReadError",  # botocore and azure
        "ResponseParserError",  # botocore: half an answer is no XML
        "ServiceRequestError",  # azure, as the next
        "ServiceResponseError",
        "TimeoutError",
        "TransportError",  # google.auth
        "TruncatedRead",
    }
)
_EXPIRED_KINDS = frozenset({"CredentialRetrievalError", "MetadataRetrievalError", "RefreshError"})


class Fault(Enum):
    """What a failure calls for."""

    LASTING = "the next try would fail as well"
    PASSING = "another try"
    EXPIRED = "another try, with credentials read anew"


class TruncatedRead(OSError):  # noqa: N818 - what has happened, as TimeoutError's siblings say it
    """Fewer bytes came than the store had promised."""


def fault_of(error: BaseException) -> Fault:
    """Judge `error` by the store's own answer where it carries one, else by its kind."""
    chain = list(causes(error))
    if answer := next(filter(None, map(_answer, chain)), None):
        return _judge_answer(*answer)
    kinds = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    if kinds & _EXPIRED_KINDS:
        return Fault.EXPIRED
    if "certificate" in str(error).lower():  # an error of the connection, says its kind, but no other will be better
        return Fault.LASTING
    if kinds & _PASSING_KINDS or any(getattr(cause, "errno", None) in _PASSING_ERRNO for cause in chain):
        return Fault.PASSING
    return Fault.LASTING


def retried(
    operation: Callable[[], T],
    tries: int,
    *,
    of: type[Exception] = Exception,
    renew: Callable[[], None] = lambda: None,
) -> T:
    """`operation()`, tried again while it fails with an `of` that may pass by itself.

    `renew` is called where credentials have expired. After `tries` tries, or where so much time has gone by that
    another would come too late, what the last try raised is raised.
    """
    number, started = 0, time.monotonic()
    while True:
        number += 1
        try:
            return operation()
        except of as error:
            fault, failure = fault_of(error), error
            is_last = number >= tries or time.monotonic() - started > GIVE_UP_AFTER_S
            if fault is Fault.LASTING or is_last:
                raise
        _note_retry()
        if fault is Fault.EXPIRED:
            renew()
        time.sleep(max(wait_s(number), _asked_wait_s(failure)))


# Since the last `take_retries`, of all threads.
_retries = itertools.count()
_taken = 0


def take_retries() -> int:
    """How often this process has tried something again since it was last asked."""
    global _taken
    now = next(_retries)
    retried_since, _taken = now - _taken, now + 1
    return retried_since


def _note_retry() -> None:
    next(_retries)


def is_conflict(error: BaseException) -> bool:
    """Whether a conditional write was refused because there is something already."""
    answers = filter(None, map(_answer, causes(error)))
    return isinstance(error, FileExistsError) or any(status == HTTPStatus.PRECONDITION_FAILED for status, _ in answers)


def is_unsupported(error: BaseException) -> bool:
    """Whether the store does not know how to do what was asked of it."""
    answers = filter(None, map(_answer, causes(error)))
    return isinstance(error, NotImplementedError) or any(status == HTTPStatus.NOT_IMPLEMENTED for status, _ in answers)


def wait_s(number: int) -> float:
    """Seconds between try number `number` (from 1) and the next: exponential, with full jitter.

    Drawn from the whole range, so that a thousand workers that failed in one moment do not come back in one.
    """
    return random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (number - 1)))  # noqa: S311 - no secret


def _asked_wait_s(error: BaseException) -> float:
    """Seconds that the store asks to wait, 0 where it does not say."""
    for cause in causes(error):
        headers: Any = getattr(cause, "headers", None)
        text = headers.get("Retry-After") if hasattr(headers, "get") else None
        if text is None:
            continue
        try:
            asked = float(text)
        except ValueError:  # the other form that HTTP has for it
            try:
                asked = parsedate_to_datetime(text).timestamp() - time.time()
            except ValueError:
                continue
        return min(asked, LONGEST_ASKED_WAIT_S) if asked > 0 else 0.0  # `nan` is no number, and a number to Python
    return 0.0


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from: s3fs raises an OSError from botocore's error, which knows more."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:  # `raise error from error` is a circle
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _answer(error: BaseException) -> tuple[int, str] | None:
    """HTTP status and error code ("" where there is none) of the store's answer that `error` carries."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)), str(
            response.get("Error", {}).get("Code", "")
        )
    if type(error).__name__ == "HttpError":  # gcsfs
        return int(getattr(error, "code", None) or 0), ""
    status: Any = getattr(error, "status_code", None)
    if isinstance(status, int):  # azure
        return status, str(getattr(error, "error_code", ""))
    status = getattr(response, "status_code", None)
    if isinstance(status, int):  # httpx, so the Hugging Face Hub's client; and requests
        return status, ""
    status = getattr(error, "status", None)
    return (status, "") if isinstance(status, int) else None  # aiohttp


def _judge_answer(status: int, code: str) -> Fault:
    if code in _EXPIRED_CODES:
        return Fault.EXPIRED
    if status in _PASSING_STATUS or code in _PASSING_CODES:
        return Fault.PASSING
    return Fault.LASTING
