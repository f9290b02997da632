"""The base of the Bento's image: that of the project's own Dockerfile, so that both images have the same Python."""

import os
import re
from pathlib import Path
from typing import Any

DOCKERFILE = Path(__file__).parent.parent / "Dockerfile"


def read_base() -> dict[str, Any]:
    """Return the base image, the variable `BASE_IMAGE` or the Dockerfile's, and the version of Python in it.

    Both are arguments of `bentoml.images.Image`.
    A tag such as `3.13-slim` names the version; a base image with another tag has that of the Dockerfile's. Without the
    version, BentoML would take that of the machine on which the Bento is built.
    """
    default = re.findall(r"^ARG BASE_IMAGE=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)[0]
    base_image = os.environ.get("BASE_IMAGE") or default
    (version, *_) = re.findall(r":(\d+\.\d+)", base_image) + re.findall(r":(\d+\.\d+)", default)
    return {"base_image": base_image, "python_version": version}
