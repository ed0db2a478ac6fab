"""What a URI is called without its secrets, and what a text looks like without them."""

import logging
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from actors import secrets
from actors.errors import StorageError
from actors.secrets import hidden, public_uri

AZURE = "sv=2024-11-04&st=2026-01-01&se=2026-02-01&sr=b&sp=r&spr=https&sig=a%2Bb%3D"
AMAZON = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F2026&X-Amz-Date=1&X-Amz-Expires=9&X-Amz-Signature=s"
GOOGLE = "X-Goog-Algorithm=G&X-Goog-Credential=a%40b&X-Goog-Date=1&X-Goog-Expires=9&X-Goog-Signature=s"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", secrets._Known())


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (AMAZON, ""),
        (f"{AMAZON}&X-Amz-Security-Token=t&x-id=GetObject", ""),
        (f"w=300&{AMAZON}&h=200", "?w=300&h=200"),
        (AMAZON.lower(), ""),
        (AMAZON.replace("X-Amz-Signature", "X%2DAmz-Signature"), ""),
        ("AWSAccessKeyId=AK&Expires=1&Signature=s%2F&versionId=3", "?versionId=3"),
        (GOOGLE, ""),
        ("GoogleAccessId=a%40b&Expires=1&Signature=s", ""),
        (AZURE, ""),
        ("Expires=1&Signature=a~-_&Key-Pair-Id=K", ""),
        ("Policy=eyJ_&Signature=a&Key-Pair-Id=K&Hash-Algorithm=SHA256", ""),
        ("OSSAccessKeyId=a&Expires=1&Signature=s&x-oss-process=image/resize,w_9", "?x-oss-process=image/resize,w_9"),
        (
            "q-sign-algorithm=sha1&q-ak=a&q-sign-time=1;2&q-key-time=1;2&q-header-list=&q-url-param-list=&q-signature=s",
            "",
        ),
        ("AccessKeyId=a&Expires=1&Signature=s", ""),
        ("hdnts=exp=1~acl=/*~hmac=f", ""),
        ("ex=6a&is=6b&hm=6c&", "?"),
        ("_nc_cat=1&oh=00_A&oe=65", "?_nc_cat=1"),
        ("md5=abc&expires=1", ""),
        ("alt=media&token=t", "?alt=media"),
        ("access_token=t&e=1", ""),
        ("size=3&api_key=t", "?size=3"),
        ("", ""),
        ("size=3&name=a%20b", "?size=3&name=a%20b"),
        ("sv=1&se=2&sp=3", "?sv=1&se=2&sp=3"),  # no signature, so these are somebody's own
        ("Expires=1&policy=x", "?Expires=1&policy=x"),
        ("sign=", ""),
        ("&&a=1&", "?&&a=1&"),
    ],
)
def test_signatures_are_no_part_of_an_images_name(query: str, kept: str) -> None:
    whole = f"https://h:8443/x/a%2Fb+c.png?{query}"
    assert public_uri(whole) == f"https://h:8443/x/a%2Fb+c.png{kept or ('?' if not query else '')}"
    assert may_change(whole) or public_uri(whole) == whole


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://user:pa%40ss@h/a.png", "https://h/a.png"),
        ("https://token@h/a.png", "https://h/a.png"),
        ("https://a@b@h/a.png", "https://h/a.png"),
        ("s3://KEY:SECRET@bucket/a.png", "s3://bucket/a.png"),
        ("ftp://me:pw@h/a.png", "ftp://h/a.png"),
        ("sftp://me@h/a.png", "sftp://me@h/a.png"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs://container@account.dfs.core.windows.net/a"),
        ("github://owner:repo@main/a.png", "github://owner:repo@main/a.png"),
        ("https://h/a@b.png", "https://h/a@b.png"),
        ("/folder/a.png?sig=b", "/folder/a.png?sig=b"),
        ("a.png?token=b", "a.png?token=b"),
        ("s3://bucket/a?b=c#d", "s3://bucket/a?b=c#d"),
        ("https://h/a.png#access_token=b", "https://h/a.png#access_token=***"),
        ("https://h/a\n.png?sig=x", "https://h/a\n.png"),
    ],
)
def test_logins_are_no_part_of_an_images_name(uri: str, name: str) -> None:
    assert public_uri(uri) == name
    assert may_change(uri) or name == uri


@pytest.mark.parametrize(
    "uri",
    [
        "/a/b@c.png?sig=x#y",
        "s3://bucket/a@b.png",
        "s3://bucket/a?b=token",
        "https://h/a%20b.png",
        "https://h/a.png?w=200&size=sig&tokens=3&design=4",
    ],
)
def test_ordinary_uris_need_no_closer_look(uri: str) -> None:
    assert not may_change(uri)
    assert public_uri(uri) == uri


def may_change(uri: str) -> bool:
    """As Arrow looks through a manifest."""
    return bool(pc.match_substring_regex(pa.array([uri]), secrets.MAY_CHANGE)[0].as_py())


