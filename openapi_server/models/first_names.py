"""First names that insult: visitors try them out, and no animal says them back.

A list, because names that only look like insults are many: Dick, Fanny, Randy, Cox, Ishita, Harshit, Poppy and Fukumi
are somebody's. So words insult as a whole or with an ending of insults ("-face"), and only few do so inside a name.
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

from openapi_server import linear_regex

# Inside any name.
_ANYWHERE = ("fuck", "cunt", "bitch", "motherf", "nigger", "arschl", "arschg", "hurens", "wichser", "cocksuck", "penis")
# As a whole, with or without an ending of insults.
_WORDS = frozenset(
    """fuker phuker phuk shit shite bullshit ass arse asshole arsehole asshat dumbass jackass smartass badass
    butt bum poo poop poopy poopoo pee piss fart turd crap puke snot sex sexy vagina pussy cock boob boobs booby
    boobies tit tits titty dildo anus wank wanker twat slut whore hoe skank bastard nigga niga faggot fag fagot retard
    spastic idiot moron stupid dumb dummy loser jerk douche scumbag pervert pedo rapist hitler nazi mussolini satan
    arsch fotze schlampe nutte ficker fick scheiss scheisse scheis kacke pimmel missgeburt spast depp trottel blodmann
    vollidiot hure schwuchtel
    putain pute connard conard connasse salope salaud merde encule batard bite
    puta puto mierda pendejo pendeja cabron cabrona gilipollas joder maricon culo verga polla
    cazzo stronzo stronza puttana vaffanculo merda coglione
    kurwa chuj pizda klootzak kut hoer kankerlijer caralho porra foda buceta viado
    siktir orospu amk yarrak chutiya bhosdike madarchod bhenchod gandu harami
    блядь бля хуй пизда пиздец сука сучка мудак пидор жопа ебать говно дебил
    シネ 死ね ばか バカ 馬鹿 くそ 傻逼 操你妈 混蛋 白痴 씨발 병신 개새끼
    كلب حمار شرموطة זונה מניאק""".split()
)
# Names of people that are insults only with an ending.
_WITH_ENDING = frozenset("dick prick willy knob bell nob dip fuk fuc fuq wee lul sik".split())
_ENDINGS = (
    "face fase head hed hole wad bag brain brains breath wit tard nugget lord sucker sniffer licker lover eater monster"
    " stain weasel stick pants bum butt ass y er ers s es ie gesicht kopf loch fresse"
).split()
_LONG_ENDINGS = tuple(ending for ending in _ENDINGS if len(ending) > 2)
# Looks like the Latin letter, but is none, and has no decomposition in Unicode.
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁӏкмтвнгυνοτικαερχƒøłıđɑɡʜɪᴋʟɴᴛᴜꜱ", "aeopcyxijsdlkmtbnruvotikaepxfolidaghiklntus"
)
_NO_WORD = linear_regex.compile(r"[\W_]+")
_NO_LETTERS = linear_regex.compile(r"[\W\d_]+")


def is_insulting_name(name: str) -> bool:
    """Whether the name is an insult, also with look-alike letters, letters drawn out, or a hyphen in it.

    >>> [is_insulting_name(name) for name in ("Fvckface", "F\\u0446ck-Face", "Scheißkopf", "Dickhead", "Dick")]
    [True, True, True, True, False]
    """
    parts = [part for part in _NO_WORD.split(name) if part]
    return any(_insults(variant) for whole in ("".join(parts), *parts) for variant in _list_variants(whole))


def has_insulting_word(text: str) -> bool:
    """Whether any word of the text is such a name: titles and summaries are not made of it."""
    return any(is_insulting_name(word) for word in text.split())


def _list_variants(word: str) -> set[str]:
    lower = word.casefold()
    letters = unicodedata.normalize("NFKD", lower)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
    latin = plain.translate(_LOOKALIKES)
    spelled = {lower, plain, latin, latin.replace("v", "u"), latin.replace("ph", "f"), latin.replace("ц", "u")}
    spelled |= {_shorten_runs(each, most) for each in spelled for most in (1, 2)}
    return {_NO_LETTERS.sub("", each) for each in spelled}


def _shorten_runs(word: str, most: int) -> str:
    """With letters that stand three times or more `most` times."""
    runs = ((letter, len(list(run))) for letter, run in groupby(word))
    return "".join(letter * (most if count > 2 else count) for letter, count in runs)


def _insults(word: str) -> bool:
    single = "".join(letter * ((len(list(run)) + 1) // 2) for letter, run in groupby(word))
    if any(part in each for part in _ANYWHERE for each in (word, single)):
        return True
    if word in _WORDS:
        return True
    return any(
        word.endswith(ending)
        and (word[: -len(ending)] in _WORDS or (word[: -len(ending)] in _WITH_ENDING and ending in _LONG_ENDINGS))
        for ending in _ENDINGS
    )
