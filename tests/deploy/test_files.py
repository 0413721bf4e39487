"""The shipped files are what the programs that read them expect, as those programs say."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dualreg.settings import Settings
from tests.programs import DUALREG, environment, require, require_own

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
#: The most exposure that `systemd-analyze security` calls OK, from 0 to 10.
EXPOSURE = 2.0
COMPOSE = ("compose.yaml", "compose.nginx.yaml", "compose.instances.yaml")


def run(*command: str | Path, **env: str) -> str:
    """Run a program, which must succeed; return what it wrote."""
    words = [*map(str, command)]
    if (own := DUALREG.with_name(words[0])).exists():
        words[0] = str(own)
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment() | env, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_container_file() -> None:
    """Hadolint finds nothing in it."""
    require_own("hadolint")
    assert run("hadolint", DEPLOY / "Containerfile") == ""


def test_units(tmp_path: Path) -> None:
    """The units: systemd finds nothing wrong with them, and calls each service OK."""
    require("systemd-analyze", package="systemd")
    units = tmp_path / "units"
    shutil.copytree(DEPLOY / "systemd", units)
    services, timers = sorted(units.glob("*.service")), sorted(units.glob("*.timer"))
    for service in services:
        service.write_text(service.read_text().replace("/opt/dualreg/bin/dualreg", f"{DUALREG}"))
    path = {"SYSTEMD_UNIT_PATH": f"{units}:"}
    assert run("systemd-analyze", "verify", *services, *timers, **path) == ""
    for service in services:
        said = run("systemd-analyze", "security", "--offline=true", service.name, **path)
        exposure = re.search(r"Overall exposure level for \S+: (\S+)", said)
        assert exposure
        assert float(exposure[1]) < EXPOSURE, said


@pytest.mark.parametrize("names", [COMPOSE[:1], COMPOSE[:2], (COMPOSE[0], COMPOSE[2])])
def test_compose(names: tuple[str, ...]) -> None:
    """Docker Compose understands the files; services are confined, and mount what is there."""
    require_own("docker-compose")
    files = [f"--file={DEPLOY / 'compose' / name}" for name in names]
    text = run("docker-compose", *files, "config", "--format=json", POSTGRES_PASSWORD="secret")
    services = json.loads(text[: text.rindex("}") + 1])["services"]
    assert services["dualreg"]["stop_grace_period"] == "40s"
    for name, service in services.items():
        if name != "postgres":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
            assert service["security_opt"] == ["no-new-privileges"]
        for volume in service["volumes"]:
            if volume["type"] == "bind" and volume["source"] != "/etc/ssl/registry":
                assert Path(volume["source"]).exists()
        for variable in service.get("environment", {}):
            if variable.startswith("DUALREG_"):
                assert variable.removeprefix("DUALREG_").lower() in Settings.model_fields


@pytest.mark.slow
def test_kubernetes(tmp_path: Path) -> None:
    """Kustomize joins the manifests, the schemas of Kubernetes allow them, and dualreg its settings."""
    require("kubectl", package="kubernetes-client")
    text = run("kubectl", "kustomize", DEPLOY / "kubernetes")
    (tmp_path / "all.yaml").write_text(text)
    run("kubernetes-validate", "--strict", "--quiet", tmp_path / "all.yaml")
    documents = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}
    settings = next(each for (kind, _), each in documents.items() if kind == "ConfigMap")
    (tmp_path / "dualreg.toml").write_text(settings["data"]["dualreg.toml"])
    Settings.from_env({}, config=tmp_path / "dualreg.toml")
    named = {name for kind, name in documents if kind == "ConfigMap"}
    deployment = documents["Deployment", "dualreg"]["spec"]
    pods = [deployment, documents["CronJob", "dualreg-gc"]["spec"]["jobTemplate"]["spec"]]
    for template in [each["template"] for each in [*pods, documents["Job", "dualreg-upgrade"]["spec"]]]:
        volumes = template["spec"]["volumes"]
        assert {volume["configMap"]["name"] for volume in volumes if "configMap" in volume} == named
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
    labels = deployment["template"]["metadata"]["labels"]
    selector = documents["Service", "dualreg"]["spec"]["selector"]
    assert selector.items() <= labels.items()
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert not selector.items() <= pods[1]["template"]["metadata"]["labels"].items()


def test_settings_and_scripts() -> None:
    """The configuration files are valid, and so is the hook of certbot."""
    for path in (DEPLOY / "dualreg.toml", DEPLOY / "image/dualreg.toml"):
        assert Settings.from_env({}, config=path).data == Path("/var/lib/dualreg")
    hook = DEPLOY / "certbot/dualreg"
    run("sh", "-n", hook)
    assert os.access(hook, os.X_OK)
