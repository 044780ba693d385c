"""Recognise full stops that end no sentence: after abbreviations, initials and ordinals, in the Latin script.

The language of a text is not known, so the abbreviations of all languages apply to every text. One that is also a word
in any of them ("no", "art", "max") counts as an abbreviation only before a number.
"""

from __future__ import annotations

import re

# Never the last word of a sentence. Abbreviations that are always followed by a small letter need no list.
_NEVER_BY_LANGUAGE = {
    "en": "Mr Mrs Ms Messrs Dr Drs prof Rev Hon Gov Pres Sen Reps Rep Capt Cpt Cmdr Cdr Col Cpl Gen Lt Maj Sgt Adm "
    "Insp Supt Mt Ft Fig Figs Eq Eqs e.g i.e cf vs viz approx resp incl excl esp ibid dept Natl Intl Univ",
    "de": "Hr Hrn Fr Frl Fam Dipl Ing Mag Hl z.B d.h u.U i.d.R bzw bspw sog vgl evtl ggf gegr inkl exkl zzgl insb "
    "insbes einschl lt vermutl tägl jährl Hrsg Verf Vors Zit Aufl mtl Abt",
    "fr": "Mme Mmes Mlle Mlles MM Mgr Vve Ste Cie Sté p.ex env réf tél gén bd av",
    "es": "dra sra sres sras srta srtas dña Ud Uds Vd Vds lic ing arq profa Gral Cnel Tte Sgto mons Rvdo Excmo Excma "
    "Ilmo Ilma Sto Sta Mtra Mtro Avda Pza aprox p.ej tel depto cía Pdte Dir EE",
    "it": "sig sigg dott avv ing geom cav comm egr gent spett gen col soc magg cfr fatt",
    "pt": "dr sra srs srta dra Exmo Exma profa eng av aprox",
    "nl": "dhr mevr mw Ir drs bijv",
}
_BEFORE_A_NUMBER_BY_LANGUAGE = {
    "en": "no nos pp vol vols ch chap sec art op ex pt fig figs eq eqs max min ft ref Jan Feb Mar Apr Jun Jul Aug Sep "
    "Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun",
    "de": "Nr Nrn Abs Art Rn Rdn Ziff Anh Anm Abb Tab Kap Bl ca gem mind Jän Mär Okt Dez",
    "fr": "al janv févr fév avr sept juil déc lun jeu ven sam",
    "es": "núm núms pág págs apdo cap ene abr ago dic exp nº",
    "it": "nn pag pagg segg co genn febb giu lug ago sett ott",
    "pt": "dez",
    "nl": "nr blz mrt okt",
}
# Sometimes the last word of a sentence: it is, if the next word is one with which sentences begin.
_SOMETIMES_BY_LANGUAGE = {
    "en": "al Jr Sr Inc Ltd Corp Co Bros St Ave Blvd Rd ed eds Ph.D M.D B.A M.A a.m p.m",
    "de": "str Chr Jh Jhd Std Bd Mio Mrd qm ff",
    "fr": "éd",
    "es": "EE.UU ss",
}
# Articles, pronouns, conjunctions, prepositions and the like, which no name begins with ...
_STARTERS_BY_LANGUAGE = {
    "en": "the a an this that these those he she it they we you there here his her its their our my your however but "
    "and or then thus therefore although though when while if after before since because in on at by for from with as "
    "under during according both each all many most some several such not nobody everybody other others another only "
    "what who why how where which despite once also meanwhile later instead neither nor until",
    "de": "die ein eine einer eines dem er sie es wir ihr ich dies diese dieser dieses jene dort hier dann danach doch "
    "aber und oder auch als wenn weil während nach vor im am auf bei mit vom für aus durch über unter seit trotz "
    "jedoch allerdings dabei damit deshalb daher außerdem zudem insgesamt seine ihre sein kein keine nur alle viele "
    "einige beide wie wer wo wann warum nun nachdem obwohl",
    "fr": "il elle on nous vous ils elles je ce cette ces cet c' j' n' s' qu' les un une mais et donc puis ensuite "
    "ainsi alors après avant pendant depuis dans en sur sous pour par avec sans selon quand lorsque comme tous toutes "
    "plusieurs certains aucun aucune son sa ses leur leurs notre nos personne rien",
    "es": "una unos unas él ella ellos ellas esto este esta estos estas ese esa sus pero así entonces luego después "
    "antes durante desde con según cuando todos muchos algunos nadie nada también además les nos ambos otro otra otros "
    "hay era fue",
    "it": "gli uno egli lui lei loro noi voi questo questa questi queste quello quella suo sua suoi così poi dopo "
    "prima con secondo quando tutti molti alcuni nessuno niente anche inoltre nel nella nei sul sulla alla dalla fu è",
    "pt": "os um uma ele ela eles elas isto esse essa seu mas então depois em na nas com sem quando muitos ninguém não",
    "nl": "het een hij zij ze dit dat deze maar dus toen daarna op met voor uit door zijn haar hun",
}
# ... and some that also stand in names: after a single letter they begin no sentence (J. La Salle, X. Su).
_NAME_PARTS = (
    "le la el los las lo l' d' der das den de des il su ma so no si se per sin da al i o e y non an he"
)


