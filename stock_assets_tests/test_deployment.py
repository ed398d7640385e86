"""The container files: no open ports, no passwords, every variable."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from stock_assets.core.locations import Locations
from stock_assets.service.settings import VARIABLES
from stock_assets.storage import server
from stock_assets.storage.reader import READER, READER_VARIABLE
from stock_assets_tests.conftest import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CONTENT: dict[str, Any] = yaml.safe_load(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
OURS = ("migrate", "mlflow", "code", "webserver", "daemon")
PASSWORD = re.compile(r"\$\{(?:POSTGRES|READER)_PASSWORD:\?[^}]+\}")


def interpolated(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", PASSWORD.sub("secret", text))


def test_ports_are_published_on_loopback_only() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports
    assert all(port.startswith("127.0.0.1:") for listed in ports.values() for port in listed)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_passwords_come_from_the_environment() -> None:
    assert "POSTGRES_PASSWORD:-" not in COMPOSE
    for text in (COMPOSE, DOCKERFILE):
        for user, password in re.findall(r"://(\w+):([^@\s]+)@", text):
            assert user in ("stock_assets", READER)
            assert PASSWORD.fullmatch(password)
            assert ("READER" in password) == (user == READER)
    assert PASSWORD.fullmatch(SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"])
    assert "PASSWORD" not in DOCKERFILE
    commands = [word for service in SERVICES.values() for word in service.get("command", [])]
    assert not any("$" in word for word in commands), (
        "every user of the machine can read a command line"
    )


@pytest.mark.parametrize("name", OURS)
def test_every_service_has_the_variables_of_the_command_line(name: str) -> None:
    values = {key: interpolated(value) for key, value in SERVICES[name]["environment"].items()}
    address = make_url(values["STOCK_ASSETS_DATABASE_URL"]).set(drivername="postgresql+psycopg2")
    home = Path(values["STOCK_ASSETS_HOME"])
    locations = Locations(project=Path("/app"), home=home, arrays_url=str(home / "arrays"))
    expected = server.environment(locations, address)
    assert {key: values[key] for key in expected} == expected


def test_every_variable_of_dagster_yaml_is_set() -> None:
    named = re.findall(r"env: (\w+)", (ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    assert named
    for name in ("code", "webserver", "daemon"):
        assert set(named) <= set(SERVICES[name]["environment"])


def test_the_code_server_has_every_variable_that_the_code_reads() -> None:
    pattern = re.compile(r"\b(?:STOCK_ASSETS_[A-Z_]+|MLFLOW_TRACKING_URI)\b")
    sources = (ROOT / "stock_assets").rglob("*.py")
    used = {name for path in sources for name in pattern.findall(path.read_text(encoding="utf-8"))}
    of_the_dashboard = {READER_VARIABLE, *VARIABLES.values()}
    assert used - of_the_dashboard <= set(SERVICES["code"]["environment"])


def test_the_dashboard_has_only_the_address_of_the_read_only_role() -> None:
    environment = SERVICES["dashboard"]["environment"]
    assert set(environment) <= {"STOCK_ASSETS_PROJECT", READER_VARIABLE, *VARIABLES.values()}
    address = make_url(interpolated(environment[READER_VARIABLE]))
    assert (address.username, address.host) == (READER, "postgres")
    assert SERVICES["migrate"]["environment"][READER_VARIABLE] == environment[READER_VARIABLE]
    assert not any("POSTGRES_PASSWORD" in value for value in environment.values())
    assert SERVICES["dashboard"]["volumes"] == ["./params.yaml:/app/params.yaml:ro"]


def test_the_dashboard_without_a_key_is_reachable_from_this_machine_only() -> None:
    assert "--allow-anyone" in SERVICES["dashboard"]["command"]
    (port,) = SERVICES["dashboard"]["ports"]
    assert port.startswith("127.0.0.1:")
    hosts = SERVICES["dashboard"]["environment"]["STOCK_ASSETS_ALLOWED_HOSTS"].split(",")
    assert set(hosts) == {"127.0.0.1", "localhost"}


def test_mlflow_serves_the_database_and_artifacts_of_the_runs() -> None:
    environment = SERVICES["mlflow"]["environment"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == environment["MLFLOW_TRACKING_URI"]
    locations = Locations(project=Path("/app"), home=Path("/data"), arrays_url="")
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == locations.artifacts_folder.as_uri()


def test_services_share_image_home_and_parameters_without_privileges() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["image"] == SERVICES["migrate"]["image"]
        assert service["volumes"] == ["home:/data", "./params.yaml:/app/params.yaml:ro"]
        assert "user" not in service
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"]
    assert {"home", "postgres"} <= set(CONTENT["volumes"])


def test_the_database_is_pinned_keeps_its_data_and_has_a_health_check() -> None:
    postgres = SERVICES["postgres"]
    version = re.fullmatch(r"postgres:(\d+)", postgres["image"])
    assert version is not None
    assert int(version[1]) >= 18, "older images store their data in another folder"
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "pg_isready" in postgres["healthcheck"]["test"]


def test_services_start_after_the_migrations() -> None:
    assert SERVICES["migrate"]["command"] == ["stock-assets", "db", "upgrade"]
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("mlflow", "code", "webserver", "daemon", "dashboard"):
        assert "migrate" in ancestors(name)
        assert "healthcheck" in SERVICES[name]
    assert "webserver" in ancestors("daemon"), "two processes must not create Dagster's tables"


def ancestors(name: str) -> set[str]:
    direct = SERVICES[name].get("depends_on", {})
    for needed, how in direct.items():
        one_off = needed == "migrate"
        condition = "service_completed_successfully" if one_off else "service_healthy"
        assert how["condition"] == condition
    return set(direct).union(*(ancestors(needed) for needed in direct))


def test_the_workspace_names_the_code_server_as_the_local_one() -> None:
    (location,) = yaml.safe_load((ROOT / "deploy/workspace.yaml").read_text())["load_from"]
    (local,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    remote = location["grpc_server"]
    command = SERVICES["code"]["command"]
    assert remote["host"] == "code"
    assert str(remote["port"]) == command[command.index("--port") + 1]
    assert remote["location_name"] == local["python_module"]["location_name"]
    assert command[command.index("--module-name") + 1] == local["python_module"]["module_name"]


def test_the_image_runs_as_an_unprivileged_user_with_pinned_packages() -> None:
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == ["app"]
    assert "--uid 10001" in DOCKERFILE
    installs = re.findall(r"pip install (.*)$", DOCKERFILE, re.MULTILINE)
    assert installs
    assert all("-c constraints.txt" in line or "--no-deps" in line for line in installs)


def test_the_image_contains_only_what_it_copies() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    lines = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*)$", DOCKERFILE, re.MULTILINE)
    copied = [source for line in lines for source in line.split()[:-1]]
    assert sorted(set(copied)) == sorted(kept)
    assert all((ROOT / source).exists() for source in copied)
    for secret in (".env", "deploy/.env", ".git", ".stock_assets", ".venv"):
        assert not any(fnmatch.fnmatch(secret, rule) for rule in kept)
