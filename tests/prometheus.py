"""Shared by the tests that ask a Prometheus server."""

from typing import Any

from tests.conftest import CLIENT


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """Return the series of an instant query."""
    answer = CLIENT.get(f"{url}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def numbers(url: str, expression: str) -> list[float]:
    """Return the values of an instant query that are numbers."""
    values = [float(series["value"][1]) for series in query(url, expression)]
    return [value for value in values if value == value]
