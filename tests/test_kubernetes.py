"""The Kubernetes manifests: valid for three versions, as strict as the Compose file, and run by `podman kube play`."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.http.shutdown import GIVE_UP_AFTER
from tests.conftest import CLIENT, CURL_CHAT, ROOT, free_port, is_ready, send, wait_until
from tests.engine import IMAGE, docker

pytestmark = pytest.mark.kubernetes
OVERLAYS = ("trial", "production")
VERSIONS = ("1.31", "1.34", "1.37")
NAME = "turing-test-service"
POD = f"{NAME}-pod-0"
CONTAINER = f"{POD}-{NAME}"
Manifest = dict[str, Any]


def validate(*manifests: Manifest) -> None:
    """Raise an error unless manifests are valid for each version of Kubernetes."""
    import kubernetes_validate  # its schemas take seconds to import, for which every run of any test would wait

    for manifest in manifests:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def run(*command: str, given: str | None = None, check: bool = True) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


@cache
def kustomize(folder: Path) -> str:
    return run("kubectl", "kustomize", str(folder))


def render(folder: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(kustomize(folder)))


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(ROOT / "kubernetes" / "overlays" / request.param)


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def pod_of(manifests: list[Manifest]) -> Manifest:
    spec: Manifest = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def test_every_object_is_valid(manifests: list[Manifest]) -> None:
    validate(*manifests)


def test_the_components_fit_production_and_are_valid(tmp_path: Path) -> None:
    """As its kustomization says: uncommented."""
    from cloudcoil.models.prometheus_operator import v1 as prometheus_operator

    shutil.copytree(ROOT / "kubernetes", tmp_path / "kubernetes")
    production = tmp_path / "kubernetes" / "overlays" / "production"
    file = production / "kustomization.yaml"
    components = [f"../../components/{folder.name}" for folder in (ROOT / "kubernetes" / "components").iterdir()]
    commented = "".join(f"#   - {name}\n" for name in sorted(components))
    assert f"# components: # uncomment what your cluster has\n{commented}" in file.read_text()
    file.write_text(re.sub(r"^# (components:|  - \.\.)", r"\1", file.read_text(), flags=re.MULTILINE))
    manifests = render(production)

    ingress, monitor, rule = (of_kind(manifests, kind) for kind in ("Ingress", "PodMonitor", "PrometheusRule"))
    validate(ingress)
    backends = [path["backend"]["service"] for path in ingress["spec"]["rules"][0]["http"]["paths"]]
    (port,) = of_kind(manifests, "Service")["spec"]["ports"]
    assert all(backend == {"name": NAME, "port": {"name": port["name"]}} for backend in backends)
    for manifest, kind in ((monitor, prometheus_operator.PodMonitor), (rule, prometheus_operator.PrometheusRule)):
        read = kind.model_validate(manifest)  # fields that the schema does not know are lost
        assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == manifest


def test_prometheus_operator_watches_what_prometheus_does() -> None:
    folder = ROOT / "kubernetes" / "components" / "prometheus-operator"
    files = (ROOT / "monitoring/alerts.yml", ROOT / "monitoring/prometheus.yml")
    alerts, prometheus = (yaml.safe_load(file.read_text()) for file in files)
    rule, monitor = (
        yaml.safe_load((folder / name).read_text()) for name in ("prometheus-rule.yaml", "pod-monitor.yaml")
    )
    assert rule["spec"] == alerts
    pod = of_kind(render(ROOT / "kubernetes/overlays/production"), "Deployment")["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (port,) = pod["spec"]["containers"][0]["ports"]
    endpoints = [
        (one["relabelings"][0]["replacement"], one["port"], one["path"], one["interval"])
        for one in monitor["spec"]["podMetricsEndpoints"]
    ]
    usual = {"metrics_path": "/metrics", **prometheus["global"]}
    jobs = [{**usual, **job} for job in prometheus["scrape_configs"]]
    assert endpoints == [(job["job_name"], port["name"], job["metrics_path"], job["scrape_interval"]) for job in jobs]


def test_every_selector_selects_the_pods(manifests: list[Manifest]) -> None:
    labels = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector", {}))
        selector = selector.get("matchLabels", selector)
        if manifest["kind"] in ("Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"):
            assert selector
            assert selector.items() <= labels.items()


def test_it_is_locked_down_as_under_compose(manifests: list[Manifest]) -> None:
    pod = pod_of(manifests)
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert of_kind(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    policy = of_kind(manifests, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == [8000]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} <= {53, 5432}


def test_a_pod_is_given_the_time_that_the_service_takes_to_end(manifests: list[Manifest]) -> None:
    pod = pod_of(manifests)
    (container,) = pod["containers"]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    probe = container["readinessProbe"]
    assert command == "sleep"
    assert int(seconds) >= probe["periodSeconds"] * probe["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] > int(seconds) + GIVE_UP_AFTER


def test_production_has_3_to_10_pods_each_replaced_when_its_successor_is_ready_and_the_trial_one() -> None:
    production, trial = (render(ROOT / "kubernetes" / "overlays" / name) for name in ("production", "trial"))
    scaled = of_kind(production, "HorizontalPodAutoscaler")["spec"]
    assert (scaled["minReplicas"], scaled["maxReplicas"]) == (3, 10)
    assert of_kind(production, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert of_kind(production, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    alone = of_kind(trial, "Deployment")["spec"]
    assert (alone["replicas"], alone["strategy"]) == (1, {"type": "Recreate"}), "one SQLite file, one pod"


def test_every_setting_is_one_of_the_service(manifests: list[Manifest]) -> None:
    (container,) = pod_of(manifests)["containers"]
    names = {*of_kind(manifests, "ConfigMap")["data"], *(one["name"] for one in container.get("env", []))}
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][NAME]["environment"]
    assert names <= set(compose)
    assert "WORKERS" in names


# Run


@pytest.fixture(scope="module")
def _podman(image: str) -> None:  # noqa: ARG001  # what is copied
    """Copy the image from Docker to podman."""
    with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saved:
        subprocess.run(["podman", "load", "-q"], stdin=saved.stdout, check=True, stdout=subprocess.DEVNULL)
    assert saved.returncode == 0


@contextmanager
def played(folder: Path, *for_env: Manifest) -> Iterator[str]:
    """Run the pods of an overlay as it is; yields the address of the service.

    Secrets that become variables of the environment are made here: podman 4.3 expects another format of them than its
    `kube play` makes.
    """
    kinds = ("ConfigMap", "Secret", "PersistentVolumeClaim", "Deployment")
    wanted = [one for one in render(folder) if one["kind"] in kinds and one not in for_env]
    file = folder / "played.yaml"
    file.write_text(yaml.safe_dump_all(wanted))
    for secret in for_env:
        run("podman", "secret", "create", secret["metadata"]["name"], "-", given=json.dumps(secret["data"]))
    try:
        run("podman", "kube", "play", str(file))
        yield "http://localhost:8000"
    finally:
        run("podman", "kube", "down", str(file), check=False)
        names = [one["metadata"]["name"] for one in (*wanted, *for_env) if one["kind"] != "Deployment"]
        run("podman", "volume", "rm", "-f", "tmp", *names, check=False)
        run("podman", "secret", "rm", *names, check=False)


@pytest.fixture
def overlays(tmp_path: Path, _podman: None) -> Path:
    """Copy the manifests, to add to them."""
    shutil.copytree(ROOT / "kubernetes", tmp_path / "kubernetes")
    return tmp_path / "kubernetes" / "overlays"


def inside(command: str) -> str:
    return run("podman", "exec", CONTAINER, "sh", "-c", command, check=False)


@pytest.mark.docker
@pytest.mark.podman
def test_the_pod_of_the_trial_answers_and_is_started_again(overlays: Path) -> None:
    with played(overlays / "trial") as url:
        wait_until(lambda: is_ready(url))
        assert send(f"{url}/predict", CURL_CHAT).status == 200
        message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
        assert send(f"{url}/predict", message).status == 200

        # a dead process: it is started again, and knows the dialog
        begun = json.loads(run("podman", "inspect", CONTAINER))[0]["State"]["StartedAt"]
        inside("kill -INT 1")
        wait_until(lambda: json.loads(run("podman", "inspect", CONTAINER))[0]["State"]["StartedAt"] != begun, 30)
        wait_until(lambda: is_ready(url))
        changed = {**message, "text": "other"}
        assert send(f"{url}/predict", changed).status == 409


@pytest.mark.docker
@pytest.mark.podman
def test_the_pod_of_production_reads_its_secrets_and_keeps_dialogs_in_postgresql(overlays: Path) -> None:
    """Another user id, as OpenShift gives one; the secrets are replaced as `docs/operation.md` says."""
    store = f"turing-test-{free_port()}"
    port = free_port()
    options = ["-e", "POSTGRES_USER=dialogs", "-e", "POSTGRES_PASSWORD=of-the-test", "-p", f"{port}:5432"]
    docker("run", "-d", "--name", store, *options, "postgres:17")
    production = overlays / "production"
    kustomization = yaml.safe_load((production / "kustomization.yaml").read_text())
    kustomization["images"] = [{"name": IMAGE, "newName": f"localhost/{IMAGE}", "newTag": "latest"}]
    secrets = {one["name"]: one for one in kustomization["secretGenerator"]}
    url = f"postgresql://dialogs:of-the-test@host.containers.internal:{port}/dialogs"
    secrets["turing-test-store"]["literals"] = [f"HISTORY_URL={url}"]
    secrets["turing-test-keys"]["literals"] = ["api_keys=key-of-the-test"]
    user = {"op": "replace", "path": "/spec/template/spec/securityContext/runAsUser", "value": 12345}
    kustomization["patches"].append({"target": {"kind": "Deployment"}, "patch": yaml.safe_dump([user])})
    (production / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (secret,) = (one for one in render(production) if "HISTORY_URL" in one.get("data", {}))
    try:
        with played(production, secret) as address:
            wait_until(lambda: is_ready(address))
            assert inside("id -u").strip() == "12345"
            key = inside("cat /run/secrets/turing-test/api_keys")
            assert base64.b64decode(key) == b"key-of-the-test", "podman 4.3 leaves it encoded"
            assert "of-the-test" not in run("podman", "logs", CONTAINER)
            assert send(f"{address}/predict", CURL_CHAT).status == 401
            assert send(f"{address}/metrics").status == 200
            message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
            headers = {"Authorization": f"Bearer {key}"}
            assert CLIENT.post(f"{address}/predict", json=message, headers=headers).status_code == 200
            assert docker("exec", store, "psql", "-U", "dialogs", "-At", "-c", "SELECT text FROM messages") == "hi"
    finally:
        docker("rm", "-f", "-v", store)


def test_the_secrets_in_the_repository_open_nothing() -> None:
    """They name a store that does not exist, so that nothing gets ready with them."""
    for manifest in render(ROOT / "kubernetes/overlays/production"):
        if manifest["kind"] == "Secret" and "HISTORY_URL" in manifest["data"]:
            assert ".example/" in base64.b64decode(manifest["data"]["HISTORY_URL"]).decode()
