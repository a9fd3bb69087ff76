"""No file that a cluster is started with holds a secret, or has a place that asks for one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    ROOT / "cluster.yaml",
    ROOT / ".dockerignore",
    *sorted(file for file in (ROOT / "deploy").rglob("*") if file.is_file()),
    *sorted((ROOT / "jobs" / "deployment").glob("*.*")),
]

SECRETS = [
    r"AKIA[0-9A-Z]{16}",
    r"aws_(secret_access_key|access_key_id|session_token)\s*[=:]",
    r"RAY_AUTH_TOKEN\b\s*[=:]",
    r"-----BEGIN",
    r"(password|passwd|secret_key|api_key)\s*[=:]\s*\S",
    r"://[^/\s:@]+:[^/\s@]+@",
    r"kind: Secret",
    r"stringData",
    r"\b[0-9a-f]{40,}\b",
    r"\beyJ[A-Za-z0-9_-]{10,}",
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_there_is_none(file: Path) -> None:
    for pattern in SECRETS:
        assert not re.search(pattern, file.read_text(), re.IGNORECASE), pattern


@pytest.mark.parametrize(
    "canary",
    [
        "  value: AKIAABCDEFGHIJKLMNOP",
        "AWS_SECRET_ACCESS_KEY=x",
        "RAY_AUTH_TOKEN: x",
        "password: hunter2",
        "s3://key:word@archive",
        "kind: Secret",
        "token: " + "0123456789abcdef" * 4,
    ],
)
def test_one_would_be_noticed(canary: str) -> None:
    assert any(re.search(pattern, canary, re.IGNORECASE) for pattern in SECRETS)
