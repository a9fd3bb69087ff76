"""Photos that crash, hang or starve whatever process touches them, in a real run: each is tried a few times and then
quarantined, and what stands beside it comes out as if it were not there."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from faults.sabotage import Edit, run_dr2e, sabotaged
from pipeline.output import Output
from pipeline.tar import write_shard

pytestmark = pytest.mark.timeout(1800)  # workers start slowly on a busy one

# What a photo does to the process that decodes it, by a word behind its end, where no decoder looks.
DEEDS = {
    b"hang-with-the-lock": "import re; re.match('(a*)*b', 'a' * 60)",
    b"segfault": "import ctypes; ctypes.string_at(0)",
    b"killed-as-the-kernel-does-for-memory": "import os; os.kill(os.getpid(), 9)",
    b"memory": (
        "import resource; soft, hard = resource.getrlimit(resource.RLIMIT_AS)\n"
        "        with open('/proc/self/statm') as file:\n"
        "            size = int(file.read().split()[0]) * resource.getpagesize()\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, hard))\n"
        "        try:\n"
        "            bytearray(2**30)\n"
        "        finally:\n"
        "            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))"
    ),
}
# The same for the process that encodes its result.
AT_THE_END = {b"fatal-to-encode": "import ctypes; ctypes.string_at(0)"}

STALLED_SECONDS = 10  # several times what the slowest step takes: only what hangs is to be taken to hang
ROUNDS = 1
ATTEMPTS = 2 * ROUNDS + 1
"""Of a poison at most: in each round its unit is tried and retried once, then it is tried alone."""

EXPECTED = {
    "hang-with-the-lock": ("worker.stuck", "no progress for 10 s alone in a worker, which stood in match (re/__init__"),
    "segfault": ("worker.died", "its worker, where it was alone, died of Segmentation fault in string_at (ctypes/"),
    "killed-as-the-kernel-does-for-memory": (
        "worker.died",
        "its worker, where it was alone, died without a word; for want of memory, perhaps",
    ),
    "memory": ("worker.failed", "alone in a worker: detect: MemoryError"),
    "fatal-to-encode": ("worker.died", "its worker, where it was alone, died of Segmentation fault"),
}
"""Code and beginning of the message by key."""


def reacting(file: str, before: str, data: str, deeds: dict[bytes, str], attempts: Path) -> Edit:
    """An edit after which whoever comes to the text `before` notes its word in `attempts` and does the deed.

    data: what holds the photo's bytes there.
    """
    lines = []
    for word, deed in deeds.items():
        lines += [
            f"    if {data}.endswith({word!r}):",
            f"        with open({str(attempts)!r}, 'a') as note:",
            f"            note.write({word.decode() + chr(10)!r})",
            f"        {deed}",
        ]
    return Edit(file, before, "\n".join(lines) + "\n" + before)


def members(output: Path) -> dict[str, bytes]:
    """Restored members by name, without the provenance, which names the shard."""
    found, place = {}, Output(output)
    for record in place.records():
        if (stored := record.object("shards")) is not None:
            with tarfile.open(fileobj=io.BytesIO(place.location.read(stored.name))) as tar:
                found.update({m.name: tar.extractfile(m).read() for m in tar if not m.name.endswith(".json")})
    return found


def poison(word: bytes, photo: bytes) -> list[tuple[str, bytes]]:
    """A sample named for what it does."""
    return [(f"{word.decode()}.jpg", photo + word)]


@pytest.mark.slow
def test_poisons_are_quarantined_and_nothing_else_is(photographs, finished, cluster, quick, tmp_path):
    good = [[(f"p{i}.jpg", photo), (f"p{i}.txt", b"caption")] for i, photo in enumerate(photographs[:3])]
    lock, segfault, killed, memory = (poison(word, photographs[2]) for word in DEEDS)
    (fatal,) = (poison(word, photographs[2]) for word in AT_THE_END)
    units = [[good[0], lock, segfault], [killed, good[1], memory], [good[2], fatal]]
    write_shard(tmp_path / "in.tar", [member for unit in units for sample in unit for member in sample])
    attempts = tmp_path / "attempts"
    tree = sabotaged(
        tmp_path / "tree",
        [
            reacting("operators/images.py", "    if not data:\n", "data", DEEDS, attempts),
            reacting("pipeline/members.py", "    provenance = (names.free(", "photo.image", AT_THE_END, attempts),
        ],
    )
    settings = [
        *quick,
        "unit.max_samples=3",
        f"resources.stalled_seconds={STALLED_SECONDS}",
        f"resources.rounds={ROUNDS}",
    ]
    arguments = ["restore", "--input", str(tmp_path / "in.tar"), "--output", str(tmp_path / "out")]
    done = run_dr2e(
        tree, [*arguments, *(f"--set={setting}" for setting in settings), "--address", cluster], seconds=1500
    )
    assert done.returncode == 3, done.stderr

    output = Output(tmp_path / "out")
    assert output.verify() == []
    rows = {row["key"]: row for record in output.records() for row in output.manifest(record).to_pylist()}
    assert rows.keys() == {"p0", "p1", "p2", *EXPECTED}
    quarantined = {key: (row["error"], row["message"]) for key, row in rows.items() if row["status"] == "rejected"}
    assert {key: error for key, (error, _) in quarantined.items()} == {key: code for key, (code, _) in EXPECTED.items()}
    for key, (_, beginning) in EXPECTED.items():
        assert quarantined[key][1].startswith(beginning), quarantined[key]

    undisturbed = members(finished)
    assert members(tmp_path / "out") == {
        name: undisturbed[name] for name in undisturbed if name[:2] in ("p0", "p1", "p2")
    }

    tried = Counter(attempts.read_text().split())
    assert tried.keys() == EXPECTED.keys()
    assert max(tried.values()) <= ATTEMPTS, tried
    assert tried["hang-with-the-lock"] >= 2, f"the stream never met a hang: {tried}"


# Until Ray ends the process, which its memory monitor does when the machine has less left than it should.
EATING = {b"eats-all-memory": "held = [bytearray(b'x') * 2**26 for _ in range(128)]; import time; time.sleep(60)"}


@pytest.mark.slow
def test_a_photo_for_which_ray_ends_its_worker_is_quarantined_after_as_few_attempts(photographs, quick, tmp_path):
    """The threshold is what is used now and 5 GB, so it needs a machine on which nothing else takes or frees much."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    total, available = memory["MemTotal"], memory["MemAvailable"]
    if available < 10 * 2**30:
        pytest.skip("needs 10 GB of free memory")
    threshold = (total - available + 5 * 2**30) / total
    (eater,) = (poison(word, photographs[2]) for word in EATING)
    write_shard(tmp_path / "in.tar", [("p0.jpg", photographs[0]), *eater])
    attempts = tmp_path / "attempts"
    edit = reacting("operators/images.py", "    if not data:\n", "data", EATING, attempts)
    tree = sabotaged(tmp_path / "tree", [edit])
    arguments = ["restore", "--input", str(tmp_path / "in.tar"), "--output", str(tmp_path / "out")]
    settings = [*quick, f"resources.rounds={ROUNDS}"]
    environment = {"RAY_memory_usage_threshold": f"{threshold:.4f}", "RAY_memory_monitor_refresh_ms": "100"}
    done = run_dr2e(tree, [*arguments, *(f"--set={setting}" for setting in settings)], environment)
    assert done.returncode == 3, done.stderr
    output = Output(tmp_path / "out")
    rows = {row["key"]: row for record in output.records() for row in output.manifest(record).to_pylist()}
    assert {key: row["error"] for key, row in rows.items()} == {"p0": None, "eats-all-memory": "worker.died"}
    assert "because the machine's memory was full" in rows["eats-all-memory"]["message"]
    assert len(attempts.read_text().split()) <= ATTEMPTS
