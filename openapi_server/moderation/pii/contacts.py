"""Addresses in the net, and the names and words that open accounts there."""

from __future__ import annotations

import re

_MAILBOXES = r"(?:gmail|hotmail|outlook|yahoo|gmx|icloud|web|aol|proton(?:mail)?)"
EMAIL = re.compile(
    r"[\w.+-]{1,64} ?(?:@|[\[(]at[\])]) ?[\w-]{1,63}(?: ?(?:\.|[\[(]dot[\])]) ?[\w-]{2,63})+"
    r"|[\w.+-]{1,64} (?:at|ät|klammeraffe) [\w-]{1,63} (?:dot|punkt|point|punto) (?:[\w-]{1,63} (?:dot|punkt) )?"
    r"[a-z]{2,6}\b"
    rf"|[\w.+-]{{1,64}} (?:at|ät) {_MAILBOXES}\.?(?: ?(?:dot |\.)?(?:com|de|net|org|co\.uk|fr|me))?\b",
    re.I,
)
LINK = re.compile(r"\b(?:https?://|www\.)[^\s<>\"')\]]+", re.I)

_SERVICE = (
    r"(?:insta(?:gram)?|snap(?:chat)?|tik ?tok|discord|roblox|fortnite|minecraft|whatsapp|telegram|twitter|xbox|skype"
    r"|facebook|youtube|user ?name|gamer ?tag|account|kik)"
)
ACCOUNT = re.compile(
    rf"\b(?:my|our) (?:\w+ )?{_SERVICE}(?: (?:name|account|user|id|handle|tag))*(?: is|:)?"
    r" (?!(?:is|not|a|the|so|very|private|called|name|account|user|id|handle|tag)\b)(?P<it>@?[\w.#-]{3,})"
    rf"|\b(?:add|follow|find|text|dm|message) me on {_SERVICE}[:,]? (?:as )?(?P<it2>@?[\w.#-]{{3,}})"
    r"|(?<![\w@.])(?P<it3>@[\w.]{3,}\w)",
    re.I,
)
PASSWORD = re.compile(
    r"\b(?:my|our|the|mein) (?:\w+ )?(?:password|passwort|pass ?code|pin)(?: is| ist|:)+"
    r" (?!(?:a|the|not|so|very)\b)(?P<it>\S{3,})",
    re.I,
)
