"""The library that gave the format its name reads our shards: same keys, same members, same bytes."""

from pathlib import Path

import webdataset

from pipeline.tar import write_shard


def test_webdataset_reads_what_we_write(tmp_path: Path):
    members = [
        ("box/a.jpg", b"photo a"),
        ("box/a.face00.png", b"face"),
        ("box/a.restored.png", b"restored a"),
        ("box/a.json", b"{}"),
        ("b.v2.tif", b"photo b"),
        ("größer-" + "x" * 120 + ".png", b"long"),
    ]
    write_shard(tmp_path / "out.tar", members)
    samples = list(webdataset.WebDataset(str(tmp_path / "out.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["box/a", "b", "größer-" + "x" * 120]
    read = {
        f"{sample['__key__']}.{extension}": data
        for sample in samples
        for extension, data in sample.items()
        if not extension.startswith("__")
    }
    assert read == dict(members)
