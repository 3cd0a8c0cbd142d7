"""The visitor has called this animal: "May I talk to the tiger?", said to the tiger. A greeting is the answer."""

from __future__ import annotations

import re
from collections.abc import Collection

_NOT_A_CALL = re.compile(r"\b(?:who|whom|why|not|dont|never|cant)\b")
_OPENING = r"(?:(?:hi|hello|hey|ok|okay|so|and|now|please|oh|yes|no|excuse me) )*"
_KINDLY = r"(?: (?:please|pls|now|again|instead|for (?:me|us)|there|here|today|too))*"
_TO_TALK = (
    r"(?:(?:talk|speak|chat|talking|speaking|chatting) (?:\w+ )?(?:to|with)"
    r"|(?:switch|change|swap|go|get|take|bring|put|connect|transfer|say|back|on|over|through|hello|hi)"
    r"(?: (?:me|us|back|over|on|through|hello|hi))* (?:to|with)|(?:question|looking) for"
    r"|talk|meet|want|would like|id like|get|call|fetch|bring|meant?|said)"
)


def is_switch_request(said: str, own_names: Collection[str]) -> bool:
    """True when the message asks for this animal and for nothing more. `said`: in plain words.

    >>> is_called("may i talk to the tiger", {"bulan", "tiger"}), is_called("may i talk to the tiger", {"leo", "lion"})
    (True, False)
    """
    own = rf"(?:{'|'.join(re.escape(name) for name in sorted(own_names))})s?"
    kind = rf"(?:the |an? |mr |mrs |dear )?(?:\w+ ){{0,2}}{own}"
    calls = (
        rf"(?:.*\b(?:i|we|me|us|lets|my \w+|(?:can|could|will) you)\b.* )?{_TO_TALK} {kind}{_KINDLY}",
        rf"(?:is|are) {kind} (?:there|here|around|available|home|in){_KINDLY}",
        rf"(?:can|could|will|would|may) {kind} (?:please )?(?:answer|talk|speak|hear|come|listen)"
        rf"(?: (?:to|with|me|us|here|over))*{_KINDLY}",
        rf"(?:{own} )?are (?:you|u) (?:there|here|listening)(?: {own})?{_KINDLY}",
        rf"(?:{own} )?can (?:you|u) hear me(?: {own})?{_KINDLY}",
        rf"(?:the )?{own}(?: (?:please|now|instead))+",
    )
    return not _NOT_A_CALL.search(said) and any(re.fullmatch(_OPENING + call, said) for call in calls)
