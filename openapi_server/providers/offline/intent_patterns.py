"""How visitors word what they say: a table from wordings to intents, read from the top.

Wordings meet `Heard.rest`: lower case, no punctuation, no apostrophes, no greeting in front. The first match wins, so
what matters most for a child (being lost, being sad) stands first. One idea, hence one file, though a long one.
"""

from __future__ import annotations

import re

from openapi_server.providers.offline.intents import Intent

_SO = r"(?:so |very |really |a bit |a little |super |just |too |feeling |the )*"
_YOU_ARE = r"(?:(?:i think |oh |wow |but )*(?:you are|youre|ur|u r|u are|you look|your) )"
_GOOD = (
    r"(?:cute|cool|awesome|pretty|beautiful|amazing|nice|great|funny|best|sweet|lovely|adorable"
    r"|handsome|clever|smart|strong|kind|brilliant|wonderful"
    r"|gorgeous|fantastic|perfect|my favourite|my favorite|interesting|fast|fluffy)"
)
_BAD = (
    r"(?:stupid|ugly|dumb|boring|stinky|smelly|idiot|fat|bad|mean|lame|weird|crap|rubbish|silly|lazy"
    r"|poo|loser|useless|gross|horrible|liar)"
)
_FAMILY = (
    r"(?:mum|mummy|mom|mommy|mama|dad|daddy|papa|parents|family|grandma|grandpa|granny|teacher"
    r"|class|group|brother|sister)"
)

