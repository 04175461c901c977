"""WordNet's database files, read straight out of the archive that holds them.

The format is described in WordNet's own `wndb(5WN)` and `senseidx(5WN)` manual pages. Synset
offsets count the bytes of files with LF line ends; archives may hold CRLF files, so an offset is
used as a name (it stands at the start of its line) and never to seek.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from owlore.core.errors import BadInput
from owlore.sources.assets import open_members

Parsed = TypeVar("Parsed")
Key = tuple[str, str]  # part of speech (n, v, a, r) and offset: the name of a synset

POS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
SS_TYPE = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}  # 5: a satellite adjective


class Pointer(NamedTuple):
    """A relation to another synset, or between two words (numbered from 1; 0: whole synset)."""

    symbol: str
    target: Key
    source_word: int
    target_word: int


class Synset(NamedTuple):
    """Words with one meaning, its lexicographer file (noun.animal …), relations and gloss."""

    lexname: str
    words: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    gloss: str

    @property
    def definition(self) -> str:
        """The gloss without its remarks and examples."""
        return re.split(r'[;"]', self.gloss)[0].strip()

    @property
    def examples(self) -> list[str]:
        """The quoted example sentences of the gloss."""
        return re.findall(r'"([^"]+)"', self.gloss)


class Sense(NamedTuple):
    """One meaning of a word and how often it was met in WordNet's tagged texts."""

    synset: Key
    tags: int


@dataclass(frozen=True)
class Lexicon:
    """All synsets, and the senses of each lower-case word, most frequent first within a POS."""

    synsets: dict[Key, Synset]
    senses: dict[str, tuple[Sense, ...]]
    license: str

    def around(self, key: Key, hops: int) -> set[str]:
        """Words of all synsets within `hops` relations of a synset, itself included."""
        reached, edge = {key}, {key}
        for _ in range(hops):
            edge = {
                pointer.target
                for synset in edge
                for pointer in self.synsets[synset].pointers
                if pointer.symbol[0] not in ";-"  # domains: too wide to mean likeness
            } - reached
            reached |= edge
        return {word.lower() for synset in reached for word in self.synsets[synset].words}

    def kinds(self, key: Key) -> set[str]:
        """Words of a noun's or verb's synset and of everything it is a kind of."""
        reached: set[Key] = set()
        edge = {key}
        while edge:
            reached |= edge
            edge = {
                pointer.target
                for synset in edge
                for pointer in self.synsets[synset].pointers
                if pointer.symbol in ("@", "@i")
            } - reached
        return {word for synset in reached for word in self.synsets[synset].words}


def read_lexicon(archive_path: Path, folder: str) -> Lexicon:
    """Read WordNet from `folder` inside an archive.

    Raises:
        BadInput: a file is missing from the archive, or a line is not in WordNet's format.
    """
    names = [f"{kind}.{pos}" for kind in ("data", "index") for pos in POS.values()]
    names += ["lexnames", "cntlist.rev", "LICENSE"]
    members = open_members(archive_path, [f"{folder}/{name}" for name in names])

    def lines(name: str, parse: Callable[[list[str]], Parsed]) -> Iterator[Parsed]:
        where = f"{archive_path}: {folder}/{name}"
        for number, line in enumerate(members[f"{folder}/{name}"].split(b"\n"), start=1):
            text = line.decode("latin-1").rstrip()
            if text and not text.startswith(" "):  # indented: the licence at the top
                try:
                    yield parse(_fields(text))
                except (ValueError, IndexError, KeyError) as error:
                    raise BadInput(f"{where}:{number}: not in WordNet's format ({error})") from None

    lexnames = dict(lines("lexnames", lambda fields: (fields[0], fields[1])))
    tags = dict(lines("cntlist.rev", _tag_count))
    synsets: dict[Key, Synset] = {}
    senses: dict[str, tuple[Sense, ...]] = {}
    for pos, name in POS.items():
        for offset, synset in lines(f"data.{name}", lambda fields: _synset(fields, lexnames)):
            synsets[pos, offset] = synset
        for lemma, offsets in lines(f"index.{name}", _index_entry):
            senses[lemma] = senses.get(lemma, ()) + tuple(
                Sense((pos, offset), tags.get((lemma, pos, number), 0))
                for number, offset in enumerate(offsets, start=1)
            )
    notice = members[f"{folder}/LICENSE"].decode("latin-1").replace("\r\n", "\n")
    return Lexicon(synsets, senses, notice)


def _fields(line: str) -> list[str]:
    """Split at white space; the gloss, which follows a bar, is one field."""
    data, bar, gloss = line.partition(" | ")
    return data.split() + ([gloss] if bar else [])


def _tag_count(fields: list[str]) -> tuple[tuple[str, str, int], int]:
    """`lemma%type:file:id:head:head_id sense_number tag_count`, see cntlist(5WN)."""
    sense_key, number, count = fields
    lemma, _, place = sense_key.rpartition("%")
    return (lemma, SS_TYPE[place[0]], int(number)), int(count)


def _index_entry(fields: list[str]) -> tuple[str, list[str]]:
    """`lemma pos synset_count … offset offset …`, the offsets in order of frequency."""
    return fields[0], fields[-int(fields[2]) :]


def _synset(fields: list[str], lexnames: dict[str, str]) -> tuple[str, Synset]:
    """`offset lexnum type word_count(hex) word id … pointer_count pointer … | gloss`."""
    offset, lexnum, _, word_count, *rest = fields
    after_words = 2 * int(word_count, 16)
    words = tuple(re.sub(r"\(\w+\)$", "", word) for word in rest[:after_words:2])  # big(a) → big
    pointers = []
    for i in range(after_words + 1, after_words + 1 + 4 * int(rest[after_words]), 4):
        symbol, target, pos, ends = rest[i : i + 4]
        pointers.append(Pointer(symbol, (pos, target), int(ends[:2], 16), int(ends[2:], 16)))
    return offset, Synset(lexnames[lexnum], words, tuple(pointers), fields[-1])
