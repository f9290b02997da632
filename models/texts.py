"""How a text is read: in one normal form, and as words.

One text can be stored in several ways that look alike: with composed or decomposed letters (macOS), with marks that
nobody sees (a byte order mark, a soft hyphen, marks for the direction of writing). What is shown and stored keeps them;
what is counted is the normal form.
"""

import re
from unicodedata import normalize

# Category Cf and Default_Ignorable_Code_Point of Unicode 15 (UnicodeData.txt, DerivedCoreProperties.txt).
UNSEEN = (
    "\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_EMOJI = "\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
# An emoji sequence (UTS #51), such as a family or the flag of Scotland, or unseen marks.
_SEQUENCE_OR_UNSEEN = re.compile(
    f"([{_EMOJI}](?:[\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]|\u200d[{_EMOJI}])+)|[{UNSEEN}]+"
)
# Scripts written without spaces: Thai, Lao, Burmese, Khmer, kana and Han, without the marks that NFC composes.
_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u3096\u309d-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Text between white space; in scripts without spaces, a word is two characters or a last single one.
_WORD = re.compile(f"(?:[{_NO_SPACES}][\u3099\u309a{UNSEEN}]*){{1,2}}|[^\\s{_NO_SPACES}]+")
# Latin and Cyrillic letters, and common signs: a text of these alone is in normal form, with spaces between its words.
_BEYOND_PLAIN = re.compile("[^\u0000-\u00ac\u00ae-\u02ff\u0400-\u0482\u048a-\u04ff\u2010-\u2027]")


def read_text(text: str) -> tuple[str, list[str]]:
    """Return a text in normal form, without white space around it, and its words."""
    if _BEYOND_PLAIN.search(text):
        text = normal_form(text).strip()
        return text, _WORD.findall(text)
    return text.strip(), text.split()  # the same, three times as fast


def normal_form(text: str) -> str:
    """Return a text in Unicode's form NFC without characters that nobody sees; emoji sequences stay whole."""
    # in this order, because a mark between a letter and its accent keeps them apart
    return normalize("NFC", _SEQUENCE_OR_UNSEEN.sub(lambda found: found[1] or "", text))


def find_words(text: str) -> list[tuple[int, int, str]]:
    """Return the words of a text as it was sent: where each begins and ends, and its normal form."""
    found = ((match.start(), match.end(), normal_form(match[0])) for match in _WORD.finditer(text))
    return [place for place in found if place[2]]
