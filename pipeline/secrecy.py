"""What must not be shown: credentials in URLs, in storage options and in the environment.

A URL is shown and stored: in lines for people, in lists of jobs, in the log files of Ray. So one with credentials in it
is refused wherever it is given, and what a client says of a failure is freed of what we know to be secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

_CHAIN = re.compile(r"::(?=[\w+.-]+://)")  # fsspec's: "zip://a.zip::https://..."
_URL_IN_TEXT = re.compile(r"[\w+.-]+://[^\s'\"`<>]+")
_SIGNED = re.compile(
    r"(^|&)(x-amz-|x-goog-|sig=|signature=|awsaccesskeyid=|[a-z_-]*(token|key|secret|password|passwd|auth)=)",
    re.IGNORECASE,
)

_HARMLESS = {"endpoint_url", "region_name"}
_ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN")
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_NO_WORD = 12  # characters; people use "minioadmin"
_SHORTEST = 4  # characters; hiding a shorter text would hide half of any sentence


class Unshown(dict[str, Any]):
    """A dict whose repr shows nothing: Ray and others put the repr of what they are given into errors and logs."""

    def __repr__(self) -> str:
        return "{...}" if self else "{}"

    __str__ = __repr__


def complaint(url: str) -> str | None:
    """Why `url` is refused, one line that does not show what is secret in it; None when it holds no credentials."""
    if not holds_credentials(url):
        return None
    return (
        f"{_masked(url)} has what may be credentials in it, and URLs are shown and logged; give them in the "
        "environment (for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL) or with "
        "--storage-options @FILE"
    )


def holds_credentials(url: str) -> bool:
    """Whether `url` has a password, a signature, or a name that may be a token in it. A path on a disk never has."""
    parts = (part.partition("://") for part in _CHAIN.split(url))
    return any(separator and _is_secret(protocol.lower(), rest) for protocol, separator, rest in parts)


def gives_away(text: str) -> bool:
    """Whether a URL in `text` holds credentials, or `text` a secret of the environment; a short one may be a word."""
    urls = any(holds_credentials(url) for url in _URL_IN_TEXT.findall(text))
    return urls or any(len(secret) >= _NO_WORD and secret in text for secret in _environment())


def shown(text: str, options: Mapping[str, Any] | None = None) -> str:
    """`text` without credentials: those of the URLs in it, of storage `options`, and of the environment."""
    text = _URL_IN_TEXT.sub(lambda url: _masked(url[0]) if holds_credentials(url[0]) else url[0], text)
    for secret in [*_environment(), *_texts(options or {})]:
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text


def _is_secret(protocol: str, rest: str) -> bool:
    """Whether what follows "protocol://" holds credentials."""
    web, s3 = protocol in {"http", "https"}, protocol in {"s3", "s3a"}
    place, _, query = rest.partition("?")
    if _SIGNED.search(query):
        return True
    if protocol == "github":  # ORGANISATION:REPOSITORY@BRANCH
        return False
    authority = place.partition("/")[0]
    user, at, _ = authority.rpartition("@")
    if at:
        # Azure has CONTAINER@ACCOUNT, sftp and hdfs a user's name. Here a name alone is a token, or part of a secret.
        return ":" in user or web or s3
    if authority.startswith(("arn:", "[")):
        return False
    _, colon, port = authority.partition(":")
    if s3:
        return bool(colon)  # in no bucket's name; a secret may have slashes, so the @ may come later
    return bool(colon) and not port.isdigit() and "@" in rest


def _masked(url: str) -> str:
    """`url`, of which it is known that something in it is secret, without all that might be."""
    port = "" if url.startswith(("s3://", "s3a://")) else r"(?!\d+[/?])"  # which a bucket has none of
    secret, instead = (r"://.*@", "://***@") if "@" in url else (rf"://[^?]*:{port}[^?]*", "://***")
    return re.sub(r"\?.*", "?***", re.sub(secret, instead, url, flags=re.DOTALL), flags=re.DOTALL)


def _environment() -> Iterator[str]:
    for name in _ENVIRONMENT:
        if len(value := os.environ.get(name, "")) >= _SHORTEST:
            yield value
    yield from (value for name in _ENDPOINTS if _is_no_plain_endpoint(value := os.environ.get(name, "")))


def _texts(value: Any, name: str = "") -> Iterator[str]:
    """Every text among options but the harmless ones: which of them are secret only their file system knows."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, name)
    elif isinstance(value, str) and len(value) >= _SHORTEST and (name not in _HARMLESS or _is_no_plain_endpoint(value)):
        yield value


def _is_no_plain_endpoint(value: str) -> bool:
    return "@" in value or "?" in value
