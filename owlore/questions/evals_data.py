"""Social IQa, QuaRTz and MMLU questions out of the wheel of OpenAI's `evals`.

The wheel keeps them as chat prompts; here they become question, choices and answer again. What
belongs together stays together: questions on (nearly) the same Social IQa context are on one side
of the split, and QuaRTz's twins (the same question with one word flipped, so that the other answer
is right) share a cluster and lie side by side.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from owlore.core.files import sha256_text
from owlore.questions.splits import SPLITS, shuffled, split_of
from owlore.questions.vocabulary import is_decent

Row = dict[str, Any]  # question, choices, answer (index), cluster

REGISTRY = "evals/registry/data"
MEMBERS = {
    "social_iqa_mini": f"{REGISTRY}/theory_of_mind/socialiqa/test.jsonl",
    "quartz_mini": f"{REGISTRY}/quartz/samples.jsonl",
    "mmlu_mini": f"{REGISTRY}/sandbagging/samples-all-large.jsonl",
}
SAME_CONTEXT = 0.6  # overlap (Jaccard) of the words of two Social IQa contexts; both measured on
TWINS = 0.45  # the archive: QuaRTz stems with the same two choices,
TWINS_ANYHOW = 0.75  # and with other choices ("less", "fewer")


def social_iqa(text: str, seed: int) -> tuple[dict[str, list[Row]], Counter[str]]:
    """Read Social IQa's test questions and split them by context.

    Returns:
        Rows by split (3 choices each), and how many questions were dropped, by reason.
    """
    pattern = r"(?P<question>.*?) A: (.*?); B: (.*?); C: (.*?)\.?"
    parsed, dropped = _read(text, pattern)
    rows = [row for row in parsed if is_decent(_name(row))]  # its crowd wrote some crude ones
    dropped["unsuitable"] = len(parsed) - len(rows)
    contexts = [context_of(row["question"]) for row in rows]
    groups = _Groups(contexts)
    groups.join_alike(range(len(rows)), SAME_CONTEXT)
    questions: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row, cluster in zip(rows, groups.names(), strict=True):
        questions[split_of(cluster)].append({**row, "cluster": cluster})
    return {
        split: shuffled(part, f"{seed} social_iqa {split}", _name)
        for split, part in questions.items()
    }, dropped


def quartz(text: str, seed: int) -> tuple[list[Row], Counter[str]]:
    """Read QuaRTz' questions; twins lie side by side and have one cluster.

    Returns:
        Rows (2 choices each), and how many questions were dropped, by reason.
    """
    rows, dropped = _read(text, r"(?P<question>.*?)\s*\n\n A: (.*?)\n B: (.*?)")
    for row in rows:  # some writers ended a choice as if the sentence went on: "faster or"
        row["choices"] = [re.sub(r"(\s+or)?[\s.?,;]*$", "", choice) for choice in row["choices"]]
    groups = _Groups([row["question"] for row in rows])
    by_choices = defaultdict(list)
    for i, row in enumerate(rows):
        by_choices[tuple(sorted(choice.lower() for choice in row["choices"]))].append(i)
    for members in by_choices.values():
        groups.join_alike(members, TWINS)
    groups.join_alike(range(len(rows)), TWINS_ANYHOW)
    clusters = defaultdict(list)
    for row, cluster in zip(rows, groups.names(), strict=True):
        clusters[cluster].append({**row, "cluster": cluster})
    return [
        row
        for cluster in shuffled(clusters, f"{seed} quartz")
        for row in shuffled(clusters[cluster], f"{seed} quartz {cluster}", _name)
    ], dropped


def mmlu(text: str, seed: int) -> tuple[list[Row], Counter[str]]:
    """Read the MMLU questions (a sample of the test split, all 57 subjects, 4 choices).

    Returns:
        Rows, each its own cluster, and how many questions were dropped, by reason.
    """
    pattern = r"(?P<question>.*)\nA\. (.*?)\nB\. (.*?)\nC\. (.*?)\nD\. (.*?)\nAnswer:\s*"
    rows, dropped = _read(text, pattern)
    rows = [{**row, "cluster": sha256_text(_name(row))[:16]} for row in rows]
    return shuffled(rows, f"{seed} mmlu", _name), dropped


def context_of(question: str) -> str:
    """Return the story that a Social IQa question is about: all but its last What, How or Why."""
    starts = [
        match.start() for match in re.finditer(r"\b(What|How|Why|Who|Where|When)\b", question)
    ]
    return question[: starts[-1]].strip() if starts and starts[-1] else question


def _read(text: str, pattern: str) -> tuple[list[Row], Counter[str]]:
    """Parse one JSON object a line; drop repeats, and questions that have two right answers."""
    dropped = Counter({"unusable": 0, "duplicates": 0, "contradictions": 0})
    answers: dict[str, set[int]] = defaultdict(set)
    rows = []
    for line in text.splitlines():
        source = json.loads(line)
        prompt = source["question"] if "question" in source else source["input"][-1]["content"]
        letter = source["answer"] if "answer" in source else source["ideal"]
        match = re.fullmatch(pattern, prompt, re.DOTALL)
        choices = [choice.strip() for choice in match.groups()[1:]] if match else []
        answer = "ABCD".find(letter)
        if match is None or not 0 <= answer < len(choices) or len(set(choices)) < len(choices):
            dropped["unusable"] += 1
            continue
        row = {"question": match["question"].strip(), "choices": choices, "answer": answer}
        answers[_name(row)].add(answer)
        rows.append(row)
    unique: dict[str, Row] = {}
    for row in rows:
        if len(answers[_name(row)]) > 1:
            dropped["contradictions"] += 1
        elif _name(row) in unique:
            dropped["duplicates"] += 1
        else:
            unique[_name(row)] = row
    return list(unique.values()), dropped


def _name(row: Row) -> str:
    return "\n".join([row["question"], *row["choices"]])


class _Groups:
    """Texts joined into groups (a union-find forest) if they share most of their words."""

    def __init__(self, texts: list[str]):
        self._texts = texts
        self._words = [frozenset(re.findall("[a-z0-9]+", text.lower())) for text in texts]
        self._parent = list(range(len(texts)))

    def join_alike(self, members: Iterable[int], likeness: float) -> None:
        """Join those members whose sets of words overlap (Jaccard) by at least `likeness`.

        Two sets that alike share one of their first words, rarest first, where "first" leaves out
        fewer than `likeness` of them: only texts that do are compared.
        """
        members = list(members)
        count = Counter(word for i in members for word in self._words[i])
        met: dict[str, list[int]] = defaultdict(list)
        for i in members:
            words = self._words[i]
            rarest = sorted(words, key=lambda word: (count[word], word))
            for word in rarest[: len(words) - math.ceil(likeness * len(words)) + 1]:
                for j in met[word]:
                    both = len(words & self._words[j])
                    if both >= likeness * (len(words) + len(self._words[j]) - both):
                        self._parent[self._root(i)] = self._root(j)
                met[word].append(i)

    def names(self) -> list[str]:
        """For each text, the name of its group: a hash of the group's first text."""
        first: dict[int, str] = {}
        for i, text in enumerate(self._texts):
            root = self._root(i)
            first[root] = min(first.get(root, text), text)
        return [sha256_text(first[self._root(i)])[:16] for i in range(len(self._texts))]

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i
