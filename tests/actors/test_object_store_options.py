"""`storage.options` in the words of `object_store`: all of them, or an error that names the one that has none."""

from typing import Any

import pytest

from actors.errors import StorageError
from actors.object_store_options import in_common_scheme, object_store_options, said_by

ENDPOINT = {"client_kwargs": {"endpoint_url": "http://store:9000"}}


@pytest.mark.parametrize(
    ("uri", "options", "expected"),
    [
        ("/x/t", {"s3": {"key": "k"}}, {}),
        ("s3://b/t", {}, {}),
        ("s3a://b/t", {"s3": {"anon": True, "default_block_size": 5}}, {"aws_skip_signature": "true"}),
        (
            "s3://b/t",
            {"S3A": {"key": "k", "secret": "s", "token": "t", **ENDPOINT, "config_kwargs": {"retries": {"x": 1}}}},
            {
                "aws_access_key_id": "k",
                "aws_secret_access_key": "s",
                "aws_session_token": "t",
                "aws_endpoint_url": "http://store:9000",
                "allow_http": "true",
                "aws_region": "us-east-1",
            },
        ),
        (
            "s3://b/t",
            {
                "s3": {
                    "endpoint_url": "https://store",
                    "client_kwargs": {"region_name": "eu-west-1", "verify": False},
                    "config_kwargs": {"s3": {"addressing_style": "virtual"}},
                }
            },
            {
                "aws_endpoint_url": "https://store",
                "aws_region": "eu-west-1",
                "allow_invalid_certificates": "true",
                "aws_virtual_hosted_style_request": "true",
            },
        ),
        ("gs://b/t", {"gcs": {"token": "anon", "project": "p"}}, {"google_skip_signature": "true"}),
        ("gcs://b/t", {"gs": {"token": "/key.json"}}, {"google_service_account": "/key.json"}),
        ("gs://b/t", {"gs": {"token": {"a": 1}}}, {"google_service_account_key": '{"a": 1}'}),
        (
            "abfs://c/t",
            {"az": {"account_name": "a", "sas_token": "s"}},
            {"azure_storage_account_name": "a", "azure_storage_sas_token": "s"},
        ),
    ],
)
def test_options_of_each_store(
    uri: str, options: dict[str, dict[str, Any]], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert object_store_options(uri, options) == expected


def test_a_region_of_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "aws_region" not in object_store_options("s3://b/t", {"s3": ENDPOINT})


@pytest.mark.parametrize(
    ("uri", "options", "message"),
    [
        ("s3://b/t", {"s3": {"profile": "secret"}}, "storage.options.s3.profile means nothing to the reader"),
        ("s3://b/t", {"s3": {"config_kwargs": {"proxies": {}}}}, "storage.options.s3.config_kwargs.proxies means"),
        ("gs://b/t", {"gcs": {"token": "browser"}}, "storage.options.gcs.token means nothing"),
        ("abfs://b/t", {"abfs": {"credential": "x"}}, "storage.options.abfs.credential means nothing"),
        ("hf://datasets/a/b", {}, "a table is read from this machine and from s3://"),
    ],
)
def test_what_would_be_ignored_is_an_error(uri: str, options: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(StorageError) as refused:
        object_store_options(uri, options)
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


def test_schemes_and_sayings() -> None:
    assert in_common_scheme("s3a://b/t") == "s3://b/t"
    assert in_common_scheme("/x/t") == "/x/t"
    error = ValueError("not\n found: key my-secret-key-1, /rustc/48a2/library/core/src/ops/function.rs:250:5")
    assert said_by(error, {"s3": {"secret": "my-secret-key-1"}}) == "not found: key ***"
    assert said_by(ValueError(), {}) == "ValueError"
