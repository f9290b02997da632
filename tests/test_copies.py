import numpy as np

from models.chat import Chat
from tests.conftest import make_chat
from train.copies import excerpt, last_answers, split
from train.evaluate import shift

LONG_CHAT = make_chat(*((at % 2, f"this is message number {at}") for at in range(200)))


def texts(chat: Chat) -> list[str]:
    return [message.text for message in chat.messages]


def test_splitting_keeps_every_word_and_who_said_it_and_short_messages() -> None:
    copy = split(LONG_CHAT, np.random.default_rng(1))
    assert 260 < len(copy.messages) < 300
    words = [[(m.participant_id, word) for m in chat.messages for word in m.text.split()] for chat in (LONG_CHAT, copy)]
    assert words[0] == words[1]
    chat = make_chat(*((at % 2, "three words only") for at in range(100)))
    assert texts(split(chat, np.random.default_rng(1))) == texts(chat)


def test_an_excerpt_is_not_finished_and_has_at_least_one_message() -> None:
    chat = make_chat((0, "a"), (1, "b"), (0, "c")).model_copy(update={"finished": True})
    for slices, left in (({"end": -1}, "ab"), ({"start": 1}, "bc"), ({"end": 1}, "a"), ({"start": 3}, "abc")):
        part = excerpt(chat, **slices)
        assert texts(part) == list(left)
        assert not part.finished


def test_half_of_the_shifted_chats_lose_their_end() -> None:
    chat = make_chat((0, "a"), (1, "b"), (0, "c"))
    lengths = [len(shift(chat, np.random.default_rng(seed)).messages) for seed in range(400)]
    assert set(lengths) == {2, 3}
    assert 160 < lengths.count(2) < 240


def test_the_last_answers_are_at_each_participants_last_message() -> None:
    chat = make_chat(("b", "1"), ("a", "2"), ("b", "3"), ("b", "4"), ("a", "5"))
    assert last_answers(chat) == {"b": 4, "a": 5}
    assert last_answers(chat, 3) == {"b": 3, "a": 2}
    assert list(last_answers(chat)) == ["b", "a"]
    assert last_answers(chat, 1) == {"b": 1}
