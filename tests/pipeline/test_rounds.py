"""What a run says when it fails."""

from pipeline.rounds import gist


def test_a_remote_traceback_becomes_its_beginning_and_its_cause():
    remote = "The actor died:\n  File x.py, line 1\n\nWeightsError: p.safetensors is cut\n"
    assert gist(RuntimeError(remote)) == ("The actor died: ... WeightsError: p.safetensors is cut")
    assert gist(RuntimeError("disk full")) == "disk full"
    assert gist(RuntimeError()) == "RuntimeError"
