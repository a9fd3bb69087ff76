"""The pods of a deployment: Ray's head and workers, and the one that hands the job in."""

from __future__ import annotations

from typing import Any

from jobs.deployment.shape import Machine, Shape, Workers

# 'ray' in Ray's images, by number: Kubernetes cannot tell from a name that it is not root.
USER, GROUP = 1000, 100

# A pod that has to go is given so long. Workers have nothing to save: what they have not committed is done again, and
# clouds take a spot machine 30 to 120 s after they said so. The driver on the head says goodbye to Ray.
WORKER_GRACE, HEAD_GRACE = 30, 60

# What libraries keep below the home folder, which the image has Python in and which is read-only.
_CACHES = {"XDG_CACHE_HOME": "/tmp/cache", "XDG_CONFIG_HOME": "/tmp/config", "TRITON_HOME": "/tmp"}

# Of Ray's exporter on each pod; KubeRay's own choice, and it calls the container's port "metrics".
METRICS_PORT = 8080

Tree = dict[str, Any]


def head(shape: Shape) -> Tree:
    """The pod template of Ray's head, with the driver, under the label that the disruption budget asks for."""
    template = _ray_pod(shape, "ray-head", shape.head, HEAD_GRACE)
    # Losing the head ends the run, so a node is not emptied to save money while the head is on it.
    template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] = "false"
    return template


def worker(shape: Shape, group: Workers) -> Tree:
    """The pod template of a group's machines."""
    template = _ray_pod(shape, "ray-worker", group, WORKER_GRACE, group.gpus)
    if group.node_selector:
        template["spec"]["nodeSelector"] = dict(group.node_selector)
    if group.tolerations:
        template["spec"]["tolerations"] = [{"key": key, "operator": "Exists"} for key in group.tolerations]
    return template


def submitter(shape: Shape) -> Tree:
    """The pod template that runs 'ray job submit' and then follows the log; KubeRay gives its command."""
    machine = Machine(cpus=1, memory_gib=1, disk_gib=1)
    container = _container("ray-job-submitter", shape.image, machine, shape.read_only_root)
    return {
        "metadata": {"labels": labels(shape, "submitter")},
        "spec": _pod(shape, container, 1) | {"restartPolicy": "Never"},
    }


def kubectl(shape: Shape, account: str, config_map: str, command: list[str]) -> Tree:
    """The pod template that runs ``command`` with the rights of ``account``; ``config_map`` is in /dr2e."""
    container = _container("submit", shape.kubectl_image, None, read_only=True)
    container["resources"] = _exactly({"cpu": "100m", "memory": "128Mi"})
    container["command"] = command
    container["env"] = [{"name": "HOME", "value": "/tmp"}]  # kubectl remembers there what the server can do
    container["volumeMounts"].append({"name": "manifests", "mountPath": "/dr2e", "readOnly": True})
    spec = _pod(shape, container, 1)
    spec |= {"serviceAccountName": account, "automountServiceAccountToken": True, "restartPolicy": "Never"}
    spec["volumes"].append({"name": "manifests", "configMap": {"name": config_map}})
    return {"metadata": {"labels": labels(shape, "schedule")}, "spec": spec}


def labels(shape: Shape, component: str) -> dict[str, str]:
    """What is put on objects of a deployment. KubeRay has labels of its own under app.kubernetes.io."""
    return {"dr2e/deployment": shape.name, "dr2e/component": component}


def _ray_pod(shape: Shape, name: str, machine: Machine, grace: int, gpus: int = 0) -> Tree:
    container = _container(name, shape.image, machine, shape.read_only_root)
    if gpus:
        for amounts in container["resources"].values():
            amounts["nvidia.com/gpu"] = str(gpus)
    container["env"] = [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}]
    container["env"] += [{"name": key, "value": value} for key, value in _CACHES.items()]
    if shape.storage_secret:
        container["envFrom"] = [{"secretRef": {"name": shape.storage_secret}}]
    spec = _pod(shape, container, machine.disk_gib) | {"terminationGracePeriodSeconds": grace}
    # What a Prometheus that looks at annotations goes by; one of the Prometheus operator goes by the labels.
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)}
    return {"metadata": {"labels": labels(shape, name.removeprefix("ray-")), "annotations": scraped}, "spec": spec}


def _pod(shape: Shape, container: Tree, disk_gib: int) -> Tree:
    return {
        "serviceAccountName": shape.service_account,
        "automountServiceAccountToken": False,  # no pod of Ray talks to Kubernetes
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": GROUP,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": f"{disk_gib}Gi"}}],
    }


def _container(name: str, image: str, machine: Machine | None, read_only: bool) -> Tree:
    container: Tree = {"name": name, "image": image}
    if machine:
        container["resources"] = _exactly(
            {
                "cpu": str(machine.cpus),
                "memory": f"{machine.memory_gib}Gi",
                "ephemeral-storage": f"{machine.disk_gib}Gi",
            }
        )
    # On the container, for KubeRay copies it to the container that waits for the head.
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": read_only,
        "capabilities": {"drop": ["ALL"]},
    }
    container["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    return container


def _exactly(amounts: dict[str, str]) -> Tree:
    return {"requests": dict(amounts), "limits": dict(amounts)}
