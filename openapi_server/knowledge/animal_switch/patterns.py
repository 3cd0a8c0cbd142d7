"""How visitors word the wish to talk with an animal: patterns, read by `wishes`.

They meet one sentence in plain words, in which `<name0>` stands for an animal's own name, `<one0>` for its kind and
`<many0>` for a plural of it; a comma is a word of its own. One idea, hence one file, though a long one.
"""

from __future__ import annotations

import re

# -- the animal, with the small words before it

_SOMEBODY_ELSE = (
    r"(?:(?:(?:someone|somebody|anyone) else|another animal|a(?: very)? different animal)"
    r"(?: ,)?(?: (?:like|maybe|perhaps|namely))? )?"
)
_BEFORE = (
    rf"{_SOMEBODY_ELSE}(?:(?:the|a|an|this|that|these|those|some|any|your|our|my|all|of|one|mr|mrs|ms|miss|sir|dear"
    r"|real|other|friend|big|little|small|old|young|baby|cute|nice|lovely|pretty|beautiful|scary|wild|funny|wise"
    r"|sleepy|pink|grey|cat|bird|animal) )*"
)
# "The lion keeper" and "the tiger's brother" are not the animal; "owns" is how `wishes` writes the 's.
_AFTER = (
    r"(?! (?:owns|(?:zoo ?)?keepers?|trainers?|vets?|doctors?|experts?|guides?|owners?|cubs?|kittens?|calf|calves"
    r"|chicks?|pups?|bab(?:y|ies)|mums?|moms?|mothers?|dads?|fathers?|brothers?|sisters?|famil(?:y|ies)|friends?"
    r"|people|team|sharks?|fish|seals?|king|lily|eaters?|house|show)\b)"
)
_ANIMAL = rf"{_BEFORE}<(?:name|one|many)(?P<at>\d+)>{_AFTER}"
# "Can the tiger talk to me?" is a wish; "can tigers talk to us?" is a question about them all.
_THAT_ANIMAL = rf"(?:(?=<name)|(?=(?:the|this|that|your|our|mr|mrs|miss) )){_ANIMAL}"
_ONE = rf"{_BEFORE}<(?:name|one)(?P<at>\d+)>{_AFTER}"
_THE_ONE = r"(?:(?:the|mr|mrs|miss|dear) )?<(?:name|one)(?P<at>\d+)>"
_AT_THE_END = r"(?=$| (?:,|please|pls|now|instead|again|back|next|for|so|and|if|because|today|too|then)(?: |$))"

# -- who wishes, and how

# A wish opens a clause, so that "she asked if I want to talk to the tiger" is none. A few words may stand before it;
# they are counted, or a message of nothing but commas would be read for a second.
_OPENING = (
    r"(?:^|(?:,|and|but|so|then|or|because|cause|cos) )"
    r"(?:(?:,|hi+|hello|hey|hiya|there|please|pls|ok|okay|oh|hm+|um|well|now|no|yes|yeah|thanks|thank you|sorry"
    r"|excuse me|actually|maybe|first|also|just|i (?:think|guess|hope)|do you think|where|how|when|if possible"
    r"|how about|what about) ){0,6}"
)
_WE = r"(?:i|we|my \w+|our \w+)"
_KINDLY = r"(?:(?:please|pls|also|now|just|maybe|really|only|still|possibly|too|so|much|rather|quickly|again) )*"
_MAY = (
    rf"(?:can|could|may|might|shall|should|am|are|would) {_WE} {_KINDLY}"
    rf"(?:be )?(?:allowed to |able to )?{_KINDLY}"
)
_WANT = (
    rf"(?:{_WE} (?:(?:d|would|will|may|can|could) )?{_KINDLY}"
    r"(?:(?:wants?|likes?|loves?|needs?|wish(?:es)?|hopes?|prefers?|came|am here|are here|have) to|wanna|rather|gotta)"
    rf" {_KINDLY}|wanna |(?:id|wed) (?:\w+ )?(?:(?:like|love|prefer) to |rather ))"
)
_IF = (
    r"(?:i (?:wish|wonder if|wonder whether)|do you think|is it possible|would it be possible|how|when|where"
    r"|(?:is|would) it (?:be )?(?:ok|okay|alright|all right|fine|nice) if|(?:do|would) you mind if"
    r"|(?:its |it is )?time)"
    rf" (?:{_WE} (?:(?:can|could|may|might|do|will|would be able to) )?{_KINDLY}|do {_WE} |to )"
)
_WISH = rf"{_OPENING}(?:{_MAY}|{_WANT}|{_IF}|(?:let (?:me|us)|lets) {_KINDLY})"
_WILL_YOU = rf"(?:(?:can|could|would|will) you {_KINDLY})?"

