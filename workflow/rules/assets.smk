# Downloads, the base model as a plain checkpoint, questions, training mixtures.


rule archive:
    output:
        "resources/archives/{archive}.sha256",
    log:
        f"{ROOT}/logs/archive/{{archive}}.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        name=archive_name,
        sha256=lambda wildcards: STUDY.archives[archive_name(wildcards)].sha256,
    shell:
        "python -m owlore assets --study {params.study} --only {params.name} "
        "--output resources/archives 2> {log}"


rule base_model:
    input:
        archives=model_archives,
    output:
        "resources/models/{model}/model.json",
    log:
        f"{ROOT}/logs/base_model/{{model}}.log",
    benchmark:
        f"{ROOT}/benchmarks/base_model/{{model}}.jsonl"
    conda:
        "../../envs/owlore.yaml"
    resources:
        mem_mb=2500,
    params:
        study=STUDY_FILE,
        recipe=model_archive_json,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m owlore model --study {params.study} --name {wildcards.model} "
        "--archives resources/archives --output {params.folder} 2> {log}"


rule questions:
    input:
        archives=question_archives,
        source=sources(
            "questions/evals_data.py",
            "questions/lexicon.py",
            "questions/stage.py",
            "questions/splits.py",
            "questions/vocabulary.py",
            "questions/wordnet.py",
        ),
    output:
        f"{ROOT}/questions/questions.json",
    log:
        f"{ROOT}/logs/questions.log",
    benchmark:
        f"{ROOT}/benchmarks/questions.jsonl"
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        recipe=questions_json(),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m owlore questions --study {params.study} --archives resources/archives "
        "--output {params.folder} 2> {log}"


rule training_data:
    input:
        files=training_files,
        questions=f"{ROOT}/questions/questions.json",
        source=sources("data/examples.py", "data/pools.py", "data/training_formats.py"),
    output:
        f"{ROOT}/data/{{track}}/seed{{seed}}.jsonl",
    log:
        f"{ROOT}/logs/data/{{track}}/seed{{seed}}.log",
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        mixture=training_json,
        questions=subpath(input.questions, parent=True),
    shell:
        "python -m owlore data --study {params.study} --track {wildcards.track} "
        "--seed {wildcards.seed} --questions {params.questions} --output {output} 2> {log}"