def test_what_may_say_which_image_is_meant_is_not_lost() -> None:
    one, other = (public_uri(f"https://h/get?token={token}") for token in ("a", "b"))
    assert one != other
    assert "token=a" not in one
    assert (
        public_uri("https://h/get?id=1&sig=a")
        == public_uri("https://h/get?id=1&sig=b")
        != public_uri("https://h/get?id=2&sig=a")
    )
    assert public_uri("https://h/get?e=1&token=same") != public_uri("https://h/get?e=2&token=same")
    assert public_uri("s3://bucket/a?sig=1") != public_uri("s3://bucket/a?sig=2")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"see https://h/a.png?{AMAZON}, then", None),
        ("https://u:p@ss@h/x and http://[::1]:80/a@b", "https://***@h/x and http://[::1]:80/a@b"),
        ("'https://user:pa/ss@host/x' is none", "'https://***@host/x' is none"),
        ("next=https%3A%2F%2Fh%3Fsig%3Dabc%26x", "next=https%3A%2F%2Fh%3Fsig%3D***%26x"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("Basic authentication is needed", None),
        (
            "{'key': 'abc', \"client_secret\": \"d\\\"ef\", 'x': 'y'}",
            "{'key': '***', \"client_secret\": \"***\", 'x': 'y'}",
        ),
        ("storage.options.s3.secret=hush", "storage.options.s3.secret=***"),
        ("an override looks like key=value or section.key=value", None),
        ("hf_" + "a" * 34, "***"),
        ("the token= of it", None),
    ],
)
def test_texts(text: str, masked: str | None) -> None:
    if masked is None:
        masked = text.replace("=s,", "=***,").replace("AK%2F2026", "***")
        for name in ("AWS4-HMAC-SHA256", "Date=1", "Expires=9"):
            masked = masked.replace(name, name.partition("=")[0] + "=***" if "=" in name else "***")
    assert hidden(text) == masked
    assert str(StorageError(text)) == masked
    record = logging.LogRecord("x", logging.INFO, "", 0, text, None, None)
    record.run = record.stage = record.clip = "-"
    from actors.logs import _formatter

    assert _formatter().format(record).endswith(masked)


def test_known_values_are_masked_in_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "p/q r'1234567")
    monkeypatch.setenv("MY_TOKEN_FILE", "/run/secrets/mounted")
    secrets.remember_environment()
    for spelt in ("p/q r'1234567", "p%2Fq%20r%271234567", repr("p/q r'1234567")[1:-1]):
        assert hidden(f"got {spelt}.") == "got ***."
    assert hidden("/run/secrets/mounted") == "/run/secrets/mounted"
    secrets.remember("pass12")  # a short one is masked as a word of its own
    secrets.remember("%41%42%43")  # which means no more than ABC
    assert hidden("ABC") == "ABC"
    assert hidden("pass12, bypass123") == "***, bypass123"


def test_options_are_known_by_their_names() -> None:
    options = {
        "s3": {
            "key": "AKIA",
            "secret": "hush",
            "client_kwargs": {"endpoint_url": "http://u:pw@h", "region_name": "eu"},
        },
        "https": {"headers": {"Authorization": "Bearer x", "X-Me": "z", "User-Agent": "me"}, "proxy": "http://p:q@h:1"},
        "gs": {"token": "anon", "project": "mine"},
        "abfs": {"connection_string": "A=b", "account_name": "mine", "sas_token": 7},
    }
    found = set(secrets.secret_options(options))
    assert {"AKIA", "hush", "u:pw", "pw", "Bearer x", "z", "p:q", "q", "A=b", "7"} == found


@pytest.mark.parametrize(
    "hostile",
    [
        "a",
        "x://",
        "a:",
        "http://a:b",
        "token=",
        "'key':'",
        "Basic ",
        "x-amz-",
        "http://a@",
        "&sig=",
        "%3Fsig%3D",
        "hf_",
    ],
)
def test_a_text_that_is_made_to_be_slow_is_not(hostile: str) -> None:
    started = time.process_time()
    hidden(hostile * (200_000 // len(hostile)))
    public_uri("https://h/a?" + hostile * (8000 // len(hostile)))
    assert time.process_time() - started < 10


def test_what_ray_prints_has_no_secret_and_no_cause_with_one() -> None:
    def raised(error: Exception, cause: Exception | None) -> Iterator[None]:
        with secrets.without_secrets():
            yield from ()
            raise error from cause

    url = "https://u:secret1@h/x"
    with pytest.raises(RuntimeError, match=r"ValueError: https://\*\*\*@h/x") as caught:
        next(raised(ValueError(url), None))
    assert caught.value.__cause__ is None
    with pytest.raises(ValueError, match=r"^plain$") as other:
        next(raised(ValueError("plain"), OSError(url)))
    assert other.value.__cause__ is None
    with pytest.raises(ValueError, match=r"^plain$") as third:
        next(raised(ValueError("plain"), OSError("of no secret")))
    assert isinstance(third.value.__cause__, OSError)
