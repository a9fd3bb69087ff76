"""The cluster of a simulation, as the user describes it: nodes=8,gpus=1,cpus=16,gpu-price=2.5."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from pipeline.config import ConfigError, Section
from pipeline.resources import Node

MOST_NODES = 100_000


class Cluster(Section):
    """Machines, what they cost, and what else a simulation must be told. What is not said here is measured."""

    nodes: PositiveInt = Field(le=MOST_NODES, description="machines that detect, restore and enhance")
    cpus: PositiveInt = Field(description="CPUs of each")
    gpus: NonNegativeInt = Field(default=0, description="GPUs of each")
    cpu_nodes: NonNegativeInt = Field(default=0, le=MOST_NODES, description="machines without a GPU besides")
    cpu_node_cpus: PositiveInt | None = Field(default=None, description="CPUs of each of those; as cpus if not given")
    gpu_price: float | None = Field(default=None, ge=0, description="of a GPU per hour, in your currency")
    cpu_price: float | None = Field(default=None, ge=0, description="of a CPU per hour")
    detect_speed: float = Field(default=1.0, gt=0, description="times as fast as a worker was where it was measured")
    restore_speed: float = Field(default=1.0, gt=0, description="likewise")
    enhance_speed: float = Field(default=1.0, gt=0, description="likewise")
    unit_photos: PositiveInt | None = Field(default=None, description="photos of a unit; as measured if not given")
    shard_photos: PositiveInt | None = Field(default=None, description="photos of a shard; as measured if not given")
    start: float = Field(default=0.0, ge=0, description="seconds until the machines are there, which are paid for")
    load: float = Field(
        default=30.0, ge=0, description="seconds until workers have their models, at every execution of the graph"
    )
    losses: float = Field(default=0.0, ge=0, le=60, description="times an hour that a machine is taken away (spot)")
    back: float = Field(default=300.0, ge=0, description="seconds until another stands in for it")
    seed: NonNegativeInt = Field(default=0, description="of what is drawn")

    @model_validator(mode="after")
    def _says_of_what(self) -> Cluster:
        if self.cpu_node_cpus is not None and not self.cpu_nodes:
            raise ValueError("cpu-node-cpus needs cpu-nodes")
        return self

    @classmethod
    def parse(cls, text: str) -> Cluster:
        """ "nodes=8,gpus=1,cpus=16". Raises ConfigError, one line."""
        given: dict[str, str] = {}
        for part in text.split(","):
            name, separator, value = part.partition("=")
            if not separator:
                raise ConfigError(f"--simulate {text}: write it as nodes=8,cpus=16,gpus=1")
            given[name.strip().replace("-", "_")] = value.strip()
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigError(f"--simulate {text}: " + "; ".join(map(_explain, error.errors()))) from None

    def machines(self) -> list[Node]:
        """As Ray would find them."""
        others = Node(self.cpu_node_cpus or self.cpus, 0)
        return [Node(self.cpus, self.gpus)] * self.nodes + [others] * self.cpu_nodes

    def speed(self, pool: str) -> float:
        """Of the workers of a pool of `resources`."""
        return float(getattr(self, f"{pool}_speed"))

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU{'s'[: self.gpus - 1]}" if self.gpus else ""
        told = f"{self.nodes} x ({self.cpus} CPUs{gpus})"
        return told + (f" + {self.cpu_nodes} x ({self.cpu_node_cpus or self.cpus} CPUs)" if self.cpu_nodes else "")


def _explain(problem: object) -> str:
    assert isinstance(problem, dict)
    name = ".".join(map(str, problem["loc"])).replace("_", "-")
    if problem["type"] == "extra_forbidden":
        known = ", ".join(field.replace("_", "-") for field in Cluster.model_fields)
        return f"there is no {name}; there are {known}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
