"""One model for files, flags and code; errors in one line."""

import pytest

from pipeline.config import ConfigError, build, load, setting_names

MINIMAL = {"input": "in.tar", "output": "out"}


def failing(**settings: object) -> str:
    with pytest.raises(ConfigError) as caught:
        build({**MINIMAL, **settings})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_assignments_and_overrides_are_one_model_and_the_later_wins(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("input: [a.tar, b.tar]\noutput: out\nseed: 1\nunit: {max_samples: 7}\n")
    config = load(file, ["seed=2", "unit.max_bytes=100"], {"seed": 3, "restore.n": None})
    assert config.input == ("a.tar", "b.tar")
    assert (config.seed, config.unit.max_samples, config.unit.max_bytes) == (3, 7, 100)
    assert config == build(
        {"input": ["a.tar", "b.tar"], "output": "out", "seed": 3, "unit": {"max_samples": 7, "max_bytes": 100}}
    )


def test_toml_says_the_same_as_yaml(tmp_path):
    yaml, toml = tmp_path / "run.yaml", tmp_path / "run.toml"
    yaml.write_text("input: in.tar\noutput: out\nrestore: {n: 4, tau: 280}\n")
    toml.write_text('input = "in.tar"\noutput = "out"\n[restore]\nn = 4\ntau = 280\n')
    assert load(yaml) == load(toml)


@pytest.mark.parametrize(
    ("assignment", "suggestion"),
    [("restor.n=4", "restore"), ("restore.tua=280", "restore.tau"), ("tau=280", "restore.tau"), ("sead=1", "seed")],
)
def test_an_unknown_key_is_an_error_with_a_suggestion(assignment, suggestion):
    with pytest.raises(ConfigError, match=rf"unknown setting .*did you mean {suggestion}\?"):
        load(None, [assignment], MINIMAL)


def test_every_wrong_setting_is_named_in_one_line():
    message = failing(seed="x", unit={"max_samples": 0})
    assert "seed: " in message
    assert "unit.max_samples: " in message


def test_giving_n_and_tau_fixes_the_choice():
    assert build({**MINIMAL, "restore": {"n": 4, "tau": 280}}).restore.select == "fixed"
    assert build(MINIMAL).restore.select == "niqe"


@pytest.mark.parametrize(
    "restore", [{"n": 4}, {"tau": 280}, {"select": "fixed"}, {"select": "niqe", "n": 4, "tau": 280}]
)
def test_half_a_choice_or_a_contradicted_one_is_refused(restore):
    assert "restore: select = " in failing(restore=restore)


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match="input is missing; output is missing"):
        build({})


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n- b\n", "must be a mapping"), ("a: [1", "not readable as .yaml"), (None, "cannot read")],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=f"run.yaml: .*{message}"):
        load(file)


def test_a_value_that_is_not_yaml_and_an_assignment_without_value_are_refused():
    with pytest.raises(ConfigError, match="--set seed: the value is not readable"):
        load(None, ["seed=[1"], MINIMAL)
    with pytest.raises(ConfigError, match="write it as section"):
        load(None, ["seed"], MINIMAL)


def test_secrets_are_neither_shown_nor_recorded_nor_part_of_an_error():
    config = build({**MINIMAL, "storage": {"output": {"key": "AKIA", "secret": "hunter2"}}})
    assert "hunter2" not in f"{config!r} {config} {config.result()}"
    assert config.without_secrets().storage.output == {}
    assert "hunter2" not in failing(storage={"output": "hunter2"})


def test_the_result_depends_on_settings_but_not_on_where_and_how_wide_the_run_works():
    wide = build({**MINIMAL, "output": "elsewhere", "resources": {"restore": {"workers": 7, "batch": 3}}})
    assert wide.result() == build(MINIMAL).result()
    assert build({**MINIMAL, "seed": 1}).result() != build(MINIMAL).result()


def test_setting_names_are_dotted_and_reach_every_section():
    assert {"seed", "restore", "restore.tau", "resources.restore.batch"} <= set(setting_names())