_WORDINGS: tuple[tuple[Intent, tuple[str, ...]], ...] = (
    (
        Intent.LOST,
        (
            r"\b(?:i am|im|we are|were) lost\b",
            rf"\b(?:lost|cant find|cannot find|where is|wheres) (?:my|our) {_FAMILY}\b",
        ),
    ),
    (
        Intent.SAD,
        (
            rf"\b(?:i am|im|i feel|feeling) {_SO}(?:sad|lonely|unhappy|upset|scared|crying|afraid|depressed"
            r"|worried|not happy|hurt|alone)\b",
            r"i want to cry",
            r"(?:nobody|no one) (?:likes|loves) me",
            r"\bbull(?:y|ied|ies|ying)\b",
            r"my (?:\w+ )?(?:died|is dead|has died)",
        ),
    ),
    (
        Intent.GOODBYE,
        (
            r"^(?:(?:ok|okay|k|well|right|oh|and|thanks|thank you|lol) )*(?:bye+|goodbye|bye bye|byebye|see (?:you|ya"
            r"|u)|cya|good ?night|(?:i )?(?:have to|must|gotta|need to) go|im going now|farewell|ciao|tschuss"
            r"|see you later|talk to you later)\b(?!.*\b(?:how|what|why)\b)",
        ),
    ),
    (
        Intent.THANKS,
        (
            r"^(?:(?:ok|okay|oh|wow|great|cool|no|yes) )*(?:thanks?|thank (?:you|u)|thankyou|thx|ty"
            r"|cheers)\b(?: (?:you|so much|very much|a lot|for .*|\w+))?$",
        ),
    ),
    (
        Intent.SORRY,
        (r"^(?:(?:oh|im|i am) )*(?:so |very )?sorry\b(?!.*\b(?:how|what|why|where)\b)",),
    ),
    (
        Intent.HOW_ARE_YOU,
        (
            r"^(?:and |so )?how (?:are|r) (?:you|u|ya)(?: (?:doing|today|feeling|this morning|now|all))*$",
            r"^hows it going",
            r"^how do you (?:do|feel)(?: today)?$",
            r"^(?:whats|what is) up$",
            r"^(?:sup|wassup|wazzup|hru)$",
            r"^are (?:you|u) (?:ok|okay|alright|well|happy|sad|tired)(?: today)?$",
            r"^how (?:was|is) your day",
        ),
    ),
    (
        Intent.MY_NAME,
        (
            r"\b(?:whats|what is|what was|know|remember|say|guess|tell me|forg[eo]t(?:ten)?) my (?:first )?name\b",
            r"^(?:and |so )?what am i called$",
            r"^(?:do you (?:know|remember) )?who (?:am i|i am)$",
            r"^(?:do you )?remember me$",
        ),
    ),
    (
        Intent.REAL,
        (
            r"\blearn(?:ed|t)? to (?:talk|speak|type|write|read)\b",
            r"\bare (?:you|u) (?:really |actually |even |just )*(?:an? )?(?:really |real|robots?|ai|computer"
            r"|fake|bot|chatbot|human|person|machine|alive|chat ?gpt|program|app|pretend)",
            r"\byou(?:re| are) (?:not real|an? (?:robot|computer|bot|ai|machine))",
            r"\b(?:how|why) (?:can|do|are|come) (?:you|u) (?:\w+ )?(?:talk|speak|type|write|talking|typing|read"
            r"|understand)(?:ing)?\b(?! to each| with each| together)",
            r"\bis (?:this|it) (?:a )?(?:real|robot|computer|ai)",
            r"\bwho (?:made|programmed|built|created) you",
            r"\b(?:animals|lions) (?:cant|can not|cannot|dont) (?:talk|speak|type)",
        ),
    ),
    (
        Intent.WHO_ARE_YOU,
        (
            r"^(?:and |so )?(?:who|hoo) (?:are|r) (?:you|u)(?: again| then)?$",
            r"\b(?:whats|what is|wots|what was) (?:your|ur|yore|yor) (?:full |real |first )?names?\b",
            r"do you have a name",
            r"tell me about (?:yourself|you)$",
            r"introduce yourself",
            r"who am i (?:talking|speaking|chatting)",
            r"^what (?:are you|do they|should i|can i) call(?:ed)?(?: you)?$",
            r"^what (?:kind of |sort of |type of )?animal (?:are|r) (?:you|u)$",
            r"^what (?:are|r) (?:you|u)$",
            r"^your name$",
        ),
    ),
    (
        Intent.BIRTHDAY,
        (
            r"^(?:and )?how old (?:are|r) (?:you|u|ya)(?: now| today)?$",
            r"\b(?:your|ur) (?:birthday|bday|age)\b",
            r"\b(?:when|where|what year) were you (?:born|hatched)",
            r"^your age$",
            r"^age$",
        ),
    ),
    (
        Intent.FAVOURITE,
        (r"\b(?:your|ur|a|yor|yore) (?:most )?(?:favou?rite?s?|fav|fave|favrit|best|favourit) \w+",),
    ),
    (
        Intent.JOKE,
        (
            r"\bjokes?\b",
            r"make me laugh",
            r"something funny",
            r"^knock knock",
            r"say something funny",
        ),
    ),
    (
        Intent.STORY,
        (
            r"\bstor(?:y|ies)\b",
            r"funniest (?:thing|moment)",
            r"about your life",
            r"once upon a time",
            r"something that happened to you",
            r"have you ever (?:done|been) (?:anything|something|naughty)",
        ),
    ),
    (
        Intent.WHAT_CAN_I_ASK,
        (
            r"^(?:and )?(?:what|wot) (?:can|should|could|shall|do|else can) (?:i|we) (?:ask|say|talk|chat|learn"
            r"|do(?: (?:here|now))?$)",
            r"^what should (?:i|we|they|my kids|kids|children|everyone|people) know",
            r"^what do you know\b(?!.*about)",
            r"^what can (?:you|u) (?:do|tell|talk)\b",
            r"^help(?: me)?$",
            r"\bhelp (?:me )?with (?:my |our )?(?:homework|(?:school )?project|report|presentation)(?: about \w+)?$",
            r"dont know what to (?:ask|say)",
            r"^what (?:now|next)$",
            r"what (?:can|do) (?:we|you) (?:want to )?talk about",
        ),
    ),
    (
        Intent.LOVE_ME,
        (
            r"\bdo (?:you|u) (?:like|love|miss) (?:me|us|kids|children|visitors)\b",
            r"\b(?:will|can|do) you (?:want to )?be my (?:best )?friend",
            r"are we friends",
        ),
    ),
    (
        Intent.LOVE,
        (
            r"\bi (?:really |do |just )*(?:love|like|luv|adore|heart|miss|missed|wuv) (?:you|u|ya)\b(?! (?:to"
            r"|if))",
            r"^(?:love|luv) (?:you|u)\b",
            r"you(?:re| are) my (?:best )?fr(?:ie|ei)nd",
        ),
    ),
    (
        Intent.INSULT,
        (
            rf"^{_YOU_ARE}{_SO}(?:an? )?(?:\w+ )?{_BAD}(?: \w+)?$",
            r"^i (?:hate|dont like) (?:you|u)",
            r"^shut up",
            r"^go away",
            r"^you (?:suck|stink|smell)",
            r"^(?:stupid|dumb|idiot|loser|ugly|boring|poo ?poo|poopyhead|poop|poopy)(?: \w+)?$",
            r"^this is (?:boring|stupid|dumb)",
            r"^boring",
        ),
    ),
    (
        Intent.COMPLIMENT,
        (
            rf"^{_YOU_ARE}{_SO}(?:an? )?(?:\w+ )?{_GOOD}\b",
            rf"^{_SO}(?:cute|good|nice|pretty|clever) (?:boy|girl|lion|animal|job|one)$",
            r"^good (?:boy|girl)",
        ),
    ),
    (
        Intent.PET,
        (
            r"\b(?:can|could|may|want to|let me|wanna|like to|allowed to) (?:i |we )?(?:please )?(?:pet|pat"
            r"|touch|hug|stroke|cuddle|ride|hold|kiss|tickle|sit on) (?:you|u|on you)\b",
            r"\b(?:can|may) (?:i|we) have a (?:hug|cuddle|ride)",
        ),
    ),
    (
        Intent.FEED,
        (
            r"\b(?:can|could|may|want to|let me|wanna|like to|allowed to) (?:i |we )?(?:please )?(?:feed"
            r"|give) (?:you|u)\b",
            r"\bdo you want (?:some|my|a) (?:of )?(?:my )?(?:food|sandwich|sweets?|ice cream|chips|snack"
            r"|biscuit|cookie)",
        ),
    ),
    (
        Intent.COME_HOME,
        (
            r"\b(?:come|move|go) (?:to|over to) (?:my|our) (?:house|home|school|room|party|place)",
            r"\b(?:come|go|take you|live) (?:home|with (?:me|us)|outside|out)\b",
            r"be my pet",
            r"sleep ?over",
            r"can (?:i|we) (?:keep|take|buy|have) (?:you|u)\b",
            r"\b(?:can|may|could) (?:i|we) (?:visit|meet|come (?:and |to )?(?:see|visit|in)|see) (?:you|u|in)?",
        ),
    ),
    (
        Intent.WHERE_HERE,
        (
            r"^where (?:are|r) (?:you|u)(?: (?:now|today|right now|at|in the zoo|here))*$",
            r"^where (?:can|do) (?:i|we) (?:find|see) (?:you|u)",
            r"^which (?:house|enclosure)",
            r"where (?:in|at) (?:the|this) zoo",
        ),
    ),
    (
        Intent.TOILET,
        (
            r"\bneed (?:the|a) (?:toilet|loo|wee|pee|poo)",
            r"\b(?:need|have|got) to (?:pee|wee|poo)\b",
            r"\bwhere (?:is|are|can i find) (?:the |a )?(?:toilets?|loos?|bathrooms?)",
        ),
    ),
    (
        Intent.VISIT_INFO,
        (
            r"\b(?:opening (?:hours|times?)|tickets?|car ?park|cafe|restaurant|gift ?shop|exit|entrance"
            r"|souvenirs?|playground|wifi)\b",
            r"\bwhere (?:is|are|can i find) (?:the |a )?(?:shop|way out)",
            r"when (?:does|do) (?:the zoo|you) (?:open|close)",
            r"what time (?:is it|does)",
        ),
    ),
    (
        Intent.ERRAND,
        (
            r"\bi (?:really |just |also )*(?:need|want|could use|am looking for) (?:some |your |a bit of )?"
            r"(?:help|advice)\b(?!.*\b(?:homework|school|class|project|report|presentation|essay|quiz|drawing|animals?)\b)",
            r"\b(?:schedule|book|make|have|get|change|cancel|arrange|want|need) (?:an? |my |the )?(?:\w+ )?"
            r"(?:appointment|consultation|reservation|booking)s?\b",
        ),
    ),
    (
        Intent.BOY_OR_GIRL,
        (
            r"^(?:and )?(?:are|r) (?:you|u) an? (?:boy|girl|male|female|man|woman|lady|mum|dad)\b",
            r"are you (?:male|female)",
        ),
    ),
    (
        Intent.SOUND,
        (
            r"^(?:(?:please|can|could|will|would) )*(?:you )?(?:please )?(?:roar|growl|sing|trumpet|squeak|hiss"
            r"|croak|honk|bray|ribbit)(?: (?:for|at|to) (?:me|us)| please| loud(?:ly)?| now| a song"
            r"| me a song)*$",
            r"make (?:a|your|some|the|an) (?:\w+ )?(?:noise|sound)",
            r"\bsing (?:me |us )?(?:a|something)",
            r"do (?:a|your) (?:roar|sound|noise)",
        ),
    ),
    (
        Intent.PLAY,
        (
            r"\b(?:lets|can we|shall we|do you want to|wanna|want to|can you"
            r"|will you) play\b(?:.* (?:with (?:me|us)|game|tag|hide and seek))?",
            r"play with (?:me|us)",
        ),
    ),
    (
        Intent.MY_BIRTHDAY,
        (
            r"\b(?:its|it is|today is|tomorrow is) my birthday",
            r"my birthday (?:is )?(?:today|tomorrow|soon)",
            r"^(?:its )?my birthday",
        ),
    ),
    (
        Intent.BORED,
        (r"\b(?:im|i am|this is) (?:so |really )?bored\b",),
    ),
    (
        Intent.LAUGH,
        (
            r"^(?:(?:ha|he|hi|hah|heh|ho){2,}\w*|lo+l|lmao|rofl|hehe|haha|xd|ha|so funny|thats (?:so )?funny"
            r"|(?:good|nice|great) (?:one|joke)|funny)(?: (?:(?:ha|he)+|lol|thats (?:so )?funny|(?:good|nice"
            r"|great) (?:one|joke)))*$",
        ),
    ),
    (
        Intent.WHY,
        (
            r"^(?:(?:but|and|ok|oh|so|um) )*(?:why|y)(?: (?:why|is (?:that|it|this)|do you|so|though|not))*$",
            r"^(?:but )?(?:how come|what for|(?:can you )?tell me why|whys that)$",
        ),
    ),
    (
        Intent.REALLY,
        (
            r"^(?:(?:oh|wow|no|ok) )*(?:really|rly|is (?:that|this|it) (?:really )?(?:true|real|right)"
            r"|are you (?:sure|serious)|no way|prove it|seriously|for real|(?:you are|youre"
            r"|are you) (?:joking|kidding"
            r"|lying)|how do you know(?: that)?|i dont believe(?: it| that| you)?)$",
        ),
    ),
    (
        Intent.AGAIN,
        (
            r"^(?:(?:oh|wow|no|ok) )*(?:huh|what|pardon|come again|say (?:that|it) again"
            r"|(?:please )?repeat(?: that)?|what do(?:es)? (?:you|that) mean|i dont (?:get|understand)(?: it"
            r"| that| you)?)(?: please)?$",
        ),
    ),
    (
        Intent.YUCK,
        (
            r"^(?:(?:that is|thats|so) )*(?:e+w+|yuck+|yucky|gross|disgusting|ugh|bah|i+gitt|yikes)(?: (?:e+w+"
            r"|yuck|gross|thats (?:gross|disgusting|yucky)))*$",
        ),
    ),
    (
        Intent.WOW,
        (
            r"^(?:(?:oh|ok|okay|yes|lol|haha|that is|thats|wow|so|very|really|a) )*(?:cool|wow+|nice|great"
            r"|awesome|amazing"
            r"|interesting|oh+|o+h|aww+|omg|i see|got it|good|wonderful|fantastic|brilliant|cute|super|crazy"
            r"|funny|me too|i did ?nt know that|good to know|sweet)(?: (?:wow|cool|fact|one|thats (?:cool|nice"
            r"|amazing)))*$",
        ),
    ),
    (
        Intent.MORE,
        (
            r"^(?:(?:ok|yes|yeah|cool|wow|nice|please|and|can you|tell me|tell us|give me) )*(?:(?:some )?more"
            r"|another(?: one| joke| story)?|again|one more|go on|(?:what|anything|something) else|keep going"
            r"|next(?: one)?)(?: (?:please|about (?:that|it|you)))*$",
        ),
    ),
    (
        Intent.YES,
        (
            r"^(?:(?:oh|ooh|um) )*(?:yes|yeah|yep|yup|ya|yea|ye|yay|ok|okay|k|sure|please|alright|of course"
            r"|go ahead|tell me)(?: (?:yes|please|ok|sure|do|tell me|i (?:would|do)))*$",
        ),
    ),
    (
        Intent.NO,
        (
            r"^(?:(?:um|oh) )*(?:no|nope|nah|na|not really|i dont|never|no thanks?|no thank you"
            r"|no more|stop|thats enough|enough)(?: (?:please|pls|plz|thanks|thank you))*$",
        ),
    ),
    (
        Intent.NONSENSE,
        (
            r"^(?:(?:[bcdfghjklmnpqrstvwxz]{4,}|(?:asd|qwe|hjk|jkl|sdf|dfg|fgh|zxc)\w*|(\w{1,3})\1{2,}"
            r"|(?:bla ?)+|\d{1,}|\w)(?: |$))+$",
        ),
    ),
)
_INTENTS = tuple((intent, re.compile("|".join(wordings))) for intent, wordings in _WORDINGS)


def detect_intent(rest: str) -> Intent | None:
    """The intent of a message; None when it is a question or a remark of its own."""
    return next((intent for intent, pattern in _INTENTS if pattern.search(rest)), None)


_OTHER_ANIMAL = re.compile(
    r"\b(cheetah|lion|tiger|leopard|jaguar|cougar|puma|wolf|bear|polar bear|dog|cat|horse|cow|pig|sheep"
    r"|goat|elephant|rhino|hippo|giraffe|zebra|monkey|gorilla|chimpanzee"
    r"|snake|crocodile|alligator|lizard|tortoise|turtle|frog|shark|whale|dolphin|octopus|squid|crab"
    r"|jellyfish|seahorse|penguin|eagle|owl|parrot|flamingo|ant|spider|bee"
    r"|butterfly|mouse|rabbit|fox|deer|kangaroo|koala|panda|camel|hyena|meerkat|otter|seal|bat)(?:s|es)?\b"
)


def find_other_animal(rest: str, own_names: frozenset[str]) -> str | None:
    """An animal that the message is about, when it is not this one."""
    named = (animal.group(1) for animal in _OTHER_ANIMAL.finditer(rest))
    return next((animal for animal in named if animal not in own_names), None)
