"""Prometheus and Grafana: configuration, alerts and dashboard, on a real Prometheus and a real service."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

from models.weights import METRICS, SHIPPED
from serving.scoring import metrics
from tests.conftest import CLIENT, ROOT, Server, answering, free_port, running, sample_bodies, send, start, wait_until
from tests.prometheus import numbers, query
from train.evaluate import AFTER, FINISHED_CHATS, SHIFTED_CHATS, WHOLE_CHATS, is_at_home, streamed

MONITORING = ROOT / "monitoring"


def read(file: str) -> Any:
    return yaml.safe_load((MONITORING / file).read_text())


RULES = [rule for group in read("alerts.yml")["groups"] for rule in group["rules"]]
PANELS = [panel for panel in read("grafana/dashboards/turing-test-service.json")["panels"] if "targets" in panel]
TARGETS = [(f"{panel['title']} {target['refId']}", target["expr"]) for panel in PANELS for target in panel["targets"]]


def queries() -> dict[str, str]:
    """Return every query of the dashboard and of the rules, as it is sent to Prometheus, by its name.

    A comparison that does not hold returns nothing; with `bool` it returns 0. Both sides of `unless` have to do.
    """
    found = {name: query.replace("$__rate_interval", "1m").replace("$instance", ".*") for name, query in TARGETS}
    for rule in RULES:
        for number, part in enumerate(re.split(r" unless on \(\w+\) ", rule["expr"])):
            name = f"{rule.get('alert') or rule['record']} {number}"
            found[name] = re.sub(r" (<|>|==|>=) (?=[\d.]+)", r" \1 bool ", part)
    return found


def promtool(*arguments: str, stdin: str = "") -> None:
    done = subprocess.run(["promtool", *arguments], cwd=MONITORING, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
def test_the_configuration_is_valid_and_alerts_are_raised_when_they_should_be() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_tested_to_fire_and_not_to() -> None:
    cases = [case for test in read("alerts_test.yml")["tests"] for case in test["alert_rule_test"]]
    tested = {(case["alertname"], bool(case["exp_alerts"])) for case in cases}
    assert tested == {(rule["alert"], fires) for rule in RULES if "alert" in rule for fires in (True, False)}


def test_thresholds_are_those_of_the_model() -> None:
    """Traffic of dialogs has answers after every message: the smallest share of `high` is their mean over a dialog."""
    measured = json.loads((SHIPPED / METRICS).read_text())["measured"]
    rows = [row for row in measured if is_at_home(row["on"]) and row["how"] != SHIFTED_CHATS]
    high = [row["confidence"]["high"]["share"] for row in rows if row["how"] in (FINISHED_CHATS, WHOLE_CHATS)]
    for edition in {row["on"] for row in rows}:
        moments = [row for row in rows if row["on"] == edition and row["how"] in map(streamed, AFTER)]
        assert len(moments) == len(AFTER)
        high.append(mean(row["confidence"]["high"]["share"] for row in moments))
    share = "turing_test:answers_high:ratio_rate6h"
    expected = [f"{share} < {min(high) / 2:.4f}", f"{share} > {max(high) + 0.1:.4f}"]
    (rule,) = [rule["expr"] for rule in RULES if rule.get("alert") == "TuringTestConfidence"]
    found = re.findall(r"[\w:]+rate6h [<>] [\d.]+", rule)
    assert found == expected, f"write into monitoring/alerts.yml: {' or '.join(expected)}"


@contextmanager
def prometheus(folder: Path, server: Server, key: str | None = None) -> Iterator[str]:
    """Run Prometheus with the project's configuration, but for the address of the service and shorter intervals."""
    for name in ("prometheus.yml", "alerts.yml"):
        text = (MONITORING / name).read_text().replace("turing-test-service:8000", server.url.removeprefix("http://"))
        text = re.sub(r"(scrape_interval|evaluation_interval): \d+s", r"\1: 1s", text)
        if key is not None:
            text = re.sub(r"# (authorization:|  credentials_file:)", r"\1", text)
        (folder / name).write_text(text)
    if key is not None:
        (folder / "key").write_text(f"{key}\n")
    port = free_port()
    where = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    log = folder / "prometheus.log"
    process = start(log, ["prometheus", *where, f"--web.listen-address=127.0.0.1:{port}"])
    with answering(f"http://127.0.0.1:{port}", log, process, "/-/ready") as url:
        yield url


