"""Which of WordNet's words the questions use, and what they need to know about them.

Common words in lower case, without the offensive ones, and the pairs and groups of opposites.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from owlore.questions.lexicon import Key, Lexicon, Sense

# A word is not used if the gloss of any of its senses says that it insults, or that it names people
# who are often insulted; nor if its commonest sense, or the one that is asked for, is about what a
# word game for everybody leaves out. WordNet's glosses carry the labels: no list of words needed.
LABELS = re.compile(
    r"offensive|disparag|derogat|pejorat|slur\b|obscen|vulgar|taboo|profan|insult|contempt|despic"
    r"|stupid|idiot|foolish|dull-witted|subnormal|insane|\bugly|slovenly|promiscu|prostitut|whore"
    r"|genital|copulat|half-breed|negr|\bjew|homosexual|lesbian|transvest|gay m[ae]n"
    r"|that you sit on|unable to walk|disabled in"
)
TOPICS = re.compile(
    r"\bsex|eroti|\blust|lewd|\bnude|naked|incest|\brap(e|ed|ist)\b|buttock|breasts?\b|menstru"
    r"|pregnan|abortion|castrat|\banus|excre|bowel|feces|fecal|urin(e|at)|defecat|vomit|semen\b"
    r"|ejacul|vagina|penis|testi[cs]|reproductive gland|pimp\b|\blick|\bpiss|stripper|murder"
    r"|homicid|\bkill|suicid|massacre|genocid|tortur|slaughter|behead|crucif|lynch|slave"
    r"|owned by someone|\bnazi|hitler|ethnic|racial|racist|prejudic|dark-skinned"
    r"|black (person|people|m[ae]n|wom[ae]n)|psycho(path|tic)"
    r"|mental(ly)? (retard|defici|handicap)|slow in mental|narcotic|heroin|cocaine|cannabis"
    r"|marijuana"
)


def usable_words(lexicon: Lexicon, min_tags: int) -> dict[str, tuple[Sense, ...]]:
    """Common, lower-case, inoffensive words with their senses."""
    return {
        word: senses
        for word, senses in lexicon.senses.items()
        if re.fullmatch("[a-z]{3,12}", word)
        and sum(sense.tags for sense in senses) >= min_tags
        and is_decent(f"{word}: {lexicon.synsets[commonest(senses)].gloss}")
        and all(
            word in lexicon.synsets[sense.synset].words  # else it is written Word or WORD
            and not LABELS.search(lexicon.synsets[sense.synset].gloss.lower())
            for sense in senses
        )
    }


def is_decent(text: str) -> bool:
    """Whether a gloss or a question fits a word game for everybody."""
    return not TOPICS.search(text.lower())


def commonest(senses: Iterable[Sense]) -> Key:
    """The synset in which a word is met most often."""
    return max(senses, key=lambda sense: sense.tags).synset


def antonym_groups(lexicon: Lexicon) -> dict[str, str]:
    """Map each word that has an opposite to the first word of its group, in alphabetic order."""
    others = defaultdict(set)
    for _, word, _, opposite in opposites(lexicon):
        others[word.lower()].add(opposite.lower())
        others[opposite.lower()].add(word.lower())
    first: dict[str, str] = {}
    for start in sorted(others):
        edge = [] if start in first else [start]
        while edge:
            first.update(dict.fromkeys(edge, start))
            edge = [other for word in edge for other in others[word] if other not in first]
    return first


def opposites(lexicon: Lexicon) -> Iterator[tuple[Key, str, Key, str]]:
    """All pairs of words that are opposites, with their synsets, in both directions."""
    for key, synset in lexicon.synsets.items():
        for symbol, target, source_word, target_word in synset.pointers:
            if symbol == "!" and source_word and target_word:
                opposite = lexicon.synsets[target].words[target_word - 1]
                yield key, synset.words[source_word - 1], target, opposite


def is_main(senses: Iterable[Sense], key: Key) -> bool:
    """Whether a sense is the first of its POS, or a quarter as common as the commonest one."""
    tags = {sense.synset: sense.tags for sense in senses if sense.synset[0] == key[0]}
    return key in tags and (key == next(iter(tags)) or 0 < max(tags.values()) <= 4 * tags[key])


def tags_of(senses: Iterable[Sense], key: Key) -> int:
    """How often a word was met in one of its senses."""
    return sum(sense.tags for sense in senses if sense.synset == key)
