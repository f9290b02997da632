"""Build the image of a Bento: BentoML's own containerizer, with what its Dockerfile cannot say.

BentoML's Dockerfile exposes ports 3000 and 3001 whatever the service listens on, and has no health check. A Dockerfile
template could change that, but from BentoML 1.4.36 on a Bento with a template cannot be containerized (BentoML issue
5566). So this registers a builder, which BentoML has an interface for, that ends BentoML's Dockerfile with the lines
that end the project's own `Dockerfile`: both images have the same port, health check and labels.

    python -m containerize turing_test_service:TAG -t IMAGE [--platform linux/arm64] [--network host]
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bentoml

DOCKERFILE = Path(__file__).parent / "Dockerfile"
FOR_BOTH = "# From here on for both images"


def amend(dockerfile: str) -> str:
    """Replace the ports that a Dockerfile of BentoML exposes by the lines that end the project's own."""
    _, marker, ours = DOCKERFILE.read_text(encoding="utf-8").partition(FOR_BOTH)
    if not marker:
        raise ValueError(f"{DOCKERFILE} has no line {FOR_BOTH!r}")
    return re.sub(r"^EXPOSE .*\n", "", dockerfile, flags=re.MULTILINE) + f"\n{marker}{ours}"


def revision() -> str:
    """Return the commit of the working tree, with `-dirty` where files differ from it; `unknown` outside of Git."""
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or "unknown"


def source() -> str:
    """Return the web address of the repository, without credentials; `unknown` where it has none."""
    address = urlsplit(_git("config", "--get", "remote.origin.url"))
    return f"https://{address.hostname}{address.path}" if address.scheme == "https" else "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # the arguments are those of this file
            ["git", *arguments],  # noqa: S607  # Git is where the PATH says
            cwd=DOCKERFILE.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def build_arguments(*, file: str, **options: Any) -> Any:
    """Return the arguments of `docker build`, as BentoML's builder has them, for the amended Dockerfile."""
    dockerfile = Path(file)
    dockerfile.write_text(amend(dockerfile.read_text(encoding="utf-8")), encoding="utf-8")
    return bentoml.container.get_backend("docker").construct_build_args(file=file, **options)


def main(arguments: list[str] | None = None) -> int:
    """Build the image that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m containerize", description="Build the image of a Bento.")
    parser.add_argument("bento", help="tag of the Bento, NAME:VERSION")
    parser.add_argument("-t", "--tag", required=True, help="name of the image")
    parser.add_argument("--platform", help="such as linux/arm64; the machine's own without it")
    parser.add_argument("--network", help="network of the build's commands, such as host")
    parsed = parser.parse_args(arguments)

    docker = bentoml.container.get_backend("docker")
    bentoml.container.register_backend(
        "amended",
        binary=docker.binary,
        env=docker.env,
        buildkit_support=docker.enable_buildkit,
        health=docker.health,
        construct_build_args=build_arguments,
    )
    options: dict[str, Any] = {
        "backend": "amended",
        "tag": (parsed.tag,),
        "build_arg": {
            "VERSION": str(bentoml.get(parsed.bento).tag.version),
            "REVISION": revision(),
            "SOURCE": source(),
        },
        "platform": parsed.platform,
        "network": parsed.network,
    }
    built = bentoml.container.build(parsed.bento, **options)
    return 0 if built is not None else 1  # BentoML logs why not


if __name__ == "__main__":
    sys.exit(main())
