"""Settings: what is read, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from light_run.config.settings import Settings, table
from light_run.config.variables import MIB
from light_run.errors import SettingsError
from light_run.system.sizes import bytes_of


def from_env(**variables: str) -> Settings:
    """Settings of an environment with these variables, ``LIGHT_RUN_`` left out."""
    return Settings.from_env({f"LIGHT_RUN_{name}": value for name, value in variables.items()})


def test_the_contract_s_defaults() -> None:
    settings = Settings.from_env({})
    assert (settings.port, settings.host, settings.token) == (3000, "127.0.0.1", None)
    assert settings.body_limit == 10_485_760
    assert settings.max_artifacts_bytes == 21_474_836_480
    assert settings.state_dir == Path.home() / ".light-run"
    assert settings.artifacts_dir == Path.home() / ".light-run" / "artifacts"
    assert (settings.timeout, settings.max_timeout) == (1_200_000, 3_600_000)
    assert (settings.memory, settings.cpus, settings.pids) == (512 * MIB, 1.0, 100)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "8080", 8080),
        ("body_limit", "20m", 20 * MIB),
        ("memory", "1g", 1024 * MIB),
        ("memory", "64MiB", 64 * MIB),
        ("cpus", "0.5", 0.5),
        ("timeout", "700", 700),
        ("timeout", "90s", 90_000),
        ("parked_idle", "5m", 300.0),
        ("parked_idle", "1.5", 1.5),
        ("grace", "0", 0.0),
        ("read_only", "yes", True),
        ("read_only", "0", False),
        ("cap_drop", "cap_chown, SETUID", ("CHOWN", "SETUID")),
        ("cap_drop", "all", ("ALL",)),
        ("user", "65534:65534", "65534:65534"),
        ("runtimes", "runc,runsc", ("runc", "runsc")),
        ("images", "python:3.*, ghcr.io/acme/**", ("python:3.*", "ghcr.io/acme/**")),
        ("workspace", "archive", "archive"),
        ("gpus", "2", 2),
        ("gpus", "ALL", "all"),
        ("users", "1000:*, nobody", ("1000:*", "nobody")),
        ("parked", "alpine:3.19=2,a/b:c=0", (("alpine:3.19", 2), ("a/b:c", 0))),
        ("accel", "/internal/", "/internal"),
        ("artifacts_dir", "/srv/a", Path("/srv/a")),
        ("token", " not-stripped".strip(), "not-stripped"),
    ],
)
def test_values_are_read(name: str, text: str, value: Any) -> None:
    assert getattr(from_env(**{name.upper(): text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "0"),
        ("GPUS", "0"),
        ("GPUS", "some"),
        ("NOFILE", "3"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "80.0"),
        ("PORT", "٣"),
        ("BODY_LIMIT", "0"),
        ("BODY_LIMIT", "ten"),
        ("BODY_LIMIT", "1" * 30),
        ("TOKEN", "with blank"),
        ("TOKEN", "ümlaut"),
        ("THREADS", "3"),
        ("MEMORY", "1m"),
        ("CPUS", "nan"),
        ("CPUS", "0"),
        ("TIMEOUT", "1.5"),
        ("TIMEOUT", "0"),
        ("READ_ONLY", "maybe"),
        ("CAP_DROP", "chown-1"),
        ("USER", "a b"),
        ("RUNTIME", "../runc"),
        ("WORKSPACE", "both"),
        ("PARKED", "alpine"),
        ("PARKED", "alpine=many"),
        ("ACCEL", "no-slash"),
        ("ACCEL", "/a/../b"),
        ("HOST", "two words"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_env(**{name: text})
    message = str(caught.value)
    assert message.startswith(f"LIGHT_RUN_{name}")
    assert "\n" not in message
    assert (text[:80] in message) == (name != "TOKEN"), "a token is not shown, everything else is"


def test_an_option_is_named_beside_its_variable() -> None:
    with pytest.raises(SettingsError, match=r"LIGHT_RUN_PORT \(--port\) is \"x\": give a whole number"):
        Settings.from_env({}, port="x")


def test_arguments_come_before_the_environment() -> None:
    environ = {"LIGHT_RUN_TOKEN": "of-the-environment", "LIGHT_RUN_PORT": "1"}
    settings = Settings.from_env(environ, token="argument", body_limit=1000)
    assert (settings.token, settings.body_limit, settings.port) == ("argument", 1000, 1)
    assert Settings.from_env(environ, token=None).token is None


@pytest.mark.parametrize(
    ("name", "value"), [("body_limit", True), ("memory", 1.5), ("images", 3), ("port", None)]
)
def test_arguments_are_checked_too(name: str, value: Any) -> None:
    if value is None:
        assert Settings.from_env({}, **{name: value}).port == 3000
    else:
        with pytest.raises(SettingsError):
            Settings.from_env({}, **{name: value})


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(SettingsError, match="no setting bodylimit"):
        Settings.from_env({}, bodylimit=1)


def test_an_empty_variable_is_an_unset_one() -> None:
    assert from_env(TOKEN="", PORT="  ", ARTIFACTS_DIR="").token is None


@pytest.mark.parametrize("text", ["", "lots", "-1"])
def test_an_artifacts_cap_that_is_unset_or_invalid_warns(text: str) -> None:
    settings = from_env(MAX_ARTIFACTS_BYTES=text)
    assert settings.max_artifacts_bytes == 21_474_836_480
    assert any("LIGHT_RUN_MAX_ARTIFACTS_BYTES" in warning for warning in settings.warnings)


def test_an_artifacts_cap_that_is_set_does_not() -> None:
    assert from_env(MAX_ARTIFACTS_BYTES="5g").warnings == ()


def test_a_misspelt_variable_warns_with_the_one_meant() -> None:
    (warning,) = from_env(MAX_CONCURENCY="3", MAX_ARTIFACTS_BYTES="1").warnings
    assert "LIGHT_RUN_MAX_CONCURENCY" in warning
    assert "LIGHT_RUN_MAX_CONCURRENCY" in warning


def test_the_token_is_not_in_the_repr() -> None:
    assert "hidden-token" not in repr(from_env(TOKEN="hidden-token"))


def test_artifacts_follow_the_state_directory() -> None:
    assert from_env(STATE_DIR="/srv/state").artifacts_dir == Path("/srv/state/artifacts")
    assert from_env(STATE_DIR="/srv/state", ARTIFACTS_DIR=".").artifacts_dir == Path.cwd()


def test_the_most_is_not_less_than_the_default() -> None:
    with pytest.raises(SettingsError, match="LIGHT_RUN_MAX_MEMORY"):
        from_env(MAX_MEMORY="64m")
    assert from_env(MAX_TIMEOUT="5000").timeout == 5000


def test_no_home_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(SettingsError, match="absolute path"):
        Settings.from_env({})


def test_the_table_is_whole() -> None:
    names = [variable.name for variable in table()]
    assert len(set(names)) == len(names)
    assert all(variable.help and variable.default for variable in table())
    options = {variable.option for variable in table()}
    assert {"--port", "--host", "--token", "--body-limit"} <= options


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", MIB), ("512m", 512 * MIB), ("1 GB", 1024 * MIB), ("1x", None)]
)
def test_sizes(text: str, size: int | None) -> None:
    assert bytes_of(text) == size
