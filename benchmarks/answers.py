"""MT-Bench answers in batches against one question at a time, as FastChat asks them.

The other arm is transformers' own `generate` on a batch of one, the loop of FastChat's
gen_model_answer (which itself needs a GPU). Both answer both turns of the same questions, greedily,
with as many new tokens, in turns. Then the answers are compared token by token: from the first
token on that differs, the two logits must have been closer than 1e-4 (a tie).

Run as: `python benchmarks/answers.py --questions question.jsonl`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from measuring import MODEL, Table, seconds

from owlore.core.files import read_jsonl
from owlore.mtbench.decoding import generate
from owlore.mtbench.encoding import encode
from owlore.sources import models

QUESTIONS = Path("results/embedded/questions/mtbench/question.jsonl")
TIE = 1e-4


class Arm:
    """One way to answer; `turns` holds the tokens of both turns of every question."""

    def __init__(self, model: Any, tokenizer: Any, questions: list[dict[str, Any]], tokens: int):
        self.model, self.tokenizer, self.questions, self.tokens = (
            model,
            tokenizer,
            questions,
            tokens,
        )
        self.prompts: list[list[int]] = []
        self.turns: list[list[int]] = []

    def batched(self, size: int) -> None:
        """Our decoding loop, questions of like length in a batch, as `owlore answer` does."""
        rows = sorted(self.questions, key=lambda row: sum(map(len, row["turns"])))
        found = {}
        for at in range(0, len(rows), size):
            batch = rows[at : at + size]
            talks: list[list[dict[str, str]]] = [[] for _ in batch]
            for turn in (0, 1):
                prompts = [
                    self._prompt(talk, row, turn) for talk, row in zip(talks, batch, strict=True)
                ]
                made = generate(
                    self.model,
                    prompts,
                    temperatures=[0.0] * len(batch),
                    generators=[torch.Generator() for _ in batch],
                    stops=set(),
                    max_new_tokens=self.tokens,
                )
                for row, talk, prompt, ids in zip(batch, talks, prompts, made, strict=True):
                    talk.append({"role": "assistant", "content": self.tokenizer.decode(ids)})
                    found[row["question_id"], turn] = (prompt, ids)
        self._keep(found)

    def single(self) -> None:
        """transformers' generate, one question at a time."""
        found = {}
        for row in self.questions:
            talk: list[dict[str, str]] = []
            for turn in (0, 1):
                prompt = self._prompt(talk, row, turn)
                with torch.inference_mode():
                    output = self.model.generate(
                        torch.tensor([prompt]),
                        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                        do_sample=False,
                        min_new_tokens=self.tokens,
                        max_new_tokens=self.tokens,
                        pad_token_id=0,
                    )
                ids = output[0, len(prompt) :].tolist()
                talk.append({"role": "assistant", "content": self.tokenizer.decode(ids)})
                found[row["question_id"], turn] = (prompt, ids)
        self._keep(found)

    def _prompt(self, talk: list[dict[str, str]], row: dict[str, Any], turn: int) -> list[int]:
        talk.append({"role": "user", "content": row["turns"][turn]})
        (ids,) = encode(self.tokenizer, talk)
        return ids

    def _keep(self, found: dict[tuple[int, int], tuple[list[int], list[int]]]) -> None:
        self.prompts = [found[key][0] for key in sorted(found)]
        self.turns = [found[key][1] for key in sorted(found)]


def largest_gap(model: Any, ours: Arm, theirs: Arm) -> tuple[int, int, float]:
    """Return turns with equal prompts, how many of them differ, and the largest gap where they do.

    The gap is that between the two tokens' logits, in one plain forward pass of the common text.
    """
    compared, gaps = 0, []
    for place, prompt in enumerate(ours.prompts):
        if prompt != theirs.prompts[place]:
            continue  # a second turn whose first differed
        compared += 1
        a, b = ours.turns[place], theirs.turns[place]
        if a != b:
            at = next(i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + a[:at]]), logits_to_keep=1).logits[0, -1]
            gaps.append(abs(float(logits[a[at]] - logits[b[at]])))
    return compared, len(gaps), max(gaps, default=0.0)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--questions", type=Path, default=QUESTIONS)
    parser.add_argument("--number", type=int, default=16, help="questions, evenly from the 80")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens a turn")
    parser.add_argument("--batch", type=int, default=16)
    chosen = parser.parse_args()
    questions = read_jsonl(chosen.questions)
    questions = questions[:: len(questions) // chosen.number][: chosen.number]
    tokenizer = models.load_tokenizer(chosen.model)
    model = models.load(chosen.model)
    model.train(False)
    model.generation_config.eos_token_id = None  # both arms make all tokens
    ours, theirs = (Arm(model, tokenizer, questions, chosen.tokens) for _ in range(2))
    table = Table(
        "answers",
        f"SmolLM2-135M in float32, greedy; {chosen.number} of MT-Bench's questions, two turns of "
        f"{chosen.tokens} tokens; ours in batches of {chosen.batch}, against transformers' "
        "generate, one question at a time.",
    )
    spent = seconds({"ours": lambda: ours.batched(chosen.batch), "theirs": theirs.single}, rounds=1)
    count = 2 * chosen.number * chosen.tokens
    table.add(
        "new tokens a second, prompts read included",
        f"{count / spent['ours']:.1f}", f"{count / spent['theirs']:.1f}",
        f"{spent['theirs'] / spent['ours']:.2f}x faster", ">= 5x",
    )  # fmt: skip
    compared, different, gap = largest_gap(model, ours, theirs)
    table.add(
        f"answers that differ, of {compared} to the same prompt",
        str(different), "", f"largest gap of logits {gap:.1e}", f"< {TIE:.0e}",
    )  # fmt: skip
    table.write()


if __name__ == "__main__":
    main()
