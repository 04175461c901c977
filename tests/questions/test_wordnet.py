"""WordNet: what holds for every generated question."""

from collections import Counter

import pytest
from support.archives import (
    TinyWordNet,
    lexicon_of,
    made_up,
    tiny_wordnet,
)

from owlore.questions.splits import SPLITS, split_of
from owlore.questions.vocabulary import opposites, usable_words
from owlore.questions.wordnet import CATEGORIES, generate
from owlore.study.config import WordNet

RULES = WordNet(categories=10, words_per_category=40)


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory):
    return lexicon_of(tmp_path_factory.mktemp("wn"), tiny_wordnet())


@pytest.fixture(scope="module")
def questions(lexicon):
    return generate(lexicon, RULES, 0)


def all_rows(questions):
    return [row for splits in questions.values() for rows in splits.values() for row in rows]


def asked(row):
    """The words a question asks for: its headword or pair, and the right choice if a word."""
    words = set(row["cluster"].split("/"))
    right = row["choices"][row["answer"]]
    return words if right in {name for name, _ in CATEGORIES.values()} else words | {right}


# --- every question


def test_every_family_has_questions_on_every_side(questions):
    for family, splits in questions.items():
        for split in SPLITS:
            assert len(splits[split]) >= 4, (family, split)
    assert sum(len(rows) for rows in questions["wordnet_category"].values()) == 400


def test_no_word_asked_for_on_one_side_is_asked_for_on_another(questions):
    words = {
        split: set().union(*(asked(row) for part in questions.values() for row in part[split]))
        for split in SPLITS
    }
    assert words["train"].isdisjoint(words["validation"] | words["test"])
    assert words["validation"].isdisjoint(words["test"])


def test_opposites_are_on_one_side_in_all_families(lexicon, questions):
    side = {
        word: split
        for part in questions.values()
        for split, rows in part.items()
        for row in rows
        for word in asked(row)
    }
    pairs = {(word, other) for _, word, _, other in opposites(lexicon)}
    both = [pair for pair in pairs if pair[0] in side and pair[1] in side]
    assert len(both) >= 100
    assert all(side[word] == side[other] for word, other in both)
    # the tiny WordNet must be able to show a leak: by their own hashes many pairs would part
    assert sum(split_of(word) != split_of(other) for word, other in both) > 20


def test_right_choices_are_at_each_position_once_in_every_four(questions):
    for splits in questions.values():
        for rows in splits.values():
            answers = [row["answer"] for row in rows]
            for start in range(0, len(answers), 4):
                block = answers[start : start + 4]
                assert len(set(block)) == len(block)
            counts = Counter(answers)
            assert max(counts.values()) - min(counts[i] for i in range(4)) <= 1
    orders = {tuple(rows["answer"] for rows in part["train"][:4]) for part in questions.values()}
    assert len(orders) > 1  # not always 0, 1, 2, 3


def test_choices_are_four_different_ones_and_rows_have_the_contract_s_shape(questions):
    for row in all_rows(questions):
        assert list(row) == ["question", "choices", "answer", "cluster"]
        assert len(set(row["choices"])) == 4


def test_the_same_seed_gives_the_same_questions_and_another_seed_others(lexicon, questions):
    assert generate(lexicon, RULES, 0) == questions
    other = generate(lexicon, RULES, 1)
    assert other != questions
    for family, splits in questions.items():  # but nothing changes sides
        for split in SPLITS:
            mine, theirs = (
                set().union(*(set(row["cluster"].split("/")) for row in part[family][split]))
                for part in (questions, other)
            )
            assert mine == theirs or family == "wordnet_category"
            assert splits[split] != other[family][split]


def test_more_words_move_no_question_to_another_side(tmp_path, questions):
    wordnet = tiny_wordnet()
    for i in range(50):
        wordnet.add("v", "verb.change", made_up(f"more {i}"))
    more = generate(lexicon_of(tmp_path, wordnet), RULES, 0)
    for family in questions:
        for split in SPLITS:
            before = {row["cluster"] for row in questions[family][split]}
            assert before <= {row["cluster"] for row in more[family][split]}


# --- which words and choices


def test_unwanted_rare_and_capitalised_words_appear_nowhere(tmp_path):
    wordnet = tiny_wordnet()
    insult, rare, city, label = (made_up(name) for name in ("insult", "rare", "city", "label"))
    wordnet.add("n", "noun.person", insult, "(ethnic slur) offensive term for a person")
    wordnet.add("n", "noun.person", label, "a good person, really", tags=9)
    wordnet.add("v", "verb.change", label, "obscene word for going", tags=0)  # another sense
    wordnet.add("n", "noun.person", rare, "a person one seldom meets", tags=0)
    wordnet.add("n", "noun.location", city.capitalize(), "the capital of somewhere")
    wordnet.add("n", "noun.act", "murder", "the crime of ending a life")
    lexicon = lexicon_of(tmp_path, wordnet)
    text = str(all_rows(generate(lexicon, RULES, 0)))
    for word in (insult, label, rare, city, "murder"):
        assert word not in text
    assert rare in usable_words(lexicon, 0)


