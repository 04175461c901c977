# Downloads, the base model as a plain checkpoint, questions, training mixtures.


rule study:
    output:
        study=f"{ROOT}/study.json",
        manifest=f"{ROOT}/manifest.json",
    log:
        f"{ROOT}/logs/study.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY.model_dump_json(),  # in the file's order, which the tables keep
        folder=ROOT,
    shell:
        "python -m owlore check {params.study:q} --write {params.folder} 2> {log}"


rule archive:
    input:
        study=ancient(f"{ROOT}/study.json"),
    output:
        "resources/archives/{archive}",
    log:
        f"{ROOT}/logs/archive/{{archive}}.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        name=archive_name,
        sha256=lambda wildcards: STUDY.archives[archive_name(wildcards)].sha256,
    shell:
        "python -m owlore assets --study {input.study} --only {params.name} "
        "--output resources/archives 2> {log}"


# An archive is known by its hash (a param), so its time stamp must not retrain anything: ancient.
rule base_model:
    input:
        archives=ancient(model_archives),
        study=ancient(f"{ROOT}/study.json"),
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
        recipe=model_archive_json,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m owlore model --study {input.study} --name {wildcards.model} "
        "--archives resources/archives --output {params.folder} 2> {log}"


rule questions:
    input:
        archives=ancient(question_archives),
        study=ancient(f"{ROOT}/study.json"),
        source=sources(
            "evals_data.py",
            "lexicon.py",
            "questions.py",
            "splits.py",
            "vocabulary.py",
            "wordnet.py",
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
        recipe=study_json("questions", "archives"),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m owlore questions --study {input.study} --archives resources/archives "
        "--output {params.folder} 2> {log}"


rule training_data:
    input:
        files=training_files,
        questions=f"{ROOT}/questions/questions.json",
        study=ancient(f"{ROOT}/study.json"),
        source=sources("data.py"),
    output:
        f"{ROOT}/data/{{track}}/seed{{seed}}.jsonl",
    log:
        f"{ROOT}/logs/data/{{track}}/seed{{seed}}.log",
    conda:
        "../../envs/owlore.yaml"
    params:
        mixture=training_json,
        questions=subpath(input.questions, parent=True),
    shell:
        "python -m owlore data --study {input.study} --track {wildcards.track} "
        "--seed {wildcards.seed} --questions {params.questions} --output {output} 2> {log}"
