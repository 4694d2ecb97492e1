"""Text of strangers in messages cannot act on a terminal."""

import json

import pytest

import saconv_surgeon as surgeon
from saconv_surgeon.errors import raised_as, visible, visible_lines
from saconv_surgeon.records import json_escaped

ACTING = {
    "escape sequence": "\x1b[2K",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://x\x07",
    "carriage return": "\r",
    "backspace": "\b\b",
    "delete": "\x7f",
    "C1 introducer": "\x9b2J",
    "C1 next line": "\x85",
    "null": "\0",
    "vertical tab and form feed": "\x0b\x0c",
    "override": "\u202e",
    "embedding": "\u202a\u202b\u202c\u202d",
    "isolates": "\u2066\u2067\u2068\u2069",
    "marks of direction": "\u200e\u200f\u061c",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff",
    "soft hyphen": "\u00ad",
    "separators of lines": "\u2028\u2029",
    "tags": "\U000e0041\U000e007f",
    "fillers": "\u115f\u1160\u3164\uffa0\u2800\u034f",
    "selectors": "\ufe00\U000e0100",
    "half characters": "\ud800 \udcff",
    "private use": "\ue000",
}


@pytest.mark.parametrize("kind", ACTING)
def test_what_acts_is_an_escape(kind):
    """Whatever is left is printable ASCII, and reads back as what it was."""
    text = ACTING[kind]
    for shown in (visible(f"a{text}b"), visible_lines(f"a{text}b"), str(surgeon.ModelError(f"a{text}b"))):
        assert shown.isascii() and shown.isprintable()
        assert shown.encode().decode("unicode_escape") == f"a{text}b"


@pytest.mark.parametrize("kind", ACTING)
def test_json_says_it_in_its_own_escapes(kind):
    value = {f"k{ACTING[kind]}": [ACTING[kind], "→ é 网"]}
    shown = json_escaped(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(shown) == value
    assert "→ é 网" in shown
    assert all(c == "\n" or c.isprintable() for c in shown)


@pytest.mark.parametrize("text", ["plain", "é → 网络", "مرحبا", "👩‍👩‍👧‍👦 ❤️", "a b", "[red]x[/red]", "\\x1b"])
def test_what_shows_stays(text):
    assert visible(text) == visible_lines(text) == text


def test_lines_and_tabs_stay_in_messages_only():
    assert visible_lines("a\n\tb\r\n") == "a\n\tb\\r\n"
    assert visible("a\n\tb") == "a\\n\\tb"


def test_a_stage_says_what_failed_in_one_sentence():
    with (
        pytest.raises(surgeon.UsageError, match=r"^x cannot be read \(KeyError: 'y'\)$") as raised,
        raised_as(surgeon.UsageError, "x cannot be read"),
    ):
        {}["y"]
    assert isinstance(raised.value.__cause__, KeyError)
    for error in (surgeon.ArtefactError("as it was"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, raised_as(surgeon.UsageError, "x"):
            raise error
        assert raised.value is error
