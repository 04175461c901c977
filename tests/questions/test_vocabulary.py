"""Which words the questions use, and their opposites."""

from support.archives import TinyWordNet, lexicon_of

from owlore.questions.lexicon import Sense
from owlore.questions.vocabulary import (
    antonym_groups,
    commonest,
    is_main,
    opposites,
    tags_of,
    usable_words,
)


def test_antonym_groups_join_chains(tmp_path):
    wordnet = TinyWordNet()
    depart, stay, move = (wordnet.add("v", "verb.change", w) for w in ("depart", "stay", "move"))
    wordnet.oppose(depart, stay)
    wordnet.oppose(stay, move)
    groups = antonym_groups(lexicon_of(tmp_path, wordnet))
    assert groups == {"depart": "depart", "stay": "depart", "move": "depart"}


def test_a_word_is_used_if_all_of_its_senses_allow_it(tmp_path):
    wordnet = TinyWordNet()
    for word, gloss, tags in (
        ("lamp", "a thing that shines", 3),
        ("rare", "a thing seldom met", 0),
        ("ox", "too short a word", 3),
        ("incomprehensibly", "too long a word", 3),
        ("ice_cream", "two words", 3),
        ("Paris", "the capital of France", 3),
        ("oaf", "a stupid person", 3),
        ("naked", "without clothes, nude", 3),
    ):
        wordnet.add("n", "noun.artifact", word, gloss, tags=tags)
    wordnet.add("n", "noun.artifact", "mole", "a small animal that digs", tags=9)
    wordnet.add("n", "noun.person", "mole", "an offensive word for somebody", tags=0)
    lexicon = lexicon_of(tmp_path, wordnet)
    assert set(usable_words(lexicon, 1)) == {"lamp"}
    assert set(usable_words(lexicon, 0)) == {"lamp", "rare"}


def test_how_common_a_sense_is():
    noun, other, verb = ("n", "1"), ("n", "2"), ("v", "3")
    senses = (Sense(noun, 2), Sense(other, 8), Sense(verb, 1))
    assert commonest(senses) == other
    assert tags_of(senses, other) == 8 and tags_of(senses, ("a", "9")) == 0
    assert is_main(senses, noun), "the first of its part of speech, and a quarter of the commonest"
    assert is_main(senses, other)
    assert is_main(senses, verb), "the only verb, however rare beside the nouns"
    assert not is_main(senses, ("a", "9"))
    assert not is_main((Sense(noun, 9), Sense(other, 2)), other), "less than a quarter"
    assert not is_main((Sense(noun, 0), Sense(other, 0)), other), "nothing is known of either"


def test_opposites_go_both_ways_between_the_words_that_are_linked(tmp_path):
    wordnet = TinyWordNet()
    hot = wordnet.add("a", "adj.all", ["hot", "torrid"])
    cold = wordnet.add("a", "adj.all", ["cold", "icy"])
    wordnet.oppose(hot, cold)
    pairs = {(word, other) for _, word, _, other in opposites(lexicon_of(tmp_path, wordnet))}
    assert pairs == {("hot", "cold"), ("cold", "hot")}
