from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from pipelines.config.config import load_config
from pipelines.config.sections import ServingConfig
from tests.deploy.containerfile import read_steps

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_every_service_that_is_waited_for_and_every_volume_is_there() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for waited, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[waited]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), name
            else:
                assert source in COMPOSE["volumes"], name


def test_prometheus_scrapes_a_service_and_grafana_asks_one() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    targets = [
        target
        for job in scraped["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    sources = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    asked = [source["url"] for source in yaml.safe_load(sources.read_text("utf-8"))["datasources"]]
    hosts = {target.partition(":")[0] for target in targets} | {
        make_url(address).host for address in asked
    }
    assert hosts == {"margincast", "prometheus"}
    assert hosts <= set(SERVICES)


def test_the_dashboard_is_mounted_where_grafana_is_told_to_look() -> None:
    provider = DEPLOY / "grafana" / "provisioning" / "dashboards" / "margincast.yml"
    (told,) = yaml.safe_load(provider.read_text("utf-8"))["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{told['options']['path']}/margincast.json" in mounted


def test_our_images_are_stages_of_the_containerfile() -> None:
    steps = read_steps(DEPLOY / "container" / "Containerfile")
    stages = {step.text.partition(" AS ")[2] for step in steps if step.name == "FROM"}
    built = [service["build"] for service in SERVICES.values() if "build" in service]
    assert {build["target"] for build in built} == {"serving", "training"}
    assert {build["target"] for build in built} <= stages
    for build in built:
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", ["margincast", "schedule", "mlflow"])
def test_our_containers_have_a_read_only_root_and_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - of the container
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_a_container_is_killed_only_after_the_endpoint_had_its_time_to_stop() -> None:
    grace = SERVICES["margincast"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > getattr(ServingConfig(), "stop_seconds", 60.0)


def test_every_port_is_published_on_this_host_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) >= 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_stands_in_the_file_and_none_is_optional() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    used = re.findall(r"\$\{([A-Z_]+)(:\?[^}]+)?\}", text)
    assert {name for name, _ in used} == {
        "MARGINCAST_POSTGRES_PASSWORD",
        "MARGINCAST_GRAFANA_PASSWORD",
    }
    assert all(message for _, message in used)


@pytest.mark.parametrize("name", ["margincast", "schedule"])
def test_the_configuration_of_a_container_is_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = DEPLOY / "container" / "margincast.toml"
    with pytest.raises(Exception, match="an existing folder of bars"):
        load_config(path)
    for key, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(key, re.sub(r"\$\{[^}]+\}", "secret", value))
    config = load_config(path)
    url = make_url(config.ledger.url)
    assert (url.host, url.database) == (
        "postgres",
        SERVICES["postgres"]["environment"]["POSTGRES_DB"],
    )
    assert config.serving.auth == "keys"
    with pytest.raises(ValidationError):
        ServingConfig(host=config.serving.host, auth="off")
