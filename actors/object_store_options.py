"""`storage.options` for libraries that reach stores without fsspec: the names that the Rust crate `object_store` takes.

Delta's and Lance's readers are such. What is not set comes from the environment, as it does with fsspec (AWS_PROFILE,
GOOGLE_APPLICATION_CREDENTIALS and so on).
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from actors.errors import StorageError
from actors.secrets import hidden, remember, secret_options
from actors.store_options import STORES, names_of_one_store
from actors.uris import common_scheme, is_local, root_of, scheme_in

_S3 = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "endpoint_url": "aws_endpoint_url",
    "anon": "aws_skip_signature",
    "requester_pays": "aws_request_payer",
    "client_kwargs.endpoint_url": "aws_endpoint_url",
    "client_kwargs.region_name": "aws_region",
    "client_kwargs.aws_access_key_id": "aws_access_key_id",
    "client_kwargs.aws_secret_access_key": "aws_secret_access_key",
    "client_kwargs.aws_session_token": "aws_session_token",
}
_AZURE = {
    "account_name": "azure_storage_account_name",
    "account_key": "azure_storage_account_key",
    "sas_token": "azure_storage_sas_token",
    "tenant_id": "azure_tenant_id",
    "client_id": "azure_client_id",
    "client_secret": "azure_client_secret",
    "anon": "azure_skip_signature",
}
# Where no region is set, for a store that is not Amazon's, botocore takes this one. (Others take others.)
_REGION = "us-east-1"
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
# `, /rustc/48a2/library/core/src/ops/function.rs:250:5`
_PLACES = re.compile(r",? /\S+\.rs:\d+:\d+")
_SAID_CHARACTERS = 500
# How fsspec goes about it, which changes nothing of what is read.
_OF_FSSPEC = frozenset(
    {
        *(
            "use_listings_cache",
            "listings_expiry_time",
            "max_paths",
            "skip_instance_cache",
            "asynchronous",
            "consistency",
        ),
        *("default_block_size", "default_fill_cache", "default_cache_type", "block_size", "cache_regions"),
        *(
            "max_concurrency",
            "fixed_upload_size",
            "version_aware",
            "s3_additional_kwargs",
            "timeout",
            "requests_timeout",
        ),
        *("config_kwargs.retries", "config_kwargs.max_pool_connections"),
        *("config_kwargs.connect_timeout", "config_kwargs.read_timeout"),
    }
)


def object_store_options(uri: str, options: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The options of the store of `uri`, of all that `storage.options` has.

    Raises:
        StorageError: one of them has no counterpart, or such libraries do not reach this store.
    """
    if is_local(uri):
        return {}
    scheme = scheme_in(uri)
    names = names_of_one_store(scheme, options)
    given = {key: value for name in names for key, value in _flat(options[name]) if value is not None}
    translate = _STORES.get(STORES.get(scheme, ""))
    if translate is None:
        stores = ", ".join(f"{name}://" for name in STORES)
        raise StorageError(f"{uri}: a table is read from this machine and from {stores}, not from {scheme}://: copy it")
    setting = f"storage.options.{names[0] if names else scheme}"
    return translate(setting, {key: value for key, value in given.items() if key not in _OF_FSSPEC})


def said_by(error: BaseException, options: Mapping[str, Mapping[str, Any]]) -> str:
    """What such a library says: on one line and not too long, without secrets and without places in its own source."""
    remember(*secret_options(options))  # of which the message may hold some
    said = hidden(" ".join(_PLACES.sub("", str(error)).split()))  # before it is cut: half a secret is not known as such
    return said[:_SAID_CHARACTERS] or type(error).__name__


def in_common_scheme(uri: str) -> str:
    """`uri` with the one scheme of its store that such libraries know for sure: `s3://` for `s3a://`."""
    return uri if is_local(uri) else f"{common_scheme(scheme_in(uri))}://{uri[len(root_of(uri)) :]}"


def _flat(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The options, those within `client_kwargs` and `config_kwargs` as `client_kwargs.region_name`."""
    found: list[tuple[str, Any]] = []
    for key, value in options.items():
        if key in ("client_kwargs", "config_kwargs") and isinstance(value, Mapping):
            found += [(f"{key}.{inner}", one) for inner, one in value.items()]
        else:
            found.append((key, value))
    return found


def _of_s3(setting: str, given: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in given.items():
        if key in _S3:
            found[_S3[key]] = _text(value)
        elif key in ("client_kwargs.use_ssl", "use_ssl"):  # the endpoint's scheme says the same
            continue
        elif key in ("client_kwargs.verify", "verify") and value in (True, False):
            found["allow_invalid_certificates"] = _text(not value)
        elif key == "config_kwargs.s3" and set(value) == {"addressing_style"}:
            found["aws_virtual_hosted_style_request"] = _text(value["addressing_style"] == "virtual")
        elif key == "config_kwargs.signature_version" and value in ("s3v4", "v4"):
            continue
        else:
            raise _unknown(setting, key)
    if found.get("aws_endpoint_url", "").startswith("http://"):
        found["allow_http"] = "true"
    if "aws_endpoint_url" in found and not any(map(os.environ.get, _REGION_VARIABLES)):
        found.setdefault("aws_region", _REGION)
    return found


def _of_gcs(setting: str, given: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in given.items():
        if key in ("project", "access"):
            continue
        if key == "token" and isinstance(value, Mapping):
            found["google_service_account_key"] = json.dumps(dict(value))
        elif key == "token" and value == "anon":
            found["google_skip_signature"] = "true"
        elif key == "token" and value in ("google_default", "cloud"):
            continue
        elif key == "token" and isinstance(value, str) and value.endswith(".json"):
            found["google_service_account"] = value
        elif key == "endpoint_url":
            found["google_base_url"] = _text(value)
        else:
            raise _unknown(setting, key)
    return found


def _of_azure(setting: str, given: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in given.items():
        if key not in _AZURE:
            raise _unknown(setting, key)
        found[_AZURE[key]] = _text(value)
    return found


def _unknown(setting: str, key: str) -> StorageError:
    return StorageError(
        f"{setting}.{key} means nothing to the reader of this table, so it would be ignored: set what it stands for in "
        "the environment, or copy the table"
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_STORES: dict[str, Callable[[str, Mapping[str, Any]], dict[str, str]]] = {
    "s3": _of_s3,
    "gcs": _of_gcs,
    "azure": _of_azure,
}
