# MT-Bench through FastChat: two-turn answers, then a judge's grades.


rule answer:
    input:
        cell=f"{ROOT}/{{cell}}/finetune.json",
        questions=f"{ROOT}/questions/questions.json",
        source=sources("mtbench/answer.py", "mtbench/decoding.py", "mtbench/protocol.py"),
    output:
        f"{ROOT}/{{cell}}/mtbench/answers.jsonl",
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
        settings=answer_json,
        model=base_model,
        questions=f"{ROOT}/questions/mtbench/question.jsonl",
        model_id=model_id,
    shell:
        "python -m owlore.cli.devices {resources.gpu} answer "
        "--model {params.model} --cell-file {input.cell} "
        "--questions {params.questions} --spec {params.settings:q} "
        "--model-id {params.model_id} --threads {threads} --output {output} 2> {log}"


rule judge:
    input:
        cell=f"{ROOT}/{{cell}}/finetune.json",
        answers=f"{ROOT}/{{cell}}/mtbench/answers.jsonl",
        questions=f"{ROOT}/questions/questions.json",
        source=sources("mtbench/judge.py", "mtbench/rating_model.py", "mtbench/ratings.py", "mtbench/protocol.py"),
    output:
        judgments=f"{ROOT}/{{cell}}/mtbench/judgments.jsonl",
        scores=f"{ROOT}/{{cell}}/mtbench.json",
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
        settings=judge_json,
        further=further_flag,
        study=STUDY_FILE,
        model=base_model,
        questions=f"{ROOT}/questions/mtbench/question.jsonl",
        prompts=f"{ROOT}/questions/mtbench/judge_prompts.jsonl",
        references=reference_file,
    shell:
        "python -m owlore.cli.devices {resources.gpu} judge "
        "--questions {params.questions} --prompts {params.prompts} "
        "--references {params.references} --answers {input.answers} --spec {params.settings:q} "
        "--base-model {params.model} --cell-file {input.cell} --threads {threads} "
        "--study {params.study} {params.further} --output {output.judgments} "
        "--scores {output.scores} 2> {log}"


# The same answers, judged by one of the study's further judges.
use rule judge as judge_further with:
    output:
        judgments=f"{ROOT}/{{cell}}/mtbench/{{judge}}/judgments.jsonl",
        scores=f"{ROOT}/{{cell}}/mtbench/{{judge}}/mtbench.json",
    log:
        f"{ROOT}/logs/{{cell}}/judge-{{judge}}.log",
    benchmark:
        f"{ROOT}/benchmarks/{{cell}}/judge-{{judge}}.jsonl"
