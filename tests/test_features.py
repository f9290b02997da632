import numpy as np
import pytest

from models.features import (
    COUNTS,
    N_BUCKETS,
    TALK,
    UNKNOWN,
    pair_ngrams,
    read_sides,
    word_counts,
    word_hash,
    word_ngrams,
)
from models.signals import SUMS, combine
from tests.conftest import make_chat


def test_sides_stand_in_the_order_of_first_appearance() -> None:
    sides = read_sides(make_chat(("b", "hi"), (7, "hello there"), ("b", "bye")))
    assert [side.participant_id for side in sides] == ["b", 7]
    assert [side.words for side in sides] == [["\n", "hi", "\n", "bye", "\n"], ["\n", "hello", "there", "\n"]]


def buckets_of_pairs(*words: str) -> list[int]:
    return list(pair_ngrams(np.array([word_hash(word) for word in words], np.uint64)))[:-1]


def test_pairs_are_those_of_neighbours_in_a_message_and_two_boundaries_are_none() -> None:
    (side,) = read_sides(make_chat((0, "one Two"), (0, "three")))
    pairs = [("\n", "one"), ("one", "two"), ("two", "\n"), ("\n", "three"), ("three", "\n")]
    assert buckets_of_pairs(*side.words) == [buckets_of_pairs(*pair)[0] for pair in pairs]
    assert len({N_BUCKETS, *buckets_of_pairs(*side.words)}) == len(pairs) + 1
    assert buckets_of_pairs("\n", "\n") == [N_BUCKETS]


def test_doubled_words_have_buckets_of_their_own() -> None:
    doubled = [buckets_of_pairs(word, word)[0] for word in ("ha", "no", "так", "hi", "да", "ok", "ну", "бла")]
    assert len(set(doubled)) == len(doubled)
    assert buckets_of_pairs("one", "two") != buckets_of_pairs("two", "one")


def test_ngrams_are_stable_and_in_range() -> None:
    buckets = word_ngrams("ok")
    assert len(buckets) == 4 + 3 + 2 + 1 + 1  # n-grams of " ok " by their length, and the word itself
    assert buckets.max() < N_BUCKETS
    assert np.array_equal(buckets, word_ngrams("OK"))
    assert buckets[0] == 0xE96CCF45 % N_BUCKETS  # CRC-32 of a space


@pytest.mark.parametrize(
    ("word", "column", "count"),
    [
        ("Привет,", "Cyrillic letters", 6),
        ("Hello", "Latin letters", 5),
        ("ok)))", "brackets as smiles", 3),
        ("wait...", "full stops", 3),
        ("—", "dashes", 1),
        ("😀😀", "emoji", 2),
        ("Moscow", "capitalised words", 1),
        ("16:45", "digits", 4),
        ("как,", "commas", 1),
        ("好。", "full stops", 1),
        ("好？", "question marks", 1),
        ("$5", "other signs", 1),
        ("👨\u200d👩\u200d👧", "emoji", 3),
        ("👍🏽", "other signs", 0),
        ("extraordinary", "long words", 1),
    ],
)
def test_words_are_counted(word: str, column: str, count: int) -> None:
    assert word_counts(word)[COUNTS.index(column)] == count


FOUR = [(0, "Hi."), (1, "how are you"), (0, "how are you"), (0, "Hi.")]
PUNCTUATION = [(0, "?"), (1, ")))"), (0, "... ??"), (1, "ok )")]  # words are "?", "." and "?", and ")", "ok" and ")"


@pytest.mark.parametrize(
    ("turns", "name", "values"),
    [
        (FOUR, "opens the chat", [1, 0]),
        (FOUR, "has the last word", [UNKNOWN, UNKNOWN]),
        (FOUR, "writes twice in a row", [1 / 3, 0]),
        (FOUR, "repeats own messages", [1 / 3, 0]),
        (FOUR, "repeats the other one's messages", [1 / 3, 1]),
        (FOUR, "repeats the other one's words", [3 / 5, 1]),
        (FOUR, "ends with a full stop", [2 / 3, 0]),
        (PUNCTUATION, "repeats own words", [1 / 3, 1 / 3]),
        (PUNCTUATION, "repeats the other one's words", [0, 0]),
        ([(0, ""), (1, "?")], "repeats own words", [0, 0]),
    ],
)
def test_talk_tells_who_does_what(turns: list[tuple[int, str]], name: str, values: list[float]) -> None:
    sides = read_sides(make_chat(*turns))
    assert [side.talk[list(TALK).index(name)] for side in sides] == pytest.approx(values)
    assert all(np.isfinite(side.talk).all() for side in sides)


def test_who_has_the_last_word_is_known_in_finished_chats() -> None:
    chat = make_chat((0, "a"), (1, "b"), (0, "c")).model_copy(update={"finished": True})
    assert [side.talk[list(TALK).index("has the last word")] for side in read_sides(chat)] == [1, 0]


def test_the_others_are_averaged() -> None:
    source = np.random.default_rng(0)
    sums, talk = source.random((3, len(SUMS))) * 9, source.random((3, len(TALK)))
    signals = combine(sums, talk, np.array([3]))
    own, others = np.split(signals, 2, axis=1)
    assert others == pytest.approx(np.array([own[[1, 2]].mean(0), own[[0, 2]].mean(0), own[[0, 1]].mean(0)]))
