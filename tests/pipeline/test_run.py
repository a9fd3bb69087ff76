"""What a run is, and when a later one is the same."""

import json

import pytest

from pipeline.config import build
from pipeline.identify import Model
from pipeline.inputs import ShardRef
from pipeline.models import Models
from pipeline.run import Run, RunMismatch, fingerprint

SHARDS = [ShardRef("/data/a.tar", "a.tar", 10, "x"), ShardRef("/data/b.tar", "b.tar", 20, "y")]


def models(prior: str = "p" * 64, source: str = "builtin") -> Models:
    def model(sha256: str, source: str = "builtin") -> Model:
        return Model(source, "m", "Apache-2.0", sha256)

    return Models(
        model("d" * 64), model(prior, source), model("n" * 64), model("c" * 64), model("e" * 64), face_size=128
    )


def run(**settings: object) -> Run:
    weights = settings.pop("models", models())
    return Run(build({"input": "in", "output": "out", **settings}), weights)


def test_the_record_tells_settings_models_versions_and_input_and_no_secret():
    record = run(storage={"output": {"secret": "hunter2"}}).record(SHARDS)
    assert record["config"]["restore"]["select"] == "niqe"
    assert record["models"]["prior"]["sha256"] == "p" * 64
    assert record["versions"]["torch"] not in ("", "not installed")
    assert record["input"] == {"shards": 2, "bytes": 30, "fingerprint": fingerprint(SHARDS)}
    assert "hunter2" not in json.dumps(record)
    assert "hunter2" not in repr(run(storage={"output": {"secret": "hunter2"}}))


def test_a_run_continues_itself_also_wider_and_with_its_models_elsewhere():
    record = run().record(SHARDS)
    run().check(record)
    run(resources={"restore": {"workers": 9, "batch": 1}}, storage={"input": {"key": "k"}}).check(record)
    run(restore={"prior": "/elsewhere/prior.safetensors"}, models=models(source="/elsewhere/prior.safetensors")).check(
        record
    )
    run(restore={"policy": "/elsewhere/policy.safetensors"}).check(record)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"unit": {"max_samples": 3}}, "unit.max_samples was 256, is 3"),
        ({"restore": {"n": 4, "tau": 280}}, 'restore.select was "niqe", is "fixed"'),
        ({"models": models(prior="q" * 64)}, "the prior is another model"),
    ],
)
def test_what_changes_the_result_is_another_run(changes, message):
    with pytest.raises(RunMismatch) as caught:
        run(**changes).check(run().record(SHARDS))
    assert message in str(caught.value)
    assert "name a new --output" in str(caught.value)


def test_the_fingerprint_follows_the_content():
    changed = [SHARDS[0], ShardRef("/data/b.tar", "b.tar", 20, "z")]
    assert fingerprint(SHARDS) != fingerprint(changed)
    assert fingerprint([ShardRef("s3://elsewhere/a.tar", "a.tar", 10, "x"), SHARDS[1]]) == fingerprint(SHARDS)