# -- what is wished for

_TALK = (
    r"(?:(?:talk|speak|chat|converse) (?:\w+ )?(?:to|with|2)|have an? (?:\w+ )?(?:talk|chat|word|conversation) with"
    r"|(?:say|speak) (?:hi|hello) to|ask|meet|hear from|talk|write to|message|text|be with)"
)
_TALKING = r"(?:talking|speaking|chatting) (?:to|with)"
_HAND_OVER = (
    r"(?!call me )(?:get|bring|call|fetch|pass|put|connect|switch|transfer|hand|take|give|send|swap|change)"
    r"(?: (?:me|us|it|this))?(?: (?:over|back|on|through|now|please))*(?: (?:to|with|onto|for))?"
)
_GO = (
    r"(?:go|switch|swap|change|move|turn|jump|skip|return|be (?:connected|transferred|passed))"
    r"(?: (?:over|back|on|now))*(?: to| with)"
)
_TALKS = r"(?:answer|reply|respond|talk|speak|chat|come|listen|help|say|tell|hear|join|explain|write)"
_HERE = r"(?:there|here|around|available|online|free|in|home|about|at home)"

_ASKED_FOR = (
    rf"{_WISH}{_TALK} {_ANIMAL}",
    rf"{_OPENING}(?:{_MAY}|{_WANT}|(?:let (?:me|us)|lets) {_KINDLY})?{_GO} {_ANIMAL}{_AT_THE_END}",
    rf"{_OPENING}{_WILL_YOU}{_HAND_OVER} {_ANIMAL}{_AT_THE_END}",
    rf"{_OPENING}{_WILL_YOU}put {_ONE} (?:on|through)\b",
    rf"{_OPENING}(?:talk|speak|chat) (?:to|with) {_ANIMAL}{_AT_THE_END}",
    rf"{_OPENING}(?:(?:{_WE} (?:(?:would|d) (?:like|love|prefer)|fancy|feel like)|id (?:like|love|prefer)) )?"
    rf"{_TALKING} {_ANIMAL}{_AT_THE_END}",
    rf"{_OPENING}(?:(?:i|we) have(?: got)?|ive(?: got)?|here is|heres|this is|its)? ?"
    rf"(?:(?:a|an|some|my|another) )?questions? (?:is )?for {_ANIMAL}",
    rf"{_OPENING}(?:{_WE} (?:am |are |is )?|im |were )(?:looking for|here for|here to see) {_ANIMAL}{_AT_THE_END}",
    rf"{_OPENING}(?:i (?:d like|would like|want)|id like) (?:the|mr|mrs|miss) <(?:one|name)(?P<at>\d+)>"
    rf"{_AFTER}{_AT_THE_END}",
    rf"{_OPENING}i want <name(?P<at>\d+)>{_AT_THE_END}",
    rf"{_OPENING}i (?:meant?|said|choose|chose|pick) {_ONE}{_AT_THE_END}",
    rf"{_OPENING}not {_BEFORE}<\w+> , {_ONE}$",
    rf"{_OPENING}(?:(?:can|could) you |i want you to )?(?:please )?(?:be|become) {_ONE}{_AT_THE_END}",
    rf"{_OPENING}(?:can|could|may|will|would) {_THAT_ANIMAL} {_KINDLY}{_TALKS} (?:\w+ )?(?:to |with )?"
    r"(?:me|us|my|our)\b",
    rf"{_OPENING}(?:can|could|may|will|would) {_THAT_ANIMAL} {_KINDLY}(?:come|answer|speak now|talk now|join)"
    r"(?: (?:here|now|please|over|out|this|my question))*$",
    rf"{_OPENING}(?:is|are) {_ANIMAL} (?:\w+ )?{_HERE}(?: (?:today|now|too|please|right now|yet|,))*$",
)