def _forms(by_language: dict[str, str]) -> frozenset[str]:
    """The words as they are written, and with a capital."""
    words = {word for words in by_language.values() for word in words.split()}
    return frozenset(words | {word[:1].upper() + word[1:] for word in words})


NEVER = _forms(_NEVER_BY_LANGUAGE)
BEFORE_A_NUMBER = _forms(_BEFORE_A_NUMBER_BY_LANGUAGE)
SOMETIMES = _forms(_SOMETIMES_BY_LANGUAGE)
NAME_PARTS = frozenset(_NAME_PARTS.split())
STARTERS = NAME_PARTS | {word for words in _STARTERS_BY_LANGUAGE.values() for word in words.split()}
NOTHING: frozenset[str] = frozenset()

_LONGEST = 24  # characters before a full stop that are examined
# The word before a full stop, with the abbreviated one before it ("z. B", "Ph.D"); of "Hauptstr" the end.
_BEFORE = re.compile(r"(?:(?<![^\W_])([^\W\d_]{1,4}\.[ \u00a0\u202f]?))?(?<![^\W_])([^\W\d_]+)\Z")
_STREET = "str"
# A letter or a small number alone, an initial or an ordinal: "J. Doe", "J.-P. Sartre", "am 7. Mai", but not "don't".
_ALONE = re.compile(r"""(?:(?<![^\s.(\["'“„«-])(?!(?<=[^\W_]')[a-z])[^\W\d_]|(?<![^\s(\[])\d{1,3})\Z""")
# "Nr. 7", "S. 7", but not "z. B. 7".
_NUMBER_AFTER_WORD = re.compile(
    r"(?<![^\W_])(?<!\b[^\W\d_]\.)(?<!\b[^\W\d_]\.[ \u00a0\u202f])([^\W\d_]+)\.[ \u00a0\u202f]?\d{1,3}\Z"
)
_UNIT = re.compile(r"\d[ \u00a0\u202f][^\W\d_]\Z")
# Before a letter or number that begins a line, or follows a mark and a space, and so counts items of a list.
_BEGINNING = re.compile(r"(?:\A|[\r\n]|[.:;,!?(\[][ \t])[ \t]*\Z")
_NEXT_WORD = re.compile(r"[^\W\d_]+['’]?")
_SHORT = 3
_AFTER_A_NAME = re.compile(r"[.,;)]|[ \u00a0]et al\b")
_NUMERAL = re.compile(r"\d|(?:[IVXLC]{2,}|[VX])\b|[#§]")
_SPACES = str.maketrans("", "", " \u00a0\u202f")


def goes_on(text: str, stop: int, after: int) -> bool:
    """Return whether the sentence goes on after the full stop at `stop`, judged by the words around it."""
    before = text[max(0, stop - _LONGEST) : stop]
    word = _BEFORE.search(before)
    prior, last = (word[1] or "", word[2]) if word else ("", "")
    if last.endswith(_STREET):
        last = _STREET
    words = {last, (prior + last).translate(_SPACES)}
    if words & NEVER or (words & BEFORE_A_NUMBER and _NUMERAL.match(text, after)):
        return True
    if words & SOMETIMES:
        return not _begins_sentence(text, after, names=NOTHING)
    alone = _ALONE.search(before)
    if alone is None:
        return False
    number = _NUMBER_AFTER_WORD.search(before)
    if number and (len(number[1]) == 1 or number[1] in BEFORE_A_NUMBER):
        return False
    in_row = prior != "" and last.islower()  # z. B., u. a.
    counts = _BEGINNING.search(before, 0, alone.start()) is not None
    names = NOTHING if alone[0].isdigit() or _UNIT.search(before) else NAME_PARTS
    return in_row or counts or not _begins_sentence(text, after, names=names)


def _begins_sentence(text: str, position: int, *, names: frozenset[str]) -> bool:
    """Return whether the word at `position` is one with which sentences begin, and not one of `names`."""
    match = _NEXT_WORD.match(text, position)
    if match is None:
        return False
    word = match[0].casefold().replace("’", "'")
    if len(word) <= _SHORT and _AFTER_A_NAME.match(text, match.end()):
        return False
    return word in STARTERS and word not in names
