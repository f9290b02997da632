"""Swagger UI at `/`, in a real browser."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.conftest import CURL_CHAT, Server, find_chromium

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.mark.browser
def test_try_it_out_scores_the_example(server: Server, tmp_path: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=OPTIONS)
        page = browser.new_page(viewport={"width": 1200, "height": 1400})
        page.goto(server.url)
        route = page.locator(".opblock").filter(has=page.locator("[data-path='/predict']"))
        route.locator(".opblock-summary-control").click()
        route.get_by_role("button", name="Try it out").click()
        assert json.loads(route.locator("textarea.body-param__text").input_value()) == CURL_CHAT
        route.get_by_role("button", name="Execute").click()
        answer = route.locator(".live-responses-table .response")
        expect(answer.locator(".response-col_status")).to_contain_text("200")
        expect(answer.locator(".response-col_description")).to_contain_text("is_bot_probability")
        page.screenshot(path=tmp_path / "swagger.png", full_page=True)
        browser.close()
