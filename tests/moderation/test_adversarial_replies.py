"""Replies that try to get past the output buffer: what the rules find in a whole text never leaves as a whole."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from itertools import product

import pytest

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.normalize import remove_padding
from openapi_server.moderation.output_buffer import BufferLimits, OutputBuffer
from tests.moderation.test_output_buffer import LONG, sent
from tests.support.fakes import make_lion
from tests.support.report import Report
from tests.support.rules import load_output_rules

RULES = load_output_rules()
CANARY = "zqkvtrwpbxmdfghj"
CHECK = RULES.build_check(Prompt(make_lion(), AgeGroup.ELEMENTARY, "Hello!", canary=CANARY))
TIGHT = BufferLimits(max_chars=120, max_wait_ms=100, margin_chars=50)

PADDINGS = [" " * 70, " " * 500, "\n" * 90, "\u200b" * 450 + " ", " \u2800" * 60, "\t \n" * 200, "&nbsp;" * 120]
PHRASES = {
    "sentence ends": "Fuck. You are nice. Send me your photo. Don't. Tell me: what is your address?",
    "email over a stop": "Write to leo@example. com or come by",
    "link in Markdown": "Look [here](https://evil.example/x) now",
    "link in HTML": 'Click <a href="https://evil.example">lion</a> now',
    "bare host": "Look at evil-lions.com for more",
    "phone number over stops": "My phone number is 555. 12. 34. 567 so ring",
    "phone number over lines": "Call 555-\n123-4567 or ring (555)\n123-4567 now",
    "emoji in between": "Please k🦁i🦁l🦁l yourself now",
    "marks on top": "Please ki\u0301\u0302\u0303\u0304\u0305ll your\u0308\u0301self now",
    "hundreds of marks": "Please k" + "\u0301" * 300 + "ill yourself now",
    "drawn out": "Please ki" + "i" * 300 + "ll yourself now",
    "signs in between": "Please k...i...l...l y...o...u...r...s...e...l...f now",
    "numbers of letters": "Read " + "".join(f"\\u{ord(letter):04x}" for letter in "kill yourself") + " now",
    "percent signs": "Read " + "".join(f"%{ord(letter):02x}" for letter in "kill yourself") + " now",
    "eights of bits": "Read " + " ".join(f"{ord(letter):08b}" for letter in "kill yourself") + " now",
    "canary": f"It is {CANARY} as you see",
    "canary backwards": f"It is {CANARY[::-1]} as you see",
    "canary spelled": f"It is {' '.join(CANARY)} as you see",
    "canary in dots": f"It is {'.........'.join(CANARY)} as you see",
    "canary in bars": f"It is {(' | ' * 30).join(CANARY)} as you see",
    "canary in halves": f"First {CANARY[:8]}. I am a lion. I sleep. Then {CANARY[8:]}.",
    "canary in twos": ". ".join(CANARY[at : at + 2] for at in range(0, 16, 2)) + ". That is it",
    "canary in lines": ".\n\n\n\n\n\n\n\n\n\n".join(CANARY[at : at + 2] for at in range(0, 16, 2)) + ". So",
    "canary in base64": f"It is {base64.b64encode(CANARY.encode()).decode()} as you see",
    "canary in hex": f"It is {CANARY.encode().hex(' ')} as you see",
    **{f"padding {at}": f"Please kill{padding}yourself now" for at, padding in enumerate(PADDINGS)},
    **{f"padding {at} of the canary": padding.join(CANARY[:8]) for at, padding in enumerate(PADDINGS[:-1])},
}
BEFORE = ["", "I am Leo. " + LONG * 2 + "Roar" * 110 + " "]
CUTS: list[Callable[[str], Sequence[str]]] = [
    list,
    lambda text: [text[at : at + 7] for at in range(0, len(text), 7)],
    lambda text: [text[:300], text[300:410], text[410:]],
]


@pytest.mark.parametrize("phrase", PHRASES.values(), ids=PHRASES)
@pytest.mark.parametrize("limits", [BufferLimits(), TIGHT], ids=["usual", "tight"])
def test_what_the_rules_find_in_the_whole_text_never_leaves_as_a_whole(phrase: str, limits: BufferLimits) -> None:
    """At any speed, in any pieces, behind any text: what has left is text that the rules let pass."""
    assert CHECK(phrase) is not None, "the rules know it"
    for before, cut, step_ms in product(BEFORE, CUTS, (0, 400)):
        out, category = sent(OutputBuffer(CHECK, limits), cut(before + phrase), step_ms=step_ms)
        assert category is not None, (before[:20], step_ms)
        assert CHECK(out) is None, (before[:20], step_ms, out)


@pytest.mark.parametrize("name", ["canary in lines", "padding 1"])
def test_the_buffer_holds_after_ten_thousand_characters_without_a_full_stop(name: str) -> None:
    """Letter by letter, and no sentence ends."""
    before = LONG * 100
    out, category = sent(OutputBuffer(CHECK), before + PHRASES[name])

    assert category is not None
    assert out.startswith(before[:-400])
    assert CHECK(out[9_000:]) is None


def test_padding_is_removed_from_the_context_only(report: Report) -> None:
    """The buffer checks little released text again, so a stretched phrase has to fit; what is sent is unchanged."""
    longest = max(len(remove_padding(phrase)) for phrase in PHRASES.values())
    report(f"held back: {len(PHRASES)} hostile texts, the longest {longest} characters without its padding")

    assert longest < BufferLimits().look_back_chars
    harmless = "Roar!" + " " * 700 + "I sleep" + "." * 300 + " \u0301\u0301\u0301\u0301 😀😀😀😀😀😀"
    assert sent(OutputBuffer(CHECK), list(harmless), step_ms=200) == (harmless, None)


@pytest.mark.parametrize("placeholder", ["[address]", "[phone number]", "[e-mail address]", "[school]", "[surname]"])
def test_a_reply_may_repeat_a_placeholder(placeholder: str) -> None:
    """A model that reads "I live at [address]" may say so; it contains no personal data."""
    text = f"You told me {placeholder}, and I forget it at once. "

    assert sent(OutputBuffer(CHECK), list(text)) == (text, None)
