"""Where a visitor lives and goes to school, as one writes it. Pure text; zoos have streets and numbers, too."""

from __future__ import annotations

import re

# A word of a name, as people capitalise it; small words may stand between two of them.
_NAME = r"[A-ZÀ-ÖØ-ÞŠŽŁ][\w'’.-]*"
_NAMES = rf"{_NAME}(?: (?:{_NAME}|of|the|am|an der|de la|de|du|des|del|van|von|zum|zur)){{0,4}}"
_NUMBER = r"\d{1,5}(?:[ -]?[a-zA-Z])?(?:/\d{1,3})?"

_SURE_STREET = r"(?:street|avenue|boulevard|terrace|crescent|str\.?|ave\.?|blvd\.?)"
_ANY_STREET = (
    rf"(?:{_SURE_STREET}|st\.?|road|rd\.?|lane|ln\.?|drive|dr\.?|court|ct\.?|close|place|pl\.?|square|sq\.?|way"
    r"|grove|gardens|hill|parkway|highway|row|mews|walk|circle|cir\.?|trail)"
)
_JOINED_STREET = r"[^\W\d_]{3,}(?:straße|strasse|str\.|gasse|allee|platz|weg|ring|damm|ufer|straat|laan|gatan|vej)"
_ROMANCE_STREET = (
    r"(?:rue|avenue|boulevard|place|chemin|via|viale|piazza|corso|calle|avenida|plaza|paseo|rua|praça|ulica|ul\.)"
)
# "2 lions cross a road": in lower case only a name of one or two words that are no part of a sentence.
_PLAIN_NAME = (
    r"(?!(?:a|an|the|this|that|my|your|our|every|each|one|per|wide|long|big|small|years?|lions?|tigers?|cars?|people"
    r"|kids|on|in|of|and|or|to|more|busy|main)\b)[a-z][a-z'’-]+"
)
# What follows the street: a flat, then ", 12345 Berlin" or ", London NW1 6XE" or ", Springfield, IL 62704".
_FLAT = r"(?:,? ?(?:apt|apartment|flat|unit|no)\.? ?\w{1,5})?"
_BRITISH = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b"
_PLACE = rf"{_NAME}(?: {_NAME}){{0,2}}?"
_TOWN = (
    rf"{_FLAT}(?:,? (?:[A-Z]{{1,2}}-)?\d{{4,5}}(?: {_NAME}(?: {_NAME})?)?"
    rf"|,? (?:{_PLACE},? )?{_BRITISH}|(?:, {_PLACE}){{1,2}}(?:,? [A-Z]{{2}})?(?: \d{{5}}(?:-\d{{4}})?)?)?"
)
_OF = r"(?:(?:de|du|des|la|le|del|della|di|da|dos|l['’]) ?){0,3}"

ADDRESS = re.compile(
    "|".join(
        (
            rf"(?<![\w.]){_NUMBER},? {_NAMES} (?i:{_ANY_STREET})(?!\w){_TOWN}",
            rf"(?<![\w.]){_NUMBER},? (?:{_PLAIN_NAME} ){{1,2}}(?i:{_ANY_STREET})(?!\w)(?! (?:is|are|for|to)\b){_TOWN}",
            rf"\b{_NAMES} (?i:{_ANY_STREET}) \d{{1,5}}[a-z]?(?!\w){_TOWN}",
            rf"(?i:\b{_JOINED_STREET} ?)(?:nr\.? ?)?{_NUMBER}(?!\w){_TOWN}",
            rf"(?i:\b{_ROMANCE_STREET}) {_OF}{_NAMES},? ?\d{{1,5}}(?!\w){_TOWN}",
            rf"(?<![\w.]){_NUMBER},? (?i:{_ROMANCE_STREET}) {_OF}{_NAMES}{_TOWN}",
            r"(?i:\bP\.? ?O\.? ?box \d+)",
            # Postcodes that stand alone: British ones, and a five-digit one with its town.
            rf"\b{_BRITISH}",
            r"(?i:(?<=zip code is )|(?<=my zip is )|(?<=postcode is )|(?<=plz ist ))\w{2,4} ?\w{0,4}",
            rf"(?<![\d.,])\d{{5}} {_NAME}(?=[.,!?]|$)",
        )
    )
)
TOLD_ADDRESS = re.compile(
    r"(?i:\b(?:my|our) (?:home )?address(?: is|:)(?! (?:a|the|not|so|very|secret|in|near|my)\b)"
    r"|\b(?:i|we) live (?:at|in)(?: number| no\.?)?(?= (?:\d|flat|apartment)))"
    r"(?P<it> [^.!?\n]{3,80}?)(?=[.!?\n]|$| (?:and|but|what|how|do|can|please)\b)"
)

_KIND = (
    r"(?:elementary|primary|middle|high|grammar|secondary|infants?|junior|nursery|boarding|public|state|international"
    r"|catholic|comprehensive|preparatory|prep|village|community|montessori|waldorf|steiner)"
)
_SCHOOL = r"(?:school|academy|college|kindergarten|pre-?school|gymnasium|realschule|gesamtschule|hauptschule|lyc[ée]e)"
_ITS_NAME = rf"(?:(?!(?:[Mm]y|[Oo]ur|[Tt]he|[Aa]|[Ii]n|[Aa]t|[Ii])\b)(?:St\.? )?{_NAME}(?: {_NAME}){{0,3}}?)"

SCHOOL = re.compile(
    "|".join(
        (
            # Oakwood Primary School, Lincoln Elementary, St. Mary's Academy.
            rf"\b{_ITS_NAME}(?: (?i:{_KIND}))* (?i:{_SCHOOL})\b",
            rf"(?<!\w){_ITS_NAME} (?i:elementary|primary|(?:middle|high) school|infants?|grammar|secondary)\b"
            r"(?! (?i:colou?rs?|forest))",
            # Goethe-Schule, Astrid-Lindgren-Grundschule, Grundschule am See.
            r"\b[A-ZÄÖÜ][\w-]*-(?:[Ss]chule|[Gg]ymnasium|[Gg]rundschule|[Rr]ealschule|[Gg]esamtschule)\b",
            r"\b(?:Grundschule|Realschule|Gesamtschule|Gymnasium|École|Escuela|Colegio|Scuola|Lycée|Collège)"
            rf"(?: (?:am|an der|de|de la|du|St\.))? {_NAME}",
        )
    )
)
_MY_SCHOOL = r"\b(?:my|our) (?:\w+ )?(?:school|kindergarten|nursery|preschool)"
TOLD_SCHOOL = re.compile(
    rf"(?i:{_MY_SCHOOL}(?:'s name)?,? (?:is (?:called|named)|name is))(?P<it> [^.!?,\n]{{2,60}}?)"
    r"(?=[.!?,\n]|$| (?:and|but|what|how|do|can|please|in|where|we|i)\b)"
)
IS_CALLED_BY_NAME = re.compile(rf"(?i:{_MY_SCHOOL} is)(?P<it> (?:St\.? )?{_NAME}(?: {_NAME}){{0,3}})")
GOES_TO_SCHOOL = re.compile(
    r"(?i:\b(?:go(?:es)? to|attend|(?:student|pupil|study) at|in (?:year|grade|class) \w+ (?:at|of)|from)(?: the)?)"
    r"(?P<it> (?!(?:a|an|the|my|our|your|school|primary|high|elementary|middle|nursery|big|small|same|another)\b)"
    rf"(?:[\w'’.-]+ ){{1,3}}?(?i:(?:{_KIND} )?(?:school|academy|kindergarten|preschool)|elementary|primary))(?!\w)"
)
