"""Schemas that refuse what Kubernetes would silently drop: misspelt keys."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

Tree = dict[str, Any]
_SHARED = Path(__file__).parents[2] / "shared" / "kuberay"


@cache
def strict(kind: str) -> Tree:
    """The schema of a RayJob or RayCronJob by KubeRay, made strict. Skips the test where there is none."""
    file = _SHARED / f"{kind}.schema.json"
    if not file.is_file():
        pytest.skip("the schemas of KubeRay are not on this machine")
    schema = _closed(json.loads(file.read_text()))
    # A custom resource's metadata and the status have no properties in the schema, so anything would pass.
    schema["properties"]["metadata"] = METADATA
    del schema["properties"]["status"]
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def pod_template() -> Tree:
    """The strict schema of a pod template, as it is inside RayJob's."""
    template: Tree = strict("RayJob")["properties"]["spec"]["properties"]["submitterPodTemplate"]
    return template


def _closed(schema: Any) -> Any:
    """OpenAPI as Kubernetes has it, made JSON schema that allows no key it does not name."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.pop("x-kubernetes-int-or-string", False) is True:
        closed["type"] = ["integer", "string"]
        closed.pop("anyOf", None)
    properties = closed.get("properties")
    if isinstance(properties, dict) and "type" in closed and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def _object(required: str = "", **properties: Any) -> Tree:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split() or list(properties),
        "additionalProperties": False,
    }


def _kind(api: str, kind: str, **properties: Any) -> Tree:
    return _object(apiVersion={"const": api}, kind={"const": kind}, metadata=METADATA, **properties)


_LABEL = {"type": "object", "additionalProperties": {"type": "string", "pattern": "^([-A-Za-z0-9_.]{1,63})?$"}}
_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,45}[a-z0-9])?$"}
_COUNT = {"type": "integer", "minimum": 0}

METADATA = _object("name", name=_NAME, namespace=_NAME, labels=_LABEL)

_VERBS = {"enum": ["get", "list", "watch", "create", "update", "patch", "delete"]}
_RULE = _object(
    "apiGroups resources verbs",
    apiGroups=_TEXTS,
    resources=_TEXTS,
    resourceNames=_TEXTS,
    verbs={"type": "array", "items": _VERBS, "minItems": 1},
)

_CRON_JOB = _object(
    schedule={"type": "string", "pattern": r"^(\S+ ){4}\S+$"},
    timeZone={"type": "string"},
    concurrencyPolicy={"enum": ["Allow", "Forbid", "Replace"]},
    startingDeadlineSeconds=_COUNT,
    successfulJobsHistoryLimit=_COUNT,
    failedJobsHistoryLimit=_COUNT,
    # The pod is held against KubeRay's schema of one, where that is.
    jobTemplate=_object(spec=_object(backoffLimit=_COUNT, activeDeadlineSeconds=_COUNT, template={"type": "object"})),
)

_BUDGET = _object(minAvailable=_COUNT, selector=_object(matchLabels=_LABEL))
_RBAC = "rbac.authorization.k8s.io"

# What we use of Kubernetes' own kinds, written down by hand.
PLAIN = {
    "Namespace": _kind("v1", "Namespace"),
    "ServiceAccount": _kind("v1", "ServiceAccount", automountServiceAccountToken={"type": "boolean"}),
    "ConfigMap": _kind("v1", "ConfigMap", data={"type": "object", "additionalProperties": {"type": "string"}}),
    "PodDisruptionBudget": _kind("policy/v1", "PodDisruptionBudget", spec=_BUDGET),
    "Role": _kind(f"{_RBAC}/v1", "Role", rules={"type": "array", "items": _RULE, "minItems": 1}),
    "RoleBinding": _kind(
        f"{_RBAC}/v1",
        "RoleBinding",
        roleRef=_object(apiGroup={"const": _RBAC}, kind={"const": "Role"}, name=_NAME),
        subjects={
            "type": "array",
            "items": _object(kind={"const": "ServiceAccount"}, name=_NAME, namespace=_NAME),
        },
    ),
    "CronJob": _kind("batch/v1", "CronJob", spec=_CRON_JOB),
}


def with_misspelt_key(tree: Any, path: tuple[Any, ...]) -> Any:
    """A copy of ``tree`` whose key at ``path`` has one letter more."""
    changed = copy.deepcopy(tree)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    return changed


def keys(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all keys of ``tree``."""
    found = []
    for step, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        found += [(*path, step)] if isinstance(tree, dict) else []
        found += keys(value, (*path, step))
    return found
