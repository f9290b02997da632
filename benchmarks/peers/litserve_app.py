"""LitServe with batches, over the plain pipeline."""

import sys
from typing import Any

import litserve

from benchmarks.peers.scorers import load
from models.chat import Chat, Prediction


class Api(litserve.LitAPI):
    """Scores a batch of chats."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's signature
        """Load the scorer, once for each worker."""
        self.score = load("plain")

    def decode_request(self, request: dict[str, Any]) -> Chat:
        """Read one chat."""
        return Chat.model_validate(request)

    def batch(self, inputs: list[Chat]) -> list[Chat]:
        """Join chats to a batch."""
        return inputs

    def predict(self, x: list[Chat]) -> list[Prediction]:
        """Score a batch."""
        return self.score(x)

    def unbatch(self, output: list[Prediction]) -> list[Prediction]:
        """Take a batch apart."""
        return output

    def encode_response(self, output: Prediction) -> dict[str, Any]:
        """Write one answer."""
        return output.model_dump()


if __name__ == "__main__":
    api = Api(max_batch_size=64, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
