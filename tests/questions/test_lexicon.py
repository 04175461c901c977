"""WordNet's files: what is read out of them, and what is said of broken ones."""

import pytest
from support.archives import (
    FOLDER,
    TinyWordNet,
    lexicon_of,
    tiny_wordnet,
    write_sdist,
    write_wordnet,
)

from owlore.core.errors import BadInput
from owlore.questions.lexicon import read_lexicon
from owlore.questions.vocabulary import opposites


def test_relations_resolve_although_line_ends_moved_every_line(tmp_path):
    wordnet = TinyWordNet()
    animal = wordnet.add(
        "n", "noun.Tops", ["animal", "beast"], 'a thing; it lives; "an animal ate"'
    )
    dog = wordnet.add("n", "noun.animal", "dog", "a pet (of man); barks", tags=7)
    wordnet.link(dog, "@", animal)
    big = wordnet.add("a", "adj.all", "big(a)", "large")
    wordnet.oppose(big, wordnet.add("a", "adj.all", "small", "little"))
    lexicon = lexicon_of(tmp_path, wordnet)
    (sense,) = lexicon.senses["dog"]
    synset = lexicon.synsets[sense.synset]
    assert (synset.lexname, synset.words, sense.tags) == ("noun.animal", ("dog",), 7)
    assert synset.definition == "a pet (of man)"
    parent = lexicon.synsets[synset.pointers[0].target]
    assert (parent.words, parent.definition) == (("animal", "beast"), "a thing")
    assert parent.examples == ["an animal ate"]
    assert (
        lexicon.kinds(sense.synset) == lexicon.around(sense.synset, 1) == {"dog", "animal", "beast"}
    )
    assert {(word, other) for _, word, _, other in opposites(lexicon)} == {
        ("big", "small"),
        ("small", "big"),
    }
    assert lexicon.license == "WordNet Release\n\nkeep this notice\n"


def test_senses_of_all_parts_of_speech_keep_their_order_and_counts(tmp_path):
    wordnet = TinyWordNet()
    wordnet.add("n", "noun.act", "run", "a race", tags=5)
    wordnet.add("n", "noun.act", "run", "a score", tags=2)
    wordnet.add("v", "verb.change", "run", "go fast", tags=9)
    senses = lexicon_of(tmp_path, wordnet).senses["run"]
    assert [(sense.synset[0], sense.tags) for sense in senses] == [("n", 5), ("n", 2), ("v", 9)]


def test_a_malformed_line_is_named(tmp_path):
    files = tiny_wordnet(2, 2).files()
    lines = files["data.adj"].split("\r\n")
    lines[2] = lines[2].replace(" a 01 ", " a zz ")
    files["data.adj"] = "\r\n".join(lines)
    archive = write_sdist(tmp_path, {f"{FOLDER}/{name}": text for name, text in files.items()})
    with pytest.raises(BadInput, match=r"data\.adj:3: not in WordNet's format"):
        read_lexicon(archive, FOLDER)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"has no member nowhere/data\.noun"):
        read_lexicon(write_wordnet(tmp_path, tiny_wordnet(2, 2)), "nowhere")