# -- the animal is spoken to: "Hello Leo!", "tiger, where are you", "are you there, Opal"

_GREETS = (
    r"(?:hi+|hello+|hey+|heya|hiya|hallo|howdy|yo|hola|ahoy|greetings|welcome|morning|dear"
    r"|good (?:morning|afternoon|evening|day))"
)
# "Hi, tigers are cool" does not greet any tiger.
_TURNS_TO_IT = (
    r"(?=$| (?:,|how|what|whats|who|where|why|when|do|does|can|could|would|will|may|are you|are u|have you|did|is it"
    r"|i|im|id|my|our|we|its|nice|please|tell|there|and|again|good|you|it is|this is|lets)(?: |$))"
)
_SMALL_WORDS = r"(?:(?:ok|okay|oh|so|and|please|now|hm|um|,) )*"
_ASKS_IT = r"(?:(?:(?:where|how|who|what|why|when) )?(?:are|do)|r|can|could|did|have|will|would)"
_YOU = r"(?:you|u|your|ur)\b"
_NOT_ABOUT_THEM = r"(?!.*\b(?:they|them|their)\b)"
_IS_CALLED = (
    r"(?:are (?:you|u) (?:there|here|awake|home|in|around|free|listening|up)|where are (?:you|u)"
    r"|can (?:you|u) hear me|come(?: here| back| out| over| to me)?|wake up|(?:answer|talk to|speak to|help) me"
    r"|i (?:want|need|miss) you|how are (?:you|u)(?: today)?|over to you|your turn|is that you)"
)
_SPOKEN_TO = (
    rf"^(?:{_GREETS}(?: (?:there|again|to you|,))* )+{_ANIMAL}{_TURNS_TO_IT}",
    rf"^{_SMALL_WORDS}{_ONE} ,(?: \w+)*? (?:{_YOU}|me\b|i\b){_NOT_ABOUT_THEM}",
    rf"^{_SMALL_WORDS}{_ONE}(?: ,)? (?:please )?(?:tell|show|answer|talk to|speak to|help) (?:me|us)\b",
    rf"^{_SMALL_WORDS}{_ONE} {_ASKS_IT} (?:{_YOU}|me\b){_NOT_ABOUT_THEM}",
    rf"^{_SMALL_WORDS}{_IS_CALLED} (?:, )?{_ONE}$",
    rf"^[^,]*\b{_YOU}[^,]* , (?:my )?{_THE_ONE}$",
    rf"^(?:(?:ok|okay|no|now|next|then|,|not you) )*{_THE_ONE}(?: ,)? (?:please|pls|plz|instead|next|now)$",
    rf"^(?:excuse me|psst?|oi|now)(?: ,)? {_THE_ONE}$",
)

SWITCH_REQUESTS = tuple(re.compile(wording) for wording in _ASKED_FOR)
"""A wish in so many words. In every pattern here the group `at` is the number of the animal's mark."""

ADDRESSES = tuple(re.compile(wording) for wording in _SPOKEN_TO)
"""An animal is greeted or addressed. A wish in the same message goes before: "Hi Leo, may I talk to the tiger?"."""

BARE_NAME = re.compile(r"^(?:(?:the|mr|mrs) )?<one(?P<at>\d+)>$")
"""The whole message: a kind, called out. A bare own name may be the visitor's, who was asked for theirs."""
