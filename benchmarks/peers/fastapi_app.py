"""FastAPI; `SCORER` names what stands behind it."""

import os

from fastapi import FastAPI

from benchmarks.peers.scorers import load
from models.chat import Chat, Prediction

app = FastAPI()
score = load(os.environ["SCORER"])


@app.post("/predict")
async def predict(chat: Chat) -> Prediction:
    """Score one chat."""
    return score([chat])[0]
