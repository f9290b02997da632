import unicodedata

import pytest

from models.classifier import Classifier
from models.texts import find_words, normal_form, read_text
from tests.conftest import make_chat

FAMILY, SCOTLAND = "👨\u200d👩\u200d👧", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("plain", "plain"),
        ("\u200ehi \u200fthere\ufeff", "hi there"),
        ("co\u00adop\u200berate", "cooperate"),
        ("и\u0306од", "йод"),
        ("и\u200b\u0306од", "йод"),
        (f"{FAMILY} {SCOTLAND} ❤\ufe0f", f"{FAMILY} {SCOTLAND} ❤\ufe0f"),
        ("a\u200db\ufe0f", "ab"),
        ("می\u200cخواهم", "میخواهم"),
    ],
)
def test_what_nobody_sees_is_left_out(text: str, normal: str) -> None:
    assert normal_form(text) == normal


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" one  two\nthree ", ["one", "two", "three"]),
        ("你好世界，今天", ["你好", "世界", "，", "今天"]),
        ("ok你好ok", ["ok", "你好", "ok"]),
        ("สวัสดี", ["สว", "ัส", "ดี"]),
        ("привет, как", ["привет,", "как"]),
    ],
)
def test_words_are_split_at_white_space_or_by_two_characters(text: str, words: list[str]) -> None:
    assert read_text(text)[1] == words
    assert [word for _, _, word in find_words(text)] == words


def test_every_character_is_read_in_the_normal_form() -> None:
    """Texts of common characters take a shorter way, which has to lead to the same."""
    for char in map(chr, range(0x20000)):
        text = normal_form(f" a{char}b ").strip()
        assert read_text(f" a{char}b ") == (text, [word for _, _, word in find_words(text)]), hex(ord(char))


def test_words_are_found_where_they_stand_in_the_text_as_it_was_written() -> None:
    text = "\u200eи\u0306од \u200b か\u3099き"
    found = find_words(text)
    assert [word for _, _, word in found] == read_text(text)[1] == ["йод", "がき"]
    assert [normal_form(text[start:end]) for start, end, _ in found] == ["йод", "がき"]


TURNS = [(0, "Привет! Как твой день?"), (1, "всё ок, й там ёлка"), (0, "Что нового на работе?"), (1, "ничего, скука")]


@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: f"\u200e{text}",
        lambda text: f"\ufeff{text}",
        lambda text: text.replace(" ", " \u200b"),
        lambda text: "\u00ad".join(text),
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: "\u00ad".join(unicodedata.normalize("NFD", text)),
    ],
    ids=["direction mark", "byte order mark", "zero width space", "soft hyphens", "decomposed", "both"],
)
def test_marks_that_nobody_sees_change_no_answer(classifier: Classifier, disguise: object) -> None:
    asked = [make_chat(*TURNS), make_chat(*((who, disguise(text)) for who, text in TURNS))]  # type: ignore[operator]
    plain, disguised = classifier.predict(asked)
    assert plain.participants == disguised.participants
