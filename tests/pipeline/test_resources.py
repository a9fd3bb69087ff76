"""What "auto" becomes on the machines at hand."""

import pytest

from pipeline.config import ConfigError, Resources
from pipeline.resources import Node, shards_at_once, sizes

LAPTOP = [Node(cpus=2, gpus=0)]
GPU_CLUSTER = [Node(cpus=16, gpus=4), Node(cpus=16, gpus=4), Node(cpus=4, gpus=0)]


def test_a_laptop_gets_one_worker_per_stage_with_all_threads_and_room_for_reading_and_committing():
    resources = Resources()
    found = sizes(resources, LAPTOP)
    pools = [found.detect, found.restore, found.enhance]
    assert found.device == "cpu"
    assert [(pool.workers, pool.threads, pool.gpus) for pool in pools] == [(1, 2, 0.0)] * 3
    assert sum(pool.cpus for pool in pools) + resources.read_cpus + resources.commit_cpus <= 2


def test_gpus_get_one_worker_of_each_stage_and_are_shared_by_them():
    found = sizes(Resources(), GPU_CLUSTER)
    pools = [found.detect, found.restore, found.enhance]
    assert found.device == "cuda"
    assert [pool.workers for pool in pools] == [8, 8, 8]
    assert sum(pool.gpus for pool in pools) == pytest.approx(1.0)


def test_nodes_without_gpus_get_one_worker_each():
    found = sizes(Resources(), [Node(8, 0), Node(8, 0), Node(8, 0)])
    assert (found.restore.workers, found.restore.threads) == (3, 8)


@pytest.mark.parametrize(("set_", "workers", "shards"), [("auto", 4, 250), ("auto", 1000, 5000), (30, 1000, 30)])
def test_an_execution_of_the_graph_gets_more_shards_on_wider_clusters(set_, workers, shards):
    assert shards_at_once(Resources.model_validate({"shards_at_once": set_}), workers) == shards


def test_what_is_set_is_kept():
    resources = Resources.model_validate({"device": "cpu", "restore": {"workers": 3, "threads": 5}})
    found = sizes(resources, GPU_CLUSTER)
    assert (found.device, found.restore.workers, found.restore.threads, found.restore.gpus) == ("cpu", 3, 5, 0.0)


def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(ConfigError, match="Ray sees no GPU"):
        sizes(Resources(device="cuda"), LAPTOP)


def test_however_many_workers_there_is_room_to_read_and_commit():
    resources = Resources.model_validate({"restore": {"workers": 9, "cpus": 1}, "enhance": {"workers": 5}})
    found = sizes(resources, LAPTOP)
    reserved = sum(pool.workers * pool.cpus for pool in (found.detect, found.restore, found.enhance))
    assert 1.0 < reserved <= 2 - resources.read_cpus - resources.commit_cpus
    assert found.restore.workers == 9