def test_a_definition_is_not_asked_if_it_gives_the_word_away(tmp_path):
    wordnet = tiny_wordnet()
    leaks = {
        "kettle": "a big kettle of tin",  # the word itself
        "painter": "one who paints it",  # a related word
        "uneven": "not quite even now",  # a part of the word
        "spade": "a digging tool (for hands)",  # remarks
        "ladle": "a spoon",  # too short
        "shovel": "a thing that is so long to say that nobody would read it",  # too long
    }
    for word, gloss in leaks.items():
        wordnet.add("n", "noun.artifact", word, gloss)
    wordnet.add(
        "n", "noun.artifact", "hammer", 'a tool for nails; also for doors; "the hammer fell"'
    )
    for word in ("goblet", "chalice"):  # two words with the same definition
        wordnet.add("n", "noun.artifact", word, "a cup for wine")
    rows = generate(lexicon_of(tmp_path, wordnet), RULES, 0)["wordnet_definition"]
    by_word = {row["cluster"]: row["question"] for part in rows.values() for row in part}
    assert by_word.keys().isdisjoint([*leaks, "goblet", "chalice"])
    assert by_word["hammer"] == 'Which word means "a tool for nails"?'


def test_words_near_the_right_one_are_no_wrong_choices(tmp_path):
    wordnet = TinyWordNet()
    general = wordnet.add("v", "verb.change", "gogo", "to move at all")
    kin = []
    for i in range(12):  # half of the pool is related to the asked word
        synset = wordnet.add("v", "verb.change", [made_up(f"kin {i}"), made_up(f"twin {i}")])
        wordnet.link(synset, "@", general)
        wordnet.link(general, "~", synset)
        kin.append(synset)
    strangers = {made_up(f"stranger {i}") for i in range(12)}
    for word in strangers:
        wordnet.add("v", "verb.change", word)
    rows = generate(lexicon_of(tmp_path, wordnet), RULES, 0)["wordnet_definition"]
    related = [
        row
        for part in rows.values()
        for row in part
        if row["cluster"] in {made_up(f"kin {i}") for i in range(12)}
    ]
    assert len(related) == 12
    for row in related:
        assert set(row["choices"]) - {row["cluster"]} <= strangers


def test_a_category_that_also_fits_is_no_wrong_choice(tmp_path):
    wordnet = tiny_wordnet(10)
    root = {synset[2][0]: i for i, synset in enumerate(wordnet.synsets) if synset[1] == "noun.Tops"}
    for i in range(20):  # food that is also a kind of artifact
        both = wordnet.add("n", "noun.food", made_up(f"both {i}"))
        wordnet.link(both, "@", root["beverage"])
        wordnet.link(both, "@", root["artifact"])
        two = made_up(f"two {i}")  # senses in two categories
        wordnet.link(wordnet.add("n", "noun.animal", two), "@", root["animal"])
        wordnet.link(wordnet.add("n", "noun.person", two), "@", root["person"])
        wordnet.add("n", "noun.plant", made_up(f"stray {i}"))  # a kind of nothing
    rows = generate(lexicon_of(tmp_path, wordnet), RULES, 0)["wordnet_category"]
    by_word = {row["cluster"]: row["choices"] for part in rows.values() for row in part}
    for i in range(20):
        assert "food" in by_word[made_up(f"both {i}")]
        assert "artifact" not in by_word[made_up(f"both {i}")]
        assert made_up(f"two {i}") not in by_word
        assert made_up(f"stray {i}") not in by_word


@pytest.mark.parametrize("categories", [4, 10, 20])
def test_only_the_first_categories_are_used_and_each_has_its_share(lexicon, categories):
    rules = WordNet(categories=categories, words_per_category=7)
    rows = generate(lexicon, rules, 0)["wordnet_category"]
    right = Counter(row["choices"][row["answer"]] for part in rows.values() for row in part)
    assert right == {name: 7 for name, _ in list(CATEGORIES.values())[:categories]}
    assert {c for part in rows.values() for row in part for c in row["choices"]} == set(right)


def test_antonyms_have_one_opposite_and_are_in_one_pair(tmp_path):
    wordnet = tiny_wordnet(4)
    plus, minus, zero = (
        wordnet.add("a", "adj.all", w) for w in ("positive", "negative", "neutral")
    )
    wordnet.oppose(plus, minus)
    wordnet.oppose(plus, zero)
    for one, other in (("careful", "careless"), ("happy", "unhappy")):  # the spelling tells
        wordnet.oppose(wordnet.add("a", "adj.all", one), wordnet.add("a", "adj.all", other))
    bank, shelf = (
        wordnet.add("a", "adj.all", "bad", tags=9),
        wordnet.add("a", "adj.all", "bad", tags=2),
    )
    wordnet.oppose(bank, wordnet.add("a", "adj.all", "good", tags=8))
    wordnet.oppose(shelf, wordnet.add("a", "adj.all", "fresh", tags=1))
    rows = generate(lexicon_of(tmp_path, wordnet), RULES, 0)["wordnet_antonym"]
    clusters = Counter(row["cluster"] for part in rows.values() for row in part)
    words = {word for cluster in clusters for word in cluster.split("/")}
    assert clusters["bad/good"] == 1
    assert words.isdisjoint(
        {"positive", "negative", "neutral", "careful", "careless", "happy", "unhappy", "fresh"}
    )
    assert len(words) == 2 * len(clusters)
    for part in rows.values():
        for row in part:
            headword = row["question"].split('"')[1]
            pair = {headword, row["choices"][row["answer"]]}
            assert pair == set(row["cluster"].split("/"))
            assert headword not in row["choices"]
