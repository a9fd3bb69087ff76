"""Parquet of an output that somebody else wrote: values only, whatever types it claims to have."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.manifest import SCHEMA, read_manifest
from pipeline.parquet import ParquetError, read_columns

PLAIN = pa.schema([("key", pa.string()), ("faces", pa.list_(pa.struct([("n", pa.int32())])))])


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def test_what_was_written_comes_back_by_column() -> None:
    rows = [{"key": "a", "faces": [{"n": 1}]}, {"key": "b", "faces": None}]
    data = parquet(pa.Table.from_pylist(rows, schema=PLAIN))
    assert read_columns(data, PLAIN).to_pylist() == rows
    assert read_columns(data, PLAIN, ["key"]).to_pylist() == [{"key": "a"}, {"key": "b"}]
    assert read_manifest(parquet(SCHEMA.empty_table())).schema == SCHEMA


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be read as Parquet"),
        (b"PAR1 and then nothing", "cannot be read as Parquet"),
        (parquet(pa.table({"key": ["a"]})), "no column faces"),
        (parquet(pa.table({"key": [1], "faces": [[{"n": 1}]]})), "key holds int64, not string"),
        (parquet(pa.table({"key": ["a"], "faces": [[{"n": "1"}]]})), "faces holds list"),
    ],
)
def test_anything_else_is_refused_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(ParquetError, match=reason) as caught:
        read_columns(data, PLAIN)
    assert "\n" not in str(caught.value)


# In a process of its own: Ray Data teaches Arrow its types for good when it is imported, as at the end of every run.
_ATTACK = """
import os, pickle, sys
import pyarrow as pa, pyarrow.parquet as pq, ray.data
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType as Pickled
class Harm:
    def __reduce__(self):
        return os.mkdir, (sys.argv[2],)
stored = pa.array([pickle.dumps(Harm())], pa.large_binary())
pq.write_table(pa.table({"key": pa.ExtensionArray.from_storage(Pickled(), stored)}), sys.argv[1])
"""
_READ = """
import sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq, ray.data
from pipeline.parquet import ParquetError, read_columns
data = Path(sys.argv[1]).read_bytes()
try:
    read_columns(data, pa.schema([("key", pa.string())])).to_pylist()
except ParquetError as error:
    print("refused:", error)
if sys.argv[2] == "unguarded":
    pq.read_table(pa.BufferReader(data)).to_pylist()
"""


def test_a_column_of_pickles_is_not_looked_at_even_when_ray_knows_its_type(tmp_path: Path) -> None:
    crafted, harm = tmp_path / "crafted.parquet", tmp_path / "harm"

    def python(code: str, *arguments: object) -> str:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    python(_ATTACK, crafted, harm)
    assert "refused: its column key holds" in python(_READ, crafted, "guarded")
    assert not harm.exists()
    python(_READ, crafted, "unguarded")  # else the attack is none, and this test could not fail
    assert harm.exists()
