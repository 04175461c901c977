# Whether a track's training rows hold its benchmarks' questions; one check over all seeds.


rule check_overlap:
    input:
        data=lambda wildcards: [
            f"{ROOT}/data/{wildcards.track}/seed{seed}.sha256" for seed in STUDY.seeds
        ],
        questions=rules.questions.output.receipt,
    output:
        update(f"{ROOT}/contamination/{{track}}.json"),
    log:
        f"{ROOT}/logs/contamination/{{track}}.log",
    benchmark:
        f"{ROOT}/benchmarks/contamination/{{track}}.jsonl"
    conda:
        "../../envs/owlore.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        study=STUDY_FILE,
        job=lambda wildcards: ContaminationJob.of(STUDY, wildcards.track).text(),
        code=CODE["check_overlap"],
        data=data_folder,
        questions=subpath(input.questions, parent=True),
    shell:
        "python -m owlore contamination --study {params.study} --track {wildcards.track} "
        "--job {params.job:q} --data {params.data} --questions {params.questions} "
        "--output {output} 2> {log}"
