"""The faults that tests put into the source are really met, by the driver and by every worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.sabotage import SOURCE, Edit, StaleEdit, run_dr2e, sabotaged
from pipeline.output import Output
from pipeline.tar import write_shard

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; Ray starts slowly on a busy one

# A line that is reached in the driver, and in a process of each kind of worker.
PLACES = {
    "pipeline/driver.py": "    run = Run(config, describe(config))\n",
    "pipeline/source.py": "        with local_copy(task.shard.url, options, patience=patience) as path:\n",
    "pipeline/stages.py": "        self.limits, self.upscale = limits(config), config.write.upscale\n",
    "pipeline/commit.py": "    unit = photos[0].unit\n",
}


def noting(file: str, line: str, notes: Path) -> Edit:
    """An edit after which whoever reaches `line` of `file` notes which file its source is."""
    margin = line[: len(line) - len(line.lstrip())]
    note = f"{margin}import pathlib; pathlib.Path({str(notes / Path(file).name)!r}).write_text(__file__)\n"
    return Edit(file, line, note + line)


@pytest.fixture
def shard(tmp_path):
    """One photo that is none: every process is needed, and no network."""
    write_shard(tmp_path / "in.tar", [("a.jpg", b"this is no photograph")])
    return tmp_path / "in.tar"


@pytest.mark.parametrize("existing", [False, True], ids=["own Ray", "existing Ray"])
def test_driver_and_workers_run_the_sabotaged_source(existing, shard, tmp_path, request):
    address = ["--address", request.getfixturevalue("cluster")] if existing else []
    notes = tmp_path / "notes"
    notes.mkdir()
    tree = sabotaged(tmp_path / "tree", [noting(file, line, notes) for file, line in PLACES.items()])
    done = run_dr2e(tree, ["restore", "--input", str(shard), "--output", str(tmp_path / "out"), *address])
    assert done.returncode == 3, done.stderr
    assert Output(tmp_path / "out").status().errors == {"image.unreadable": 1}
    assert {path.name: path.read_text() for path in notes.iterdir()} == {
        Path(file).name: str(tree / file) for file in PLACES
    }


def test_an_edit_that_fits_no_more_is_an_error(tmp_path):
    with pytest.raises(StaleEdit, match=r"pipeline/names.py has 0 times, not once: 'no such text'"):
        sabotaged(tmp_path / "tree", [Edit("pipeline/names.py", "no such text", "")])
    with pytest.raises(StaleEdit, match="not once"):
        sabotaged(tmp_path / "other", [Edit("pipeline/commit.py", "import", "")])


def test_the_source_itself_stays_as_it_is(tmp_path):
    before = (SOURCE / "pipeline/names.py").read_text()
    line = before.splitlines(keepends=True)[0]
    tree = sabotaged(tmp_path / "tree", [Edit("pipeline/names.py", line, '"""Sabotaged."""\n')])
    assert (tree / "pipeline/names.py").read_text().startswith('"""Sabotaged."""')
    assert (SOURCE / "pipeline/names.py").read_text() == before
