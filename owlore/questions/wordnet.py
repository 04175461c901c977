"""Four-way questions about words, generated from WordNet: category, antonym, definition.

They are the trained families of the embedded study: real words and real definitions, short enough
to learn something measurable in a minute of CPU time, and known by a small model only in part.

Rules that all families share:

- Only common, lower-case, inoffensive words: 3 to 12 letters, met in WordNet's tagged texts.
- A word's side (train, validation, test) is the hash of its antonym group's first word, so that a
  word, or a pair of opposites, is on one side in all families. No word that a test question asks
  for, as headword or as right answer, is a headword or a right answer in train or validation;
  as a wrong choice any word may be anywhere.
- Wrong choices are not near the right one in WordNet (two relations), so that one choice is right.
- The right choice is at each position equally often, in every four questions of a file.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from owlore.questions.lexicon import Key, Lexicon, Sense
from owlore.questions.splits import SPLITS, draw, shuffled, split_of
from owlore.questions.vocabulary import (
    antonym_groups,
    commonest,
    is_decent,
    is_main,
    opposites,
    tags_of,
    usable_words,
)
from owlore.study.config import WordNet

Row = dict[str, Any]  # question, choices (4), answer (index), cluster

CHOICES = 4

# Lexicographer file → what the question calls it, and the words of its most general synsets: a
# word counts only if it is, by WordNet's relations too, a kind of one of them.
CATEGORIES = {
    "noun.person": ("person", {"person"}),
    "noun.artifact": ("artifact", {"artifact"}),
    "noun.animal": ("animal", {"animal"}),
    "noun.plant": ("plant", {"plant", "plant_part", "wood"}),
    "noun.time": ("time", {"time_period", "time_unit", "clock_time", "point", "past", "future"}),
    "noun.location": ("place", {"location"}),
    "noun.body": ("body", {"body_part", "body_substance", "hair"}),
    "noun.act": ("action", {"act"}),
    "noun.food": ("food", {"food", "beverage"}),
    "noun.substance": ("substance", {"substance"}),
    "noun.feeling": ("feeling", {"feeling"}),
    "noun.communication": ("communication", {"communication"}),
    "noun.quantity": ("quantity", {"measure"}),
    "noun.possession": ("possession", {"possession"}),
    "noun.state": ("state", {"state"}),
    "noun.event": ("event", {"event"}),
    "noun.group": ("group", {"group"}),
    "noun.attribute": ("quality", {"attribute"}),
    "noun.cognition": ("thought", {"cognition"}),
    "noun.process": ("process", {"process"}),
}
# A kitchen is an artifact and a place, bread a food and a substance: not asked against each other
# as long as there are other categories.
CLOSE = {
    "person": {"group"},
    "animal": {"food", "body", "group"},
    "plant": {"food", "substance", "body", "group"},
    "artifact": {"place", "substance", "food", "possession", "communication", "group"},
    "time": {"event", "quantity", "state", "process"},
    "food": {"substance", "body"},
    "body": {"substance"},
    "feeling": {"state", "quality", "thought", "action"},
    "place": {"group", "event"},
    "communication": {"action", "event", "thought"},
    "action": {"event", "process", "state"},
    "quantity": {"possession", "quality", "group"},
    "state": {"event", "quality", "process", "thought"},
    "event": {"process"},
    "quality": {"thought"},
    "thought": {"process", "group"},
}


class Item(NamedTuple):
    """A question before its choices have an order."""

    question: str
    right: str
    wrong: tuple[str, ...]
    cluster: str
    word: str  # decides the side


def generate(lexicon: Lexicon, rules: WordNet, seed: int) -> dict[str, dict[str, list[Row]]]:
    """Generate all questions: family → split → rows in their final order.

    Args:
        lexicon: WordNet.
        rules: limits of the generator.
        seed: draws the words of each category, the wrong choices and the order.
    """
    words = usable_words(lexicon, rules.min_tagged_frequency)
    groups = antonym_groups(lexicon)
    families = {
        "wordnet_category": _category_items(lexicon, words, rules, seed),
        "wordnet_antonym": _antonym_items(lexicon, words, seed),
        "wordnet_definition": _definition_items(lexicon, words, rules, seed),
    }
    questions: dict[str, dict[str, list[Row]]] = {}
    for family, items in families.items():
        sides: dict[str, list[Item]] = {split: [] for split in SPLITS}
        for item in items:
            sides[split_of(groups.get(item.word, item.word))].append(item)
        questions[family] = {
            split: _ordered(sides[split], f"{seed} {family} {split}") for split in SPLITS
        }
    return questions


def _category_items(
    lexicon: Lexicon, words: dict[str, tuple[Sense, ...]], rules: WordNet, seed: int
) -> Iterator[Item]:
    """Ask for the category of nouns all senses of which are in it."""
    categories = dict(list(CATEGORIES.items())[: rules.categories])
    members = defaultdict(list)
    for word, senses in words.items():
        nouns = [sense.synset for sense in senses if sense.synset[0] == "n"]
        lexnames = {lexicon.synsets[synset].lexname for synset in nouns}
        if len(lexnames) != 1 or not lexnames <= categories.keys():
            continue
        tags: Counter[str] = Counter()
        for sense in senses:
            tags[sense.synset[0]] += sense.tags
        (lexname,) = lexnames
        if tags["n"] == max(tags.values()) and all(
            lexicon.kinds(synset) & categories[lexname][1]
            and is_decent(lexicon.synsets[synset].gloss)
            for synset in nouns
        ):
            members[lexname].append(word)
    for lexname, (name, _) in categories.items():
        chosen = shuffled(members[lexname], f"{seed} category")
        for word in chosen[: rules.words_per_category]:
            kinds = {kind for sense in words[word] for kind in lexicon.kinds(sense.synset)}
            others = [
                other
                for other, general in categories.values()
                if other != name and not kinds & general
            ]
            others = shuffled(others, f"{seed} category {word}")
            others.sort(
                key=lambda other: other in CLOSE.get(name, ()) or name in CLOSE.get(other, ())
            )
            if len(others) >= CHOICES - 1:
                question = f'What kind of thing does the word "{word}" name?'
                yield Item(question, name, tuple(others[: CHOICES - 1]), word, word)


def _antonym_items(
    lexicon: Lexicon, words: dict[str, tuple[Sense, ...]], seed: int
) -> Iterator[Item]:
    """Ask for the opposite of a word, each pair in one direction; each word is in one pair."""
    pairs = _antonym_pairs(lexicon, words)
    pools = defaultdict(list)
    for pair in pairs:
        for word, key in pair.items():
            pools[key[0]].append(word)
    rivals = defaultdict(set)
    for _, word, _, opposite in opposites(lexicon):
        rivals[word].add(opposite)
    for pair in pairs:
        cluster = "/".join(sorted(pair))
        headword, right = sorted(pair, reverse=bool(draw(f"{seed} antonym {cluster}", 2)))
        near = {word for key in pair.values() for word in lexicon.around(key, 2)}
        wrong = _draw_wrong(
            pools[pair[right][0]], f"{seed} antonym {headword}", near | rivals[headword]
        )
        if wrong:
            question = f'Which word is the opposite of "{headword}"?'
            yield Item(question, right, wrong, cluster, headword)


def _antonym_pairs(lexicon: Lexicon, words: dict[str, tuple[Sense, ...]]) -> list[dict[str, Key]]:
    """Pairs of opposites with the synset of each word, the commonest pair of each word only."""
    by_sense = defaultdict(list)
    for key, word, target, opposite in opposites(lexicon):
        by_sense[key, word].append((target, opposite))
    candidates = []
    for (key, word), found in by_sense.items():
        target, opposite = found[0]
        if (
            word < opposite
            # one opposite each: not positive, neutral, negative
            and len(found) == len(by_sense.get((target, opposite), ())) == 1
            and is_main(words.get(word, ()), key)
            and is_main(words.get(opposite, ()), target)
            and is_decent(lexicon.synsets[key].gloss)
            and is_decent(lexicon.synsets[target].gloss)
            # the spelling gives it away: careful, careless; even, uneven
            and word[:4] != opposite[:4]
            and not word.endswith(opposite)
            and not opposite.endswith(word)
        ):
            tags = min(tags_of(words[word], key), tags_of(words[opposite], target))
            candidates.append((-tags, word, opposite, key, target))
    taken: set[str] = set()
    pairs = []
    for _, word, opposite, key, target in sorted(candidates):
        if taken.isdisjoint((word, opposite)):
            taken |= {word, opposite}
            pairs.append({word: key, opposite: target})
    return pairs


def _definition_items(
    lexicon: Lexicon, words: dict[str, tuple[Sense, ...]], rules: WordNet, seed: int
) -> Iterator[Item]:
    """Ask which word has a definition: the first word of its synset, in its commonest sense."""
    times = Counter(synset.definition for synset in lexicon.synsets.values())
    headwords: dict[str, Key] = {}
    pools = defaultdict(list)
    for word, senses in words.items():
        key = commonest(senses)
        synset = lexicon.synsets[key]
        pools[synset.lexname].append(word)
        if (
            synset.words[0] == word
            and re.fullmatch(r"[A-Za-z ,'-]+", synset.definition)
            and 3 <= len(synset.definition.split()) <= rules.max_definition_words
            and not _shows(synset.definition, word)
            and times[synset.definition] == 1
        ):
            headwords[word] = key
    for word, key in headwords.items():
        synset = lexicon.synsets[key]
        near = lexicon.around(key, 2)
        salt = f"{seed} definition {word}"
        wrong = _draw_wrong(pools[synset.lexname], salt, near, synset.definition)
        if wrong:
            yield Item(f'Which word means "{synset.definition}"?', word, wrong, word, word)


def _shows(text: str, word: str) -> bool:
    """Whether a text holds the word, or one that looks related (act and action, even, uneven)."""
    for token in re.findall("[a-z]+", text.lower()):
        if token == word or (
            len(token) > 3 and (token[:4] == word[:4] or token in word or word in token)
        ):
            return True
    return False


def _draw_wrong(
    pool: list[str], key: str, near: set[str], text: str = ""
) -> tuple[str, ...] | None:
    """Draw three words of the pool, not near the right one nor shown in the text, if there are."""
    wrong: list[str] = []
    for attempt in range(100):
        word = pool[draw(f"{key} {attempt}", len(pool))]
        if word not in wrong and word not in near and not _shows(text, word):
            wrong.append(word)
            if len(wrong) == CHOICES - 1:
                return tuple(wrong)
    return None


def _ordered(items: list[Item], salt: str) -> list[Row]:
    """Shuffle the questions and put the right choice at each position once in every four."""
    rows = []
    for number, item in enumerate(shuffled(items, salt, lambda item: item.question)):
        block, place = divmod(number, CHOICES)
        answer = shuffled(range(CHOICES), f"{salt} {block}")[place]
        choices = [*item.wrong[:answer], item.right, *item.wrong[answer:]]
        rows.append(
            {
                "question": item.question,
                "choices": choices,
                "answer": answer,
                "cluster": item.cluster,
            }
        )
    return rows
