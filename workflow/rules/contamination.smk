# Whether a track's training rows hold its benchmarks' questions; one check over all seeds.


rule check_overlap:
    input:
        data=drawn_files,
        questions=f"{ROOT}/questions/questions.json",
        source=sources(
            "contamination/stage.py",
            "evaluate/stage.py",
            "evaluate/lm_tasks.py",
            "mtbench/answer.py",
            "contamination/question_texts.py",
        ),
    output:
        f"{ROOT}/contamination/{{track}}.json",
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
        asked=asked_json,
        data=data_folder,
        questions=subpath(input.questions, parent=True),
    shell:
        "python -m owlore contamination --study {params.study} --track {wildcards.track} "
        "--data {params.data} --questions {params.questions} --output {output} 2> {log}"
