"""mosec with dynamic batches, over the plain pipeline."""

from typing import Any

from mosec import Server, ValidationError, Worker

from benchmarks.peers.scorers import load
from models.chat import Chat


class Scorer(Worker):
    """Scores a batch of chats."""

    def __init__(self) -> None:
        super().__init__()
        self.score = load("plain")

    def deserialize(self, data: bytes) -> Chat:
        """Read one chat."""
        try:
            return Chat.model_validate_json(data)
        except ValueError as error:
            raise ValidationError("not a chat") from error

    def forward(self, data: list[Chat]) -> list[Any]:
        """Score a batch."""
        return [answer.model_dump() for answer in self.score(data)]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Scorer, num=1, max_batch_size=64, max_wait_time=5, route="/predict")
    server.run()
