"""The Kubernetes objects of a deployment, for the KubeRay operator, and the files they are written to."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from jobs.deployment import pods
from jobs.deployment.pods import Tree
from jobs.deployment.shape import RAY, Shape, Workers

BANNER = "Written by 'dr2e deploy kuberay'; change the shape and write it again rather than this file."

# What people have to know who read a file alone.
_NOTES = {
    "common.yaml": """
        What every other file needs: the namespace, the identity of Ray's pods, and the protection of Ray's head.
        'minAvailable: 1' keeps 'kubectl drain' and upgrades off the head while a run works; delete the RayJob to let
        a node go. It does not protect from a machine that fails, and of two runs at once only from losing both heads.
        The Secret of the storage's credentials is not here: docs/cluster.md says how to make it.
    """,
    "rayjob.yaml": """
        One run: a cluster comes, restores what is left to do, and goes. To resume, delete it and create it again.
        Exit code 3 (complete, with photographs in quarantine) counts as success; another cluster would not help them.
    """,
    "raycronjob.yaml": """
        A run every night, by KubeRay itself. RayCronJob is alpha: it needs KubeRay 1.7 or newer with the feature gate
        RayCronJob. It has no concurrency policy, so a run that takes longer than a night meets the next one. That is
        harmless: two runs that restore the same unit find one commit record, and the later one removes its own objects
        (docs/guarantees.md). It costs what both compute.
        Finished RayJobs stay until they are deleted. cronjob.yaml has neither weakness; use one of the two.
    """,
    "cronjob.yaml": """
        A run every night, by Kubernetes' own CronJob: it creates the RayJob unless last night's still works, and
        deletes it before if it has finished. 'Forbid' holds for the pod that does so, which takes seconds; that there
        is one run at a time comes from the RayJob's name, which is always the same.
    """,
}


_METRICS = {"metrics-export-port": str(pods.METRICS_PORT)}


def manifests(shape: Shape) -> dict[str, str]:
    """The text of every file by its name."""
    nightly = f"{shape.name}-nightly"
    objects = {
        "common.yaml": [_namespace(shape), _service_account(shape, shape.service_account), _budget(shape)],
        "rayjob.yaml": [_ray_job(shape, shape.name)],
        "raycronjob.yaml": [_ray_cron_job(shape, nightly)],
        "cronjob.yaml": _cron_job(shape, nightly),
    }
    return {name: _text(trees, name) for name, trees in objects.items()}


def entrypoint(shape: Shape) -> str:
    """The command line of the driver, as text for a shell.

    The quotes matter: it goes through the submitter's shell, and 'ray job submit' quotes every word again. A job
    whose command fails would be tried again on a new cluster, so exit code 3 is turned into success.
    """
    words = ["dr2e", "restore", "--input", f'"{shape.input}"', "--output", f'"{shape.output}"', "--address", "auto"]
    words += [word for setting in shape.settings for word in ("--set", f'"{setting}"')]
    return f"bash -c '{' '.join(words)} || test $? -eq 3'"


def _ray_job(shape: Shape, name: str) -> Tree:
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": _named(shape, name), "spec": _job_spec(shape)}


def _ray_cron_job(shape: Shape, name: str) -> Tree:
    schedule = {"schedule": shape.schedule.cron, "timeZone": shape.schedule.time_zone}
    spec = {**schedule, "jobTemplate": _job_spec(shape)}
    return {"apiVersion": "ray.io/v1", "kind": "RayCronJob", "metadata": _named(shape, name), "spec": spec}


def _job_spec(shape: Shape) -> Tree:
    return {
        "entrypoint": entrypoint(shape),
        "submissionMode": "K8sJobMode",  # its pod keeps the driver's log when the cluster is gone
        "backoffLimit": shape.retries,
        "preRunningDeadlineSeconds": shape.start_seconds,
        "activeDeadlineSeconds": shape.deadline_seconds,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": shape.keep_seconds,
        "submitterPodTemplate": pods.submitter(shape),
        "rayClusterSpec": {
            "rayVersion": RAY,
            "authOptions": {"mode": "token"},  # the operator draws a token per cluster and keeps it in a Secret
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0", **_METRICS},  # the driver alone: no photograph is worked on here
                "template": pods.head(shape),
            },
            "workerGroupSpecs": [_group(shape, "cpu", shape.cpu), _group(shape, "gpu-spot", shape.gpu)],
        },
    }


def _group(shape: Shape, name: str, group: Workers) -> Tree:
    return {
        "groupName": name,
        "replicas": group.count,
        "minReplicas": group.count,
        "maxReplicas": group.count,
        "rayStartParams": dict(_METRICS),
        "template": pods.worker(shape, group),
    }


def _cron_job(shape: Shape, name: str) -> list[Tree]:
    account = f"{shape.name}-submit"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _named(shape, name),
        "data": {
            "submit.sh": files("jobs.deployment").joinpath("submit.sh").read_text(encoding="utf-8"),
            "rayjob.yaml": _yaml(_ray_job(shape, name)),
        },
    }
    command = ["sh", "/dr2e/submit.sh", name, "/dr2e/rayjob.yaml"]
    job = {
        "backoffLimit": 3,
        "activeDeadlineSeconds": 600,
        "template": pods.kubectl(shape, account, name, command),
    }
    cron_job = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _named(shape, name),
        "spec": {
            "schedule": shape.schedule.cron,
            "timeZone": shape.schedule.time_zone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": job},
        },
    }
    return [_service_account(shape, account), *_rights(shape, account, name), config_map, cron_job]


def _rights(shape: Shape, account: str, job: str) -> list[Tree]:
    """To create RayJobs (which cannot be limited to a name), and to see and delete this one."""
    rayjobs = {"apiGroups": ["ray.io"], "resources": ["rayjobs"]}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _named(shape, account),
        "rules": [
            {**rayjobs, "verbs": ["create"]},
            {**rayjobs, "resourceNames": [job], "verbs": ["get", "delete"]},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _named(shape, account),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": shape.namespace}],
    }
    return [role, binding]


def _namespace(shape: Shape) -> Tree:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shape.namespace, "labels": enforced}}


def _service_account(shape: Shape, name: str) -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _named(shape, name),
        "automountServiceAccountToken": False,
    }


def _budget(shape: Shape) -> Tree:
    # A number of pods and no share: Kubernetes can count the pods that a RayCluster wants in no other way.
    spec = {"minAvailable": 1, "selector": {"matchLabels": pods.labels(shape, "head")}}
    metadata = _named(shape, f"{shape.name}-head")
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


def _named(shape: Shape, name: str) -> Tree:
    return {"name": name, "namespace": shape.namespace, "labels": {"dr2e/deployment": shape.name}}


def _text(trees: list[Tree], name: str) -> str:
    notes = [line.strip() for line in _NOTES[name].strip().splitlines()]
    comment = "".join(f"# {line}\n" for line in [BANNER, "", *notes]).replace("# \n", "#\n")
    return comment + "---\n".join(["", *map(_yaml, trees)])


class _Dumper(yaml.SafeDumper):
    """YAML for people: no anchors, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def _yaml(tree: Tree) -> str:
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=1000)
