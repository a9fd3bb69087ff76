"""The shape of a cluster and of what runs on it, once: Kubernetes manifests are made from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from pipeline.config import ConfigError, settings
from pipeline.secrecy import complaint

RAY = "2.60.0"  # of constraints.txt: nodes and driver must agree
RAY_IMAGE = f"rayproject/ray:{RAY}-py311-gpu"  # what deploy/Dockerfile builds on and cluster.yaml runs

# Names of Kubernetes objects. KubeRay allows a RayCronJob 36 letters, and "-nightly" is put behind ours.
NAME = r"^[a-z]([-a-z0-9]{0,26}[a-z0-9])?$"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(Part):
    """What a pod gets, whole and for itself: requests are limits. Leave a node's daemons 1 CPU and some GiB."""

    cpus: PositiveInt = Field(description="CPUs")
    memory_gib: PositiveInt = Field(description="memory, GiB; up to a third becomes Ray's object store")
    disk_gib: PositiveInt = Field(default=100, description="/tmp, GiB: fetched shards, spilled objects, Ray's logs")


class Workers(Machine):
    """A group of equal machines.

    There is one number of them, not two: Ray would add machines while those it has are busy, which is always, and they
    would wait until a run takes them in, after `resources.shards_at_once` shards.
    """

    count: PositiveInt = Field(description="machines of the group")
    gpus: int = Field(default=0, ge=0, description="GPUs of each")
    node_selector: dict[str, str] = Field(default_factory=dict, description="labels that its nodes have")
    tolerations: tuple[str, ...] = Field(default=(), description="keys of taints that its nodes may have")


class Schedule(Part):
    """When runs start by themselves."""

    cron: str = Field(default="15 1 * * *", pattern=r"^(\S+ ){4}\S+$", description="minute hour day month weekday")
    time_zone: str = Field(default="Etc/UTC", min_length=1, description="name in the IANA database")


class Shape(Part):
    """A deployment: which image on which machines does what, and when."""

    name: str = Field(default="dr2e-restore", pattern=NAME, description="of its objects")
    namespace: str = Field(default="dr2e", pattern=NAME)
    image: str = Field(default="registry.example.org/dr2e:0.1.0", description="built from deploy/Dockerfile, by tag")

    input: str = Field(default="s3://archive/shards", description="URL of the shards")
    output: str = Field(default="s3://archive/restored", description="URL of the run")
    settings: tuple[str, ...] = Field(default=(), description="for --set of 'dr2e restore': section.name=value")

    head: Machine = Machine(cpus=7, memory_gib=26)
    cpu: Workers = Workers(count=2, cpus=15, memory_gib=56)
    gpu: Workers = Workers(
        count=4,
        cpus=7,
        memory_gib=26,
        gpus=1,
        node_selector={"eks.amazonaws.com/capacityType": "SPOT"},
        tolerations=("nvidia.com/gpu", "spot"),
    )

    storage_secret: str | None = Field(
        default="dr2e-storage", description="Secret whose keys become environment variables; null: there is none"
    )
    service_account: str = Field(default="dr2e", pattern=NAME, description="of all Ray pods; its cloud identity")
    read_only_root: bool = Field(default=True, description="pods write to /tmp and /dev/shm alone")

    retries: int = Field(default=2, ge=0, description="new clusters after the first, each of which resumes")
    start_seconds: PositiveInt = Field(default=3600, description="a cluster gets until its last machine is there")
    deadline_seconds: PositiveInt = Field(default=82_800, description="of a cluster, ended for good after it")
    keep_seconds: int = Field(default=600, ge=0, description="the cluster stays after its run, for who wants to look")
    schedule: Schedule = Schedule()
    kubectl_image: str = Field(default="alpine/k8s:1.34.1", description="has sh and kubectl; for the CronJob")

    @field_validator("input", "output")
    @classmethod
    def _urls_are_plain(cls, value: str) -> str:
        if refused := complaint(value):
            raise ValueError(refused)
        return value

    @field_validator("input", "output", "settings")
    @classmethod
    def _is_no_shell(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        # They travel through three shells on their way to the driver.
        for text in (value,) if isinstance(value, str) else value:
            if not text or set(text) & set("'\"`$\\!&|;<>\n"):
                raise ValueError("it must not be empty nor hold what means something to a shell")
        return value

    @field_validator("image", "kubectl_image")
    @classmethod
    def _image_is_pinned(cls, value: str) -> str:
        tag = value.rpartition("/")[2].partition(":")[2]
        if not tag or tag == "latest":
            raise ValueError("an image needs a tag, and not latest: all nodes must run the same")
        return value


def read(file: Path | None = None, assignments: Iterable[str] = ()) -> Shape:
    """The shape in ``file`` (without one, the defaults), changed by assignments such as ``gpu.count=8``.

    Raises ConfigError, one line.
    """
    data = settings(file, assignments)
    try:
        return Shape.model_validate(_completed(data))
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError("; ".join(problems)) from None


def _completed(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` with the default machines' numbers where a group names only some of its own."""
    defaults = Shape().model_dump(include={"head", "cpu", "gpu", "schedule"})
    partly = {name: {**group, **data[name]} for name, group in defaults.items() if isinstance(data.get(name), dict)}
    return {**data, **partly}
