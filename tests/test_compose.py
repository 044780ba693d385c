"""What the compose specification's schema does not say: nothing is open, no secret stands in the file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = sorted(set(SERVICES) - {"kibana_settings"})


def example_settings() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_file_meets_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, ROOT / "docker-compose.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_port_is_bound_to_this_machine_alone(name: str) -> None:
    assert SERVICES[name]["ports"]
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+\}:\d+", port)


def test_no_service_leaves_its_own_network() -> None:
    for service in SERVICES.values():
        assert not {"network_mode", "networks", "privileged"} & set(service)


def test_every_secret_comes_from_the_environment_and_the_example_holds_none() -> None:
    secret = re.compile(r"PASSWORD|KEY|TOKEN|SECRET", re.IGNORECASE)
    given = [(key, value) for s in SERVICES.values() for key, value in s.get("environment", {}).items()]
    secrets = [(key, value) for key, value in given if secret.search(key)]
    assert len(secrets) >= 4
    for key, value in secrets:
        assert re.fullmatch(r"\$\{[A-Z_]+(:\?[^}]*)?\}", value), key
    assert [name for name, value in example_settings().items() if secret.search(name) and value] == []


def test_every_variable_is_in_the_example_and_every_example_is_used() -> None:
    assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT)) == set(example_settings())


def test_elasticsearch_and_kibana_are_of_one_pinned_version() -> None:
    tags = {s["image"].split("}")[0].rpartition(":${")[2] for s in SERVICES.values() if "image" in s}
    assert {tag.split(":")[0] for tag in tags} == {"ES_LOCAL_VERSION"}
    assert re.fullmatch(r"9\.\d+\.\d+", example_settings()["ES_LOCAL_VERSION"])


def test_security_is_on() -> None:
    assert SERVICES["elasticsearch"]["environment"]["xpack.security.enabled"] == "true"


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_has_a_health_check(name: str) -> None:
    assert {"test", "interval", "timeout", "retries"} <= set(SERVICES[name]["healthcheck"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_memory_limit(name: str) -> None:
    assert SERVICES[name]["mem_limit"]


def test_data_lies_in_named_volumes() -> None:
    mounts = [mount.split(":") for s in SERVICES.values() for mount in s.get("volumes", [])]
    assert {source for source, _ in mounts} == set(COMPOSE["volumes"]) >= {"elasticsearch-data"}


def test_kibana_waits_for_elasticsearch_and_for_its_password() -> None:
    waits = {name: wait["condition"] for name, wait in SERVICES["kibana"]["depends_on"].items()}
    assert waits == {
        "elasticsearch": "service_healthy",
        "kibana_settings": "service_completed_successfully",
    }
    assert SERVICES["kibana_settings"]["depends_on"]["elasticsearch"]["condition"] == "service_healthy"


def test_serve_runs_only_under_its_profile() -> None:
    assert {name: s["profiles"] for name, s in SERVICES.items() if "profiles" in s} == {"serve": ["serve"]}


def test_the_variables_have_the_names_of_start_local() -> None:
    ours = {name for name in example_settings() if not re.match(r"(SERVE|ES_LATECHUNK)_", name)}
    assert {"ES_LOCAL_VERSION", "ES_LOCAL_PASSWORD", "ES_LOCAL_PORT", "KIBANA_LOCAL_PASSWORD", "KIBANA_LOCAL_PORT",
            "KIBANA_ENCRYPTION_KEY"} <= ours  # fmt: skip
    assert all(re.match(r"ES_LOCAL_|KIBANA_", name) for name in ours)


def test_the_lines_after_make_up_set_the_connection_and_show_no_password(tmp_path: Path) -> None:
    """In a shell of its own, as a user pastes them; the folder's name has a space."""
    folder = tmp_path / "my files"
    folder.mkdir()
    for name in ("Makefile", ".env.example", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text(encoding="utf8"), encoding="utf8")
    make = ["make", f"PYTHON={sys.executable}", "connection"]
    printed = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=True).stdout
    settings = dict(
        line.split("=", 1)
        for line in (folder / ".env").read_text(encoding="utf8").splitlines()
        if line and not line.startswith("#")
    )
    assert len(settings["ES_LOCAL_PASSWORD"]) == 32
    assert settings["ES_LOCAL_PASSWORD"] not in printed
    lines = "\n".join(line for line in printed.splitlines() if line.startswith("  export "))
    ask = 'printf "%s\\n" "$ELASTICSEARCH_URL" "$ELASTICSEARCH_USERNAME" "$ELASTICSEARCH_PASSWORD"'
    shell = subprocess.run(["sh", "-c", f"{lines}\n{ask}"], capture_output=True, text=True, check=True)
    assert shell.stdout.splitlines() == ["http://localhost:9200", "elastic", settings["ES_LOCAL_PASSWORD"]]
