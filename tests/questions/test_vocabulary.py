"""Which words the questions use, and their opposites."""

from support.archives import TinyWordNet, lexicon_of

from owlore.questions.vocabulary import antonym_groups


def test_antonym_groups_join_chains(tmp_path):
    wordnet = TinyWordNet()
    depart, stay, move = (wordnet.add("v", "verb.change", w) for w in ("depart", "stay", "move"))
    wordnet.oppose(depart, stay)
    wordnet.oppose(stay, move)
    groups = antonym_groups(lexicon_of(tmp_path, wordnet))
    assert groups == {"depart": "depart", "stay": "depart", "move": "depart"}
