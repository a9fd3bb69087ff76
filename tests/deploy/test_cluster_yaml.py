"""cluster.yaml is a valid input of Ray's cluster launcher and agrees with the pinned Ray and the shape of a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.deployment.shape import RAY, RAY_IMAGE, Machine, Shape

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_the_launcher_accepts_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = {name: kind["min_workers"] for name, kind in prepared["available_node_types"].items()}
    assert workers.pop(prepared["head_node_type"]) == 0
    assert min(workers.values()) > 0  # a run is as wide as the cluster is when it starts
    assert sum(workers.values()) == prepared["max_workers"]


def test_a_misspelt_knob_is_refused(config: dict[str, Any]) -> None:
    config["available_node_types"]["gpu-spot"]["max_worker"] = 8
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(config))


def test_the_image_carries_the_pinned_ray(config: dict[str, Any]) -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert config["docker"]["image"].startswith(f"rayproject/ray:{pins['ray']}-py311")


# CPUs and memory, GiB, of a whole machine of AWS; a pod gets a little less.
INSTANCES = {"m7i.2xlarge": (8, 32), "m7i.4xlarge": (16, 64), "g6.2xlarge": (8, 32)}


def test_it_is_the_cluster_that_kubernetes_gets(config: dict[str, Any]) -> None:
    shape = Shape()
    assert config["docker"]["image"] == RAY_IMAGE
    assert RAY_IMAGE.startswith(f"rayproject/ray:{RAY}-")
    assert list(config["available_node_types"]) == ["head", "cpu", "gpu-spot"]
    groups: dict[str, Machine] = {"head": shape.head, "cpu": shape.cpu, "gpu-spot": shape.gpu}
    for name, kind in config["available_node_types"].items():
        assert kind["min_workers"] == kind["max_workers"] == getattr(groups[name], "count", 0)
        cpus, memory_gib = INSTANCES[kind["node_config"]["InstanceType"]]
        assert cpus - 1 <= groups[name].cpus < cpus
        assert 0.8 * memory_gib < groups[name].memory_gib < memory_gib


def test_no_secret_is_written_down(config: dict[str, Any]) -> None:
    text = (ROOT / "cluster.yaml").read_text().lower()
    for word in ("aws_secret", "aws_access_key", "akia", "password"):
        assert word not in text
    assert "RAY_AUTH_MODE=token" in " ".join(config["docker"]["run_options"])
