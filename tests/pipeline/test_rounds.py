"""What a run says when it fails."""

from pipeline.rounds import gist


def test_a_remote_traceback_becomes_its_beginning_and_its_cause():
    remote = "The actor died in its creation task, \x1b[36mray::X\x1b[39m (pid=1)\n\nWeightsError: cut\n"
    assert gist(RuntimeError(remote)) == "The actor died in its creation task: WeightsError: cut"
    assert gist(RuntimeError("disk full")) == "disk full"
    assert gist(RuntimeError()) == "RuntimeError"
