"""The manifests in deploy/kuberay: valid, made from the shape, and what they promise."""

import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes import PLAIN, keys, pod_template, strict, with_misspelt_key

from jobs.deployment.kuberay import entrypoint, manifests
from jobs.deployment.shape import Shape
from jobs.restore import command as restore

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kuberay"

# Labels, selectors, parameters of Ray and data have keys of people's choice: no schema can know them.
FREE = {"labels", "annotations", "matchLabels", "nodeSelector", "rayStartParams", "data", "requests", "limits"}


@cache
def objects() -> tuple[dict[str, Any], ...]:
    """All objects of all files; not to be changed."""
    return tuple(tree for file in sorted(FOLDER.glob("*.yaml")) for tree in yaml.safe_load_all(file.read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (tree for tree in objects() if tree["kind"] == kind and "-submit" not in tree["metadata"]["name"])
    return found


@cache
def job_specs() -> dict[str, dict[str, Any]]:
    """The three ways to the same run."""
    in_config_map = yaml.safe_load(of_kind("ConfigMap")["data"]["rayjob.yaml"])
    return {
        "RayJob": of_kind("RayJob")["spec"],
        "RayCronJob": of_kind("RayCronJob")["spec"]["jobTemplate"],
        "CronJob": in_config_map["spec"],
    }


def ray_pods() -> dict[str, dict[str, Any]]:
    spec = job_specs()["RayJob"]["rayClusterSpec"]
    groups = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"], **groups}


def check(tree: dict[str, Any]) -> None:
    """Raises ValidationError for what Kubernetes would refuse or drop."""
    jsonschema.Draft202012Validator(PLAIN.get(tree["kind"]) or strict(tree["kind"])).validate(tree)


def test_the_files_are_what_the_shape_makes() -> None:
    made = manifests(Shape())
    assert made == {file.name: file.read_text() for file in FOLDER.iterdir()}


@pytest.mark.parametrize("tree", objects(), ids=lambda tree: f"{tree['kind']} {tree['metadata']['name']}")
def test_it_is_valid(tree: dict[str, Any]) -> None:
    check(tree)


def test_what_the_cron_job_creates_and_runs_is_valid() -> None:
    check(yaml.safe_load(of_kind("ConfigMap")["data"]["rayjob.yaml"]))
    template = of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    jsonschema.Draft202012Validator(pod_template()).validate(template)


@pytest.mark.parametrize("tree", objects(), ids=lambda tree: f"{tree['kind']} {tree['metadata']['name']}")
def test_a_misspelt_key_is_noticed_wherever_it_is(tree: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(PLAIN.get(tree["kind"]) or strict(tree["kind"]))
    in_pod = ("spec", "jobTemplate", "spec", "template") if tree["kind"] == "CronJob" else None
    tried = 0
    for path in keys(tree):
        if FREE & set(path[:-1]) or (in_pod and path[:4] == in_pod and len(path) > 4) or path == ("kind",):
            continue
        assert not validator.is_valid(with_misspelt_key(tree, path)), path
        tried += 1
    assert tried >= 4


def test_a_misspelt_key_of_the_cron_jobs_pod_is_noticed() -> None:
    template = of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    validator = jsonschema.Draft202012Validator(pod_template())
    for path in keys(template):
        if not FREE & set(path[:-1]):
            assert not validator.is_valid(with_misspelt_key(template, path)), path


def test_prometheus_is_led_to_the_port_of_rays_exporter() -> None:
    spec = job_specs()["RayJob"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        annotations = group["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] == group["rayStartParams"]["metrics-export-port"]
    assert "cluster-autoscaler.kubernetes.io/safe-to-evict" in ray_pods()["head"]["metadata"]["annotations"]


def test_all_ways_start_the_same_run() -> None:
    specs = job_specs()
    assert specs["RayJob"] == specs["RayCronJob"] == specs["CronJob"]


def test_the_cluster_goes_when_the_run_is_over_and_every_wait_ends() -> None:
    spec = job_specs()["RayJob"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] > 0
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"] < 24 * 3600  # a run every night


def test_ray_asks_for_a_token_and_nobody_wrote_one_down() -> None:
    cluster = job_specs()["RayJob"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    for template in ray_pods().values():  # the operator leaves a variable alone that is there
        assert not any(one["name"].startswith("RAY_AUTH") for one in template["spec"]["containers"][0]["env"])


def test_the_head_works_on_no_photograph() -> None:
    head = job_specs()["RayJob"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    budget = of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    assert budget.items() <= head["template"]["metadata"]["labels"].items()
    assert not budget.items() <= ray_pods()["cpu"]["metadata"]["labels"].items()


def test_gpu_workers_are_spot_machines_with_a_gpu() -> None:
    spec = ray_pods()["gpu-spot"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["nodeSelector"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in spec["tolerations"]
    assert "nvidia.com/gpu" not in ray_pods()["cpu"]["spec"]["containers"][0]["resources"]["limits"]


def all_pods() -> dict[str, dict[str, Any]]:
    return {
        **ray_pods(),
        "submitter": job_specs()["RayJob"]["submitterPodTemplate"],
        "schedule": of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"],
    }


@pytest.mark.parametrize("name", all_pods())
def test_pods_have_no_more_rights_than_they_need(name: str) -> None:
    spec = all_pods()[name]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    # What the namespace's level 'restricted' asks for, and a little more.
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is (name == "schedule")
    assert ("envFrom" in container) is (name in ray_pods())  # storage's credentials


def test_the_schedule_may_touch_its_own_ray_job_alone() -> None:
    role, binding = (next(tree for tree in objects() if tree["kind"] == kind) for kind in ("Role", "RoleBinding"))
    job = yaml.safe_load(of_kind("ConfigMap")["data"]["rayjob.yaml"])["metadata"]["name"]
    rights = [(rule["verbs"], rule.get("resourceNames")) for rule in role["rules"]]
    assert rights == [(["create"], None), (["get", "delete"], [job])]
    assert all((rule["apiGroups"], rule["resources"]) == (["ray.io"], ["rayjobs"]) for rule in role["rules"])
    pod = of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert binding["subjects"][0]["name"] == pod["serviceAccountName"] != of_kind("ServiceAccount")["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert of_kind("CronJob")["spec"]["concurrencyPolicy"] == "Forbid"


def test_names_fit() -> None:
    # KubeRay's limits: it puts a suffix of its own behind both, and a time behind the latter's children.
    assert len(of_kind("RayJob")["metadata"]["name"]) <= 47
    cron = yaml.safe_load(manifests(Shape(name="r" * 28))["raycronjob.yaml"])
    assert len(cron["metadata"]["name"]) <= 36


def script_of(text: str) -> str:
    """The line that the driver's shell gets, through all that is between: KubeRay's shell, and 'ray job submit'."""
    shell = ["bash", "-c", f"printf '%s\\0' {text}"]
    words = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    return shlex.join(words)


def test_the_entrypoint_is_a_command_line_of_dr2e() -> None:
    bash, dash_c, script = shlex.split(script_of(job_specs()["RayJob"]["entrypoint"]))
    line, rest = script.split(" || ")
    words = shlex.split(line)
    assert (bash, dash_c, rest, words[:2]) == ("bash", "-c", "test $? -eq 3", ["dr2e", "restore"])
    context = restore.make_context("restore", words[2:])  # refuses what it does not know
    assert context.params["inputs"] == (Shape().input,)
    assert context.params["output"] == Shape().output
    assert context.params["address"] == "auto"


@pytest.mark.parametrize(("code", "passed_on"), [(0, 0), (3, 0), (1, 1), (2, 1), (143, 1)])
def test_quarantined_photographs_do_not_fail_the_job(code: int, passed_on: int, tmp_path: Path) -> None:
    shape = Shape(input="s3://archive/{000..041}.tar", settings=("restore.n=4", "restore.tau=280"))
    (tmp_path / "dr2e").write_text(f'#!/bin/sh\nprintf "%s|" "$@"\nexit {code}\n')
    (tmp_path / "dr2e").chmod(0o755)
    ended = subprocess.run(
        ["sh", "-c", script_of(entrypoint(shape))],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == passed_on
    said = ended.stdout.split("|")[:-1]
    assert said[1:3] == ["--input", "s3://archive/{000..041}.tar"]
    assert said[-4:] == ["--set", "restore.n=4", "--set", "restore.tau=280"]
