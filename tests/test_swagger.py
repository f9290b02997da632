"""Swagger UI at `/`, in a real browser."""

import json

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.conftest import CURL_CHAT, Server, find_chromium

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.mark.browser
def test_try_it_out_scores_the_example_and_loads_nothing_from_other_hosts(server: Server) -> None:
    """On a host other than localhost, where Swagger UI would contact its online validator."""
    home = f"http://bots.example:{server.url.rsplit(':', 1)[1]}/"
    asked: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        options = [*OPTIONS, "--host-resolver-rules=MAP bots.example 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        page = browser.new_page(viewport={"width": 1200, "height": 1400})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        opened = page.goto(home)
        assert opened is not None
        assert "default-src 'none'" in opened.headers["content-security-policy"]
        route = page.locator(".opblock").filter(has=page.locator("[data-path='/predict']"))
        route.locator(".opblock-summary-control").click()
        route.get_by_role("button", name="Try it out").click()
        assert json.loads(route.locator("textarea.body-param__text").input_value()) == CURL_CHAT
        route.get_by_role("button", name="Execute").click()
        answer = route.locator(".live-responses-table .response")
        expect(answer.locator(".response-col_status")).to_contain_text("200")
        expect(answer.locator(".response-col_description")).to_contain_text("is_bot_probability")
        page.wait_for_load_state("networkidle")
        browser.close()
    assert f"{home}predict" in asked
    assert [url for url in asked if not url.startswith(("data:", home))] == []
    assert complaints == [], "the content security policy blocked nothing"
