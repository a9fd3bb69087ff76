"""Photos that kill their worker, and workers that are killed."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from jobs.api import restore
from pipeline.config import build, load
from pipeline.driver import prepare
from pipeline.events.kinds import PhotoLostWorker, UnitCommitted
from pipeline.events.telling import Told, listening
from pipeline.isolate import isolate
from pipeline.output import Output
from pipeline.resources import Node, sizes
from pipeline.tar import write_shard
from pipeline.work import Shards

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; Ray starts slowly on a busy one


def test_a_photo_that_kills_its_worker_is_quarantined_alone(cluster, tmp_path):
    class Fragile:
        """Finishes a photo, but dies of "poison" and never ends with "stuck"."""

        def __init__(self, run, device, size):
            pass

        def restore(self, block):
            from pipeline.blocks import from_block, to_block, unit_of

            (photo,) = from_block(block)
            if photo.key.startswith("poison"):
                os._exit(1)
            if photo.key == "stuck":
                time.sleep(3600)
            photo.status = "no_face"
            return to_block(unit_of(block), [photo])

    shard = tmp_path / "in.tar"
    keys = ["a", "poison1", "poison2", "stuck", "poison3", "b", "c"]  # more in a row than go without a trial
    write_shard(shard, [(f"{key}.jpg", b"photo") for key in keys])
    settings = {"input": str(shard), "output": str(tmp_path / "out"), "resources": {"isolated_seconds": 5}}
    prepared = prepare(build(settings))
    widths = sizes(prepared.run.config.resources, [Node(2, 0)])

    heard: list[Told] = []
    with listening(heard.append):
        (outcome,) = isolate(prepared.run, Shards(prepared.run, prepared.shards).left().reads, widths, Fragile)
    assert (outcome.failure, outcome.photos, outcome.rejected) == ("", 7, 4)
    output = Output(tmp_path / "out")
    (record,) = output.records()
    rows = {row["key"]: row["error"] for row in output.manifest(record).to_pylist()}
    dead = dict.fromkeys(["poison1", "poison2", "poison3"], "worker.died")
    assert rows == {"a": None, **dead, "stuck": "worker.stuck", "b": None, "c": None}
    lost = [(told.event.key, told.event.code) for told in heard if isinstance(told.event, PhotoLostWorker)]
    assert lost == list(outcome.rejects) == [(key, code) for key, code in rows.items() if code]


@pytest.mark.slow
def test_a_machine_that_goes_away_is_not_its_photos_doing(cluster, tmp_path, monkeypatch):
    class Unlucky:
        """Loses its process the first two times."""

        def __init__(self, run, device, size):
            pass

        def restore(self, block):
            from pipeline.blocks import from_block, to_block, unit_of

            (photo,) = from_block(block)
            with open(photo.sidecars[0][1].decode(), "ab", buffering=0) as attempts:
                attempts.write(b".")
                if (photo.key == "unlucky" and attempts.tell() < 3) or photo.key == "doom":
                    os._exit(1)
            photo.status = "no_face"
            return to_block(unit_of(block), [photo])

    monkeypatch.setattr("pipeline.isolate._is_alive", lambda node: False)  # as if each time its machine had gone too
    shard = tmp_path / "in.tar"
    members = [[(f"{key}.jpg", b"photo"), (f"{key}.txt", str(tmp_path / key).encode())] for key in ("unlucky", "doom")]
    write_shard(shard, [member for sample in members for member in sample])
    prepared = prepare(build({"input": str(shard), "output": str(tmp_path / "out")}))
    widths = sizes(prepared.run.config.resources, [Node(2, 0)])
    monkeypatch.setattr("pipeline.isolate.Solitary._try_a_good_photo", lambda solitary: None)  # it has no sidecar
    (outcome,) = isolate(prepared.run, Shards(prepared.run, prepared.shards).left().reads, widths, Unlucky)
    assert (outcome.photos, outcome.rejected) == (2, 1)
    rows = {row["key"]: row["message"] for row in manifest_rows(tmp_path / "out")}
    assert rows == {"unlucky": None, "doom": "its machine, where it was alone, went away, 3 times"}


def manifest_rows(output: Path) -> list[dict]:
    return [row for record in Output(output).records() for row in Output(output).manifest(record).to_pylist()]


def workers_of_this_process(name: str) -> list[int]:
    """Ray workers below this process whose title begins so."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has just ended
                continue

    def is_ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return [pid for pid, title in titles.items() if title.startswith(name) and is_ours(pid)]


def test_a_killed_worker_costs_nothing(collection, finished, cluster, quick, objects, tmp_path):
    killed: list[int] = []
    heard: list[Told] = []
    over = threading.Event()

    def kill_one() -> None:
        while not killed and not over.wait(0.02):
            for pid in workers_of_this_process("ray::MapWorker(MapBatches(Restore)).submit")[:1]:  # it is at work
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        config = load(None, quick, {"input": str(collection), "output": str(tmp_path / "out")})
        with listening(heard.append):
            restore(config, progress=io.StringIO())
    finally:
        over.set()
        killer.join()
    assert killed, "no worker was found to kill"
    told = {one.event.unit: one.event.photos for one in heard if isinstance(one.event, UnitCommitted)}
    assert told == {record.unit: record.counts["photos"] for record in Output(tmp_path / "out").records()}
    assert sum(isinstance(one.event, UnitCommitted) for one in heard) == len(told), "a unit was told of twice"
    assert objects(tmp_path / "out") == objects(finished)
    assert Output(tmp_path / "out").verify() == []


@pytest.mark.slow
def test_workers_that_die_whatever_they_get_end_the_run(cluster, tmp_path, monkeypatch):
    class Doomed:
        def __init__(self, run, device, size):
            pass

        def restore(self, block):
            os._exit(1)

    shard = tmp_path / "in.tar"
    write_shard(shard, [(f"{key}.jpg", b"photo") for key in "abcd"])

    def fail(most: int, lost: str) -> None:
        monkeypatch.setattr("pipeline.isolate.LOSSES_BEFORE_A_TRIAL", most)
        settings = {"input": str(shard), "output": str(tmp_path / "out"), "unit": {"max_samples": 2}}
        prepared = prepare(build(settings))
        widths = sizes(prepared.run.config.resources, [Node(2, 0)])
        with pytest.raises(RuntimeError, match=rf"{lost} .*one known to be good"):
            list(isolate(prepared.run, Shards(prepared.run, prepared.shards).left().reads, widths, Doomed))
        assert Output(tmp_path / "out").committed() == set()

    fail(1, "1 photos in a row lost their worker, the last a")
    fail(3, "2 photos in a row lost their worker, the last b")  # the unit ends, and its verdicts would be committed
