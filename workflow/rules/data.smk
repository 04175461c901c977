# Each track's training rows, drawn once a seed.


rule training_data:
    input:
        # Pools that are local files of the user's; those of the hub are pinned in the Job.
        files=lambda wildcards: list(
            DataJob.of(STUDY, wildcards.track, int(wildcards.seed)).files.values()
        ),
        questions=rules.questions.output.receipt,
    output:
        rows=update(f"{ROOT}/data/{{track}}/seed{{seed}}.jsonl"),
        result=update(f"{ROOT}/data/{{track}}/seed{{seed}}.json"),
        receipt=update(f"{ROOT}/data/{{track}}/seed{{seed}}.sha256"),
    log:
        f"{ROOT}/logs/data/{{track}}/seed{{seed}}.log",
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        job=lambda wildcards: DataJob.of(
            STUDY, wildcards.track, int(wildcards.seed)
        ).text(),
        code=CODE["training_data"],
        questions=subpath(input.questions, parent=True),
    shell:
        "python -m owlore data --study {params.study} --track {wildcards.track} "
        "--seed {wildcards.seed} --job {params.job:q} --questions {params.questions} "
        "--output {output.rows} 2> {log}"
