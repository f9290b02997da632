"""Every platform: the image for linux/arm64, and one tag in a registry for it and linux/amd64.

The machine runs arm64 emulated. The base image is taken from a registry on localhost, which holds it for both
platforms, as the official one is: a company's mirror looks like that, too.
"""

import json
from pathlib import Path

import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import answering, sample_bodies, send, start
from tests.engine import NETWORK, container, docker, inspect, remove_images, sh

pytestmark = [pytest.mark.docker, pytest.mark.arm64]
PLATFORMS = ("linux/amd64", "linux/arm64")
BASE = "python:3.11-slim"
ADDRESS = "localhost:5000"  # the same each time: the base's name is in the first layer, and Docker caches the others


def base_of(architecture: str) -> str:
    """Return the name of a local base image for an architecture, which is pulled where there is none."""
    for name in (f"{BASE}-{architecture}", BASE):
        if docker("images", "-q", name) and inspect(name)["Architecture"] == architecture:
            return name
    docker("pull", "--platform", f"linux/{architecture}", BASE)
    return BASE


def mirror_base() -> str:
    """Put the base image for both platforms into the registry under one name; returns the name."""
    parts = []
    for platform in PLATFORMS:
        architecture = platform.rpartition("/")[2]
        parts.append(f"{ADDRESS}/{BASE}-{architecture}")
        docker("tag", base_of(architecture), parts[-1])
        docker("push", "-q", parts[-1])
    docker("buildx", "imagetools", "create", "-t", f"{ADDRESS}/{BASE}", *parts)
    remove_images(*parts)
    return f"{ADDRESS}/{BASE}"


def test_push_gives_one_tag_for_both_platforms_and_arm64_answers_the_same(
    tmp_path: Path, classifier: Classifier
) -> None:
    log = tmp_path / "registry.log"
    (tmp_path / "registry.yml").write_text(
        f"{{version: 0.1, storage: {{filesystem: {{rootdirectory: {tmp_path}/images}}}}, http: {{addr: '{ADDRESS}'}}}}"
    )
    process = start(log, ["docker-registry", "serve", str(tmp_path / "registry.yml")])
    name = f"{ADDRESS}/turing_test_service:1"
    with answering(f"http://{ADDRESS}", log, process, "/v2/"):
        command = f"make push IMAGE={name} BASE_IMAGE={mirror_base()} BUILD_NETWORK={NETWORK} VERSION=both"
        sh(command, BENTOML_HOME=str(tmp_path / "bentoml"), PLATFORMS=" ".join(PLATFORMS))
        index = json.loads(docker("buildx", "imagetools", "inspect", "--raw", name))
    try:
        found = [f"{part['platform']['os']}/{part['platform']['architecture']}" for part in index["manifests"]]
        assert sorted(found) == sorted(PLATFORMS)
        arm64 = inspect(f"{name}-arm64")
        assert arm64["Architecture"] == "arm64"
        print(f"arm64: {arm64['Size'] / 1e6:.0f} MB, its base {inspect(base_of('arm64'))['Size'] / 1e6:.0f}")
        bodies = sample_bodies()
        expected = classifier.predict([Chat.model_validate(body) for body in bodies])
        # emulated, a health check takes longer than it may
        options = ["--platform", "linux/arm64", "--no-healthcheck", "-e", "WORKERS=1"]
        with container(*options, image=f"{name}-arm64", seconds=240) as started:
            assert started.exec("uname", "-m") == "aarch64"
            answer = send(f"{started.url}/predict_batch", {"chats": bodies}).json["predictions"]
        for got, wanted in zip(answer, expected, strict=True):
            assert [side["is_bot_probability"] for side in got["participants"]] == pytest.approx(
                [side.is_bot_probability for side in wanted.participants], abs=1e-9
            )
    finally:
        remove_images(*(f"{name}-{platform.rpartition('/')[2]}" for platform in PLATFORMS))
