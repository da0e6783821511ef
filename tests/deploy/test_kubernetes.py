"""The manifests: against Kubernetes' schemas, its restricted pod standard, and what the worker needs."""

from __future__ import annotations

import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from files import DEPLOY, DRAIN_SECONDS, program
from prometheus_rules import TARGET, prometheus_rule

KUBERNETES = DEPLOY / "kubernetes"
KUSTOMIZATIONS = ["base", "overlays/prometheus-operator", "overlays/keda"]
# Kinds of operators: Kubernetes' own schemas do not have them.
CUSTOM = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}

Resource = dict[str, Any]


def build(name: str) -> list[Resource]:
    """The resources as kustomize composes them, by the one in kubectl."""
    kubectl = program("kubectl", "kubernetes-client")
    done = subprocess.run([kubectl, "kustomize", KUBERNETES / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def written() -> list[Resource]:
    """All resources as they are written, for machines without kubectl."""
    files = [path for path in sorted(KUBERNETES.rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return [resource for path in files for resource in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> list[Resource]:
    return [resource for resource in written() if resource["kind"] == kind]


def validate(resource: Resource) -> None:
    if resource["kind"] not in CUSTOM:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def label(resource: Resource) -> str:
    return f"{resource['kind']}-{resource['metadata']['name']}"


@pytest.mark.parametrize("resource", written(), ids=label)
def test_resources_are_what_their_schemas_say(resource: Resource) -> None:
    validate(resource)


def test_a_wrong_resource_is_refused() -> None:
    (wrong, *_) = of_kind("Deployment")
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 40
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(wrong)


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_kustomize_composes_valid_resources(name: str) -> None:
    resources = build(name)
    for resource in resources:
        validate(resource)
        assert resource["metadata"].get("namespace", "imagequeue") == "imagequeue"
    assert {"Namespace", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"} <= {
        resource["kind"] for resource in resources
    }


def test_the_autoscaler_alone_says_how_many_workers_there_are() -> None:
    resources = {label(resource): resource for resource in build("overlays/keda")}
    assert "replicas" not in resources["Deployment-imagequeue-worker"]["spec"]
    scaled = resources["ScaledObject-imagequeue-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "imagequeue-worker"
    assert scaled["minReplicaCount"] == 0
    (trigger,) = scaled["triggers"]
    records = {rule.get("record") for group in prometheus_rule()["spec"]["groups"] for rule in group["rules"]}
    assert trigger["metadata"]["query"] in records
    # The measure is over the present fleet's rate: an average over workers would divide by them twice.
    assert trigger["metricType"] == "Value"


def test_network_policies_and_budgets_choose_pods_that_exist() -> None:
    resources = build("base")
    pods = [
        resource["spec"]["template"]["metadata"]["labels"] for resource in resources if resource["kind"] == "Deployment"
    ]
    selectors = [
        (resource["spec"].get("podSelector") or resource["spec"]["selector"])["matchLabels"]
        for resource in resources
        if resource["kind"] in ("NetworkPolicy", "PodDisruptionBudget")
    ]
    assert len(selectors) == 3
    for selector in selectors:
        assert any(selector.items() <= labels.items() for labels in pods), selector


def test_pods_have_the_time_to_drain() -> None:
    (worker,) = (one for one in of_kind("Deployment") if one["metadata"]["name"] == "imagequeue-worker")
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > DRAIN_SECONDS


@pytest.mark.parametrize("deployment", of_kind("Deployment"), ids=label)
def test_pods_meet_the_restricted_standard(deployment: Resource) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert not pod["automountServiceAccountToken"]
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {"emptyDir", "secret", "configMap"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        locked = container["securityContext"]
        assert (locked["allowPrivilegeEscalation"], locked["readOnlyRootFilesystem"]) == (False, True)
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        for variable in container.get("env", []):
            assert "value" not in variable or not variable["name"].endswith("_URL"), "secrets by reference"


def test_the_operators_rules_are_prometheus_own() -> None:
    assert yaml.safe_load(TARGET.read_text()) == prometheus_rule()


def test_services_are_called_as_the_alerts_jobs() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    names = {job["job_name"] for job in jobs} - {"prometheus"}
    assert {service["metadata"]["name"] for service in of_kind("Service")} == names
    ports = {service["metadata"]["name"]: service["spec"]["ports"][0]["name"] for service in of_kind("Service")}
    for monitor in of_kind("ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == ports[monitor["metadata"]["name"]]


def test_every_resource_is_in_a_kustomization() -> None:
    for folder in (KUBERNETES / name for name in KUSTOMIZATIONS):
        named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert files == {name for name in named if name.endswith(".yaml")}