def requests() -> list[tuple[str, Any]]:
    """Return every kind of request, explanations among them and some that are rejected."""
    bodies = sample_bodies()
    messages = [
        {"text": "hi", "dialog_id": f"d{number % 3}", "id": str(number), "participant_index": number % 2}
        for number in range(9)
    ]
    predictions = [("predict", body) for body in [*bodies[:30], *messages, {"chat_id": 1}]]
    return [*predictions, ("predict_batch", {"chats": bodies[:8]}), ("explain", bodies[0]), ("nothing", {})]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run Prometheus beside a service under load, long enough for rates; yields its URL."""
    folder = tmp_path_factory.mktemp("watched")
    stop = threading.Event()

    def ask(url: str) -> None:
        while not stop.is_set():
            for path, body in requests():
                send(f"{url}/{path}", body)

    with running(folder, WORKERS="2") as server, prometheus(folder, server) as url, ThreadPoolExecutor(6) as clients:
        for _ in range(6):
            clients.submit(ask, server.url)
        try:
            wait_until(lambda: len(query(url, 'up{job="turing-test-service"}[1m]')) == 1)
            wait_until(lambda: bool(numbers(url, "turing_test:answers_high:ratio_rate6h")))
            stop.wait(8)
            yield url
        finally:
            stop.set()


@pytest.mark.prometheus
@pytest.mark.parametrize("query", [pytest.param(query, id=name) for name, query in queries().items()])
def test_every_query_of_the_dashboard_and_the_rules_returns_data(watched: str, query: str) -> None:
    assert numbers(watched, query)


@pytest.mark.prometheus
def test_under_load_no_alert_is_raised_no_rule_fails_and_the_metrics_fit_the_conventions(watched: str) -> None:
    groups = CLIENT.get(f"{watched}/api/v1/rules").json()["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert len(rules) == len(RULES)
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    for name in ("TuringTestNotReady", "TuringTestMetricsMissing", "TuringTestErrors"):
        assert rules[name]["state"] == "inactive", name
    targets = CLIENT.get(f"{watched}/api/v1/targets").json()["data"]["activeTargets"]
    (target,) = [target for target in targets if target["labels"]["job"] == "turing-test-service"]
    lines = send(target["scrapeUrl"]).text.splitlines()
    ours = [line for line in lines if "turing_test_" in line and "bentoml" not in line]
    promtool("check", "metrics", stdin="".join(f"{line}\n" for line in ours))


@pytest.mark.prometheus
def test_readiness_is_seen_and_a_key_opens_the_metrics(tmp_path: Path) -> None:
    with (
        running(tmp_path, API_KEYS="a-long-key", WORKERS="1") as server,
        prometheus(tmp_path, server, "a-long-key") as url,
    ):
        for job in ("turing-test-readiness", "turing-test-service"):
            wait_until(lambda job=job: numbers(url, f'up{{job="{job}"}}') == [1.0], 20)  # type: ignore[misc]
        server.process.terminate()
        wait_until(lambda: numbers(url, 'up{job="turing-test-readiness"}') == [0.0], 20)


def test_the_dashboard_shows_every_metric_of_the_chosen_instances_from_the_provisioned_source() -> None:
    (source,) = read("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["jsonData"]["timeInterval"] == read("prometheus.yml")["global"]["scrape_interval"]
    used = [part["datasource"] for panel in PANELS for part in (panel, *panel["targets"])]
    assert all(one == {"type": source["type"], "uid": source["uid"]} for one in used)
    for name, expression in TARGETS:
        assert expression.count('instance=~"$instance"') == expression.count("{"), name
    named = set(re.findall(r'"(turing_test_\w+)"', Path(metrics.__file__).read_text()))
    assert len(named) >= 6
    assert [name for name in named if not any(name in query for _, query in TARGETS)] == []


def test_compose_mounts_what_grafana_and_prometheus_read() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert "./monitoring:/etc/prometheus:ro" in services["prometheus"]["volumes"]
    assert "./monitoring/grafana/provisioning:/etc/grafana/provisioning:ro" in services["grafana"]["volumes"]
    path = read("grafana/provisioning/dashboards/turing-test.yml")["providers"][0]["options"]["path"]
    assert f"./monitoring/grafana/dashboards:{path}:ro" in services["grafana"]["volumes"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (MONITORING / "grafana" / "dashboards" / Path(home).name).is_file()
    for name in ("prometheus", "grafana"):
        assert re.search(r":v?\d+\.\d+\.\d+\}$", services[name]["image"]), "a fixed version"
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
