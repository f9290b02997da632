"""The library in the checkout; `tests/test_wheel.py` has what is installed."""

import re
from functools import partial
from html import unescape
from typing import Any

import pytest

import models
from models import Chat, Classifier, InvalidChatError
from models.__main__ import main as score_main
from models.explain import explain
from models.tables import MOST_ROWS
from models.weights import SHIPPED
from tests.conftest import CURL_CHAT, sample_bodies
from train.__main__ import main as train_main

MARKUP = "<script>alert('&')</script>"


@pytest.fixture(scope="module")
def library() -> Classifier:
    return Classifier.load()


def said(participants: int = 1, **message: Any) -> dict[str, Any]:
    """Return a chat in which each participant says the same."""
    messages = [{"message_id": at, "text": "hi", "participant_id": at, **message} for at in range(participants)]
    return {"chat_id": 1, "messages": messages}


def text_of(html: str) -> str:
    """Return what a piece of HTML shows."""
    return unescape(re.sub("<[^>]*>", "", html))


def test_a_dict_a_chat_and_lists_of_them_get_the_classifiers_answers(
    library: Classifier, classifier: models.classifier.Classifier
) -> None:
    bodies = sample_bodies()
    chats = [Chat.model_validate(body) for body in bodies]
    alone, explained = classifier.predict(chats[:1])[0].model_dump(), explain(classifier, chats[0]).model_dump()
    for one in (bodies[0], chats[0]):
        assert library.predict(one).model_dump() == alone
        assert library.explain(one).model_dump() == explained
    together = [prediction.model_dump() for prediction in classifier.predict(chats[:2])]
    assert [prediction.model_dump() for prediction in library.predict([bodies[0], chats[1]])] == together
    assert library.predict(iter([])) == []
    many = library.predict(body for _ in range(2) for body in bodies)
    assert [prediction.chat_id for prediction in many] == 2 * [body["chat_id"] for body in bodies]


def test_the_model_folder_is_a_path_or_a_string(library: Classifier) -> None:
    assert Classifier.load(str(SHIPPED)).version == Classifier.load(SHIPPED).version == library.version
    with pytest.raises(models.ModelError, match=r"no-such-folder/metrics\.json: No such file"):
        Classifier.load("no-such-folder")


@pytest.mark.parametrize(
    ("ask", "chat", "message"),
    [
        ("predict", {"chat_id": 1}, "messages: Field required"),
        ("predict", {**CURL_CHAT, "messages": []}, "messages: List should have at least 1 item"),
        ("predict", [CURL_CHAT, {**CURL_CHAT, "chat_id": 1.5}], r"chats\[1\]\.chat_id: Input should be an integer"),
        ("predict", [said(text=["secret"])], r"^chats\[0\]\.messages\[0\]\.text: Input should be a valid string$"),
        ("predict", [3], r"chats\[0\]: Input should be a valid dictionary"),
        ("explain", said(message_id=None), r"messages\[0\]\.message_id: Input should be an integer"),
        ("explain", said(65), "At most 64 participants are explained"),
    ],
)
def test_an_error_names_the_field_and_repeats_no_text(library: Classifier, ask: str, chat: Any, message: str) -> None:
    with pytest.raises(InvalidChatError, match=message):
        getattr(library, ask)(chat)


def test_the_share_of_bots_is_that_of_the_model_or_of_one_call(library: Classifier) -> None:
    rare = library.predict(CURL_CHAT, expected_bot_share=0.02)
    assert rare == Classifier.load(expected_bot_share=0.02).predict(CURL_CHAT)
    assert [rare] == library.predict([CURL_CHAT], expected_bot_share=0.02)
    assert rare.participants[0].is_bot_probability < library.predict(CURL_CHAT).participants[0].is_bot_probability


@pytest.mark.parametrize("share", ["0", "nan"])
def test_a_share_that_is_none_is_rejected_in_the_same_words_by_the_library_and_the_commands(
    library: Classifier, capsys: pytest.CaptureFixture[str], share: str
) -> None:
    error = f"the expected share of bots has to be between 0 and 1, not {share}"
    for ask in (Classifier.load, partial(library.predict, CURL_CHAT)):
        with pytest.raises(ValueError, match=f"^{error}$"):
            ask(expected_bot_share=float(share))
    for main, *arguments in ((score_main, "score", "c", "--out", "-"), (train_main, "predict", "models", "c")):
        with pytest.raises(SystemExit, match="2"):
            main([*arguments, f"--expected-bot-share={share}"])
        assert capsys.readouterr().err.endswith(f"argument --expected-bot-share: {error}\n")


@pytest.mark.parametrize("value", ["chat", b"chat", 3])
def test_what_is_neither_a_chat_nor_a_list_is_a_type_error(library: Classifier, value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        library.predict(value)


def test_a_notebook_shows_tables_in_which_what_was_sent_is_escaped(library: Classifier) -> None:
    """Of a long list, the first chats."""
    messages = [
        {"message_id": MARKUP, "text": MARKUP, "participant_id": MARKUP},
        {"message_id": 1, "text": "hi", "participant_id": 1},
    ]
    chat = {"chat_id": MARKUP, "messages": messages}
    prediction, many = library.predict(chat), library.predict([chat] * (MOST_ROWS + 1))
    probability = prediction.participants[0].is_bot_probability
    for shown in (prediction, many, library.explain(chat)):
        html = shown._repr_html_()
        assert MARKUP in text_of(html)
        assert f"{probability:.3f}" in text_of(html)
        assert set(re.findall("</?([^ >]*)", html)) <= {"table", "thead", "tbody", "tr", "th", "td", "span", "p", "b"}
    assert f"width:{100 * probability:.1f}%" in prediction._repr_html_()
    assert f"{MOST_ROWS} of {MOST_ROWS + 1} chats are shown." in text_of(many._repr_html_())
