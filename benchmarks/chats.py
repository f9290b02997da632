"""Random chats with the lengths of real ones.

Words are built from syllables and drawn by Zipf's law, so that some are frequent and many occur once, as in real chats.
Lengths are log-normal, with the means and standard deviations of the You are Bot data of 2025 and 2026: on average a
chat has 7 messages, about 30 words and 240 characters.
"""

from typing import Any

import numpy as np

MESSAGES = (1.84, 0.52)  # mean and standard deviation of the logarithm of the number of messages in a chat
WORDS = (1.0, 0.91)  # the same of the words in a message
VOCABULARY = 20_000
_SYLLABLES = [consonant + vowel for consonant in "бвгджзклмнпрстхш" for vowel in "аеиоуы"]


def draw_chats(number: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return chats as bodies of `/predict`; `chat_id` is their index."""
    draw = np.random.default_rng(seed)
    words = ["".join(draw.choice(_SYLLABLES, draw.integers(1, 7))) for _ in range(VOCABULARY)]
    chance = 1 / np.arange(1, VOCABULARY + 1)
    chance /= chance.sum()

    def text() -> str:
        length = min(150, max(1, round(draw.lognormal(*WORDS))))
        said = " ".join(words[index] for index in draw.choice(VOCABULARY, length, p=chance))
        return f"{said}{draw.choice(['', '', '', '.', '?', ')'])}"

    def chat(chat_id: int) -> dict[str, Any]:
        length = min(60, max(2, round(draw.lognormal(*MESSAGES))))
        return {
            "chat_id": chat_id,
            "messages": [{"message_id": n, "text": text(), "participant_id": n % 2} for n in range(length)],
        }

    return [chat(chat_id) for chat_id in range(number)]
