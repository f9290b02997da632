import numpy as np
import pytest

from models.features import (
    COUNTS,
    MAX_NGRAM,
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
    return list(pair_ngrams(np.array([word_hash(word) for word in words], np.uint64)))


def test_pairs_are_those_of_neighbours_in_a_message() -> None:
    (side,) = read_sides(make_chat((0, "one Two"), (0, "three")))
    pairs = [("\n", "one"), ("one", "two"), ("two", "\n"), ("\n", "three"), ("three", "\n")]
    assert buckets_of_pairs(*side.words)[:-1] == [buckets_of_pairs(*pair)[0] for pair in pairs]
    assert len(set(buckets_of_pairs(*side.words)[:-1])) == len(pairs)


def test_two_boundaries_are_no_pair() -> None:
    assert buckets_of_pairs("\n", "\n", "one")[0] == N_BUCKETS
    assert buckets_of_pairs("\n", "\n", "one")[1] < N_BUCKETS


def test_ngrams_are_stable_and_in_range() -> None:
    buckets = word_ngrams("ok")
    # 4 + 3 + 2 + 1 n-grams of " ok ", and the word itself
    assert len(buckets) == sum(4 - n + 1 for n in range(1, MAX_NGRAM + 1)) + 1
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


def test_talk_tells_who_does_what() -> None:
    chat = make_chat((0, "Hi."), (1, "how are you"), (0, "how are you"), (0, "Hi."))
    first, second = ({name: side.talk[at] for at, name in enumerate(TALK)} for side in read_sides(chat))
    assert (first["opens the chat"], second["opens the chat"]) == (1, 0)
    assert (first["has the last word"], second["has the last word"]) == (UNKNOWN, UNKNOWN)
    assert (first["writes twice in a row"], second["writes twice in a row"]) == (1 / 3, 0)
    assert first["repeats own messages"] == pytest.approx(1 / 3)
    assert first["repeats the other one's messages"] == pytest.approx(1 / 3)
    assert second["repeats the other one's words"] == 1
    assert first["ends with a full stop"] == pytest.approx(2 / 3)


def test_who_has_the_last_word_is_known_in_finished_chats_only() -> None:
    chat = make_chat((0, "a"), (1, "b"), (0, "c"))
    at = list(TALK).index("has the last word")
    assert [side.talk[at] for side in read_sides(chat)] == [UNKNOWN, UNKNOWN]
    assert [side.talk[at] for side in read_sides(chat.model_copy(update={"finished": True}))] == [1, 0]


def test_doubled_words_have_buckets_of_their_own() -> None:
    doubled = [buckets_of_pairs(word, word)[0] for word in ("ha", "no", "так", "hi", "да", "ok", "ну", "бла")]
    assert len(set(doubled)) == len(doubled)
    assert buckets_of_pairs("one", "two")[0] != buckets_of_pairs("two", "one")[0]


def test_an_empty_text_is_a_turn_without_words() -> None:
    side, _ = read_sides(make_chat((0, ""), (1, "?")))
    assert side.words == ["\n"]
    assert side.talk[list(TALK).index("empty messages")] == 1
    assert side.talk[list(TALK).index("repeats own words")] == 0
    assert np.isfinite(side.talk).all()


def test_words_of_punctuation_are_words() -> None:
    chat = make_chat((0, "?"), (1, ")))"), (0, "... ??"), (1, "ok )"))
    own, other = (list(TALK).index(f"repeats {whose} words") for whose in ("own", "the other one's"))
    first, second = (side.talk for side in read_sides(chat))
    assert (first[own], second[own]) == pytest.approx((1 / 3, 1 / 3))  # of "?", "." and "?", and of ")", "ok" and ")"
    assert (first[other], second[other]) == (0, 0)


def test_the_others_are_averaged() -> None:
    source = np.random.default_rng(0)
    sums, talk = source.random((3, len(SUMS))) * 9, source.random((3, len(TALK)))
    signals = combine(sums, talk, np.array([3]))
    own, others = np.split(signals, 2, axis=1)
    assert others == pytest.approx(np.array([own[[1, 2]].mean(0), own[[0, 2]].mean(0), own[[0, 1]].mean(0)]))
