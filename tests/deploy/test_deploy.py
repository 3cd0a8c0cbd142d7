"""The files of `deploy/`, as far as they can be checked without a container engine, a cluster or systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from openapi_server.config import Settings, list_variables, load_settings
from tests.support.nginx import find_nginx
from tests.support.processes import ROOT
from tests.tools import make_python_command, make_tool_environment, need_tools

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
MANIFESTS: dict[str, Any] = {
    manifest["kind"]: manifest
    for manifest in yaml.safe_load_all((DEPLOY / "kubernetes/zoochat.yaml").read_text(encoding="utf-8"))
}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "zoochat.service").read_text(encoding="utf-8")
# boto3's own: they are read by it, and are no settings of the server.
AWS_VARIABLES = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def run_tool(*command: str) -> None:
    need_tools()
    name, *arguments = command
    done = subprocess.run(
        [*make_python_command(name), *arguments], cwd=ROOT, env=make_tool_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def find_program(name: str) -> str:
    """Its path; without it the test is skipped, or fails where services are required."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{name} is required here, and is not installed")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def read_dockerfile_settings() -> dict[str, str]:
    (last_stage,) = re.findall(r"^FROM (?!.* AS ).*\n(?s:.*)", DOCKERFILE, re.MULTILINE)
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)", last_stage, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", block))


def test_the_dockerfile_passes_hadolint() -> None:
    run_tool("hadolint", "deploy/Dockerfile")


def test_the_compose_file_follows_the_compose_specification() -> None:
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")


def test_the_manifests_follow_kubernetes_schemas() -> None:
    run_tool("kubernetes-validate", "--strict", "deploy/kubernetes/zoochat.yaml")


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    """With addresses in place of the names that only compose knows."""
    text = re.sub(r"zoochat-[12]:8080", "127.0.0.1:8080", (DEPLOY / "nginx.conf").read_text(encoding="utf-8"))
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(text.replace("/tmp/", f"{tmp_path}/"), encoding="utf-8")  # noqa: S108
    done = subprocess.run([find_nginx(), "-t", "-c", str(configuration)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    text = re.sub(r"zoochat-([12]):8080", r"127.0.0.1:808\1", (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8"))
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(text, encoding="utf-8")
    done = subprocess.run([find_program("haproxy"), "-c", "-f", str(configuration)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_every_setting_that_the_files_name_exists() -> None:
    named = {
        "compose.yaml": set(COMPOSE["x-settings"]) - AWS_VARIABLES,
        "kubernetes": set(MANIFESTS["ConfigMap"]["data"]),
        "Dockerfile": set(read_dockerfile_settings()) - {"PATH", "PYTHONDONTWRITEBYTECODE"},
        "zoochat.service": set(re.findall(r"(\w+)=", " ".join(re.findall(r"^Environment=(.*)", UNIT, re.MULTILINE)))),
    }
    known = set(list_variables())
    assert {name: settings - known for name, settings in named.items() if settings - known} == {}


@pytest.mark.parametrize(
    "settings", [COMPOSE["x-settings"], MANIFESTS["ConfigMap"]["data"]], ids=["compose", "kubernetes"]
)
def test_the_settings_start_a_server(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Together with those of the image, and a key that is not in the files."""
    monkeypatch.chdir(tmp_path)
    for name, value in {**read_dockerfile_settings(), **settings}.items():
        if name not in ("PATH", "SIGNING_KEY"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("SIGNING_KEY", "Jx0d8m3Qq2uYtVb7Lz5Rk9Wc1Ne4Hs6PgA")
    assert load_settings().environment == "production"


def test_everything_is_given_longer_than_running_turns() -> None:
    """Before it is killed."""
    drain_s = Settings.model_fields["drain_timeout_s"].default
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    _, pause_s = container["lifecycle"]["preStop"]["exec"]["command"]
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)", UNIT, re.MULTILINE)
    assert pod["terminationGracePeriodSeconds"] > int(pause_s) + drain_s
    assert int(COMPOSE["services"]["zoochat-1"]["stop_grace_period"].removesuffix("s")) > drain_s
    assert int(stop_s) > drain_s


def test_the_container_runs_without_rights() -> None:
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert (user, pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == ("10001", 10001, True)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for name in ("zoochat-1", "zoochat-2"):
        service = COMPOSE["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_no_rolling_update_takes_a_server_away_before_another_is_ready() -> None:
    assert MANIFESTS["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@pytest.mark.parametrize("name", ["requirements.lock", "build-requirements.lock"])
def test_the_image_has_the_versions_that_the_suite_runs_with(name: str) -> None:
    def read_pins(path: Path) -> set[str]:
        return set(re.findall(r"^([\w.-]+==\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))

    pins = read_pins(DEPLOY / name)
    assert len(pins) > 4
    assert pins - read_pins(ROOT / "requirements.lock") == set()


def test_the_image_has_every_file_that_the_dockerfile_copies() -> None:
    """`.dockerignore` leaves everything else out."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)).split()
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert any(Path(name).match(pattern) for pattern in kept), name
