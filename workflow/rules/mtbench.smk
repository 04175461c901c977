# MT-Bench through FastChat: two-turn answers, then a judge's grades.


rule answer:
    input:
        cell=f"{ROOT}/{{cell}}/weights.sha256",
        questions=rules.questions.output.receipt,
    output:
        answers=update(f"{ROOT}/{{cell}}/mtbench/answers.jsonl"),
        result=update(f"{ROOT}/{{cell}}/mtbench/answers.json"),
        receipt=update(f"{ROOT}/{{cell}}/mtbench/answers.sha256"),
    log:
        f"{ROOT}/logs/{{cell}}/answer.log",
    benchmark:
        f"{ROOT}/benchmarks/{{cell}}/answer.jsonl"
    conda:
        "../../envs/owlore.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=2500,
    params:
        job=lambda wildcards: AnswerJob.of(STUDY, CELLS[wildcards.cell]).text(),
        code=CODE["answer"],
        model=base_model,
        cell=f"{ROOT}/{{cell}}/finetune.json",
        questions=f"{ROOT}/questions/mtbench/question.jsonl",
    shell:
        "python -m owlore.cli.devices {resources.gpu} answer --job {params.job:q} "
        "--model {params.model} --cell-file {params.cell} --questions {params.questions} "
        "--threads {threads} --output {output.answers} 2> {log}"


rule judge:
    input:
        cell=f"{ROOT}/{{cell}}/weights.sha256",
        answers=f"{ROOT}/{{cell}}/mtbench/answers.sha256",
        questions=rules.questions.output.receipt,
    output:
        judgments=update(f"{ROOT}/{{cell}}/mtbench/judgments.jsonl"),
        scores=update(f"{ROOT}/{{cell}}/mtbench.json"),
    log:
        f"{ROOT}/logs/{{cell}}/judge.log",
    benchmark:
        f"{ROOT}/benchmarks/{{cell}}/judge.jsonl"
    conda:
        "../../envs/owlore.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=2500,
    params:
        job=lambda wildcards: JudgeJob.of(
            STUDY, CELLS[wildcards.cell], getattr(wildcards, "judge", "")
        ).text(),
        code=CODE["judge"],
        study=STUDY_FILE,  # for the judge's pace and caps alone
        name=lambda wildcards: (
            ["--name", wildcards.judge] if hasattr(wildcards, "judge") else []
        ),
        model=base_model,
        cell=f"{ROOT}/{{cell}}/finetune.json",
        answers=f"{ROOT}/{{cell}}/mtbench/answers.jsonl",
        questions=f"{ROOT}/questions/mtbench",
    shell:
        "python -m owlore.cli.devices {resources.gpu} judge --job {params.job:q} "
        "--questions {params.questions}/question.jsonl "
        "--prompts {params.questions}/judge_prompts.jsonl "
        "--references {params.questions}/reference_answer --answers {params.answers} "
        "--base-model {params.model} --cell-file {params.cell} --threads {threads} "
        "--study {params.study} {params.name:q} --output {output.judgments} "
        "--scores {output.scores} 2> {log}"


# The same answers, judged by one of the study's further judges.
use rule judge as judge_further with:
    output:
        judgments=update(f"{ROOT}/{{cell}}/mtbench/{{judge}}/judgments.jsonl"),
        scores=update(f"{ROOT}/{{cell}}/mtbench/{{judge}}/mtbench.json"),
    log:
        f"{ROOT}/logs/{{cell}}/judge-{{judge}}.log",
    benchmark:
        f"{ROOT}/benchmarks/{{cell}}/judge-{{judge}}.jsonl"
