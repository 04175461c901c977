# Downloads, and the base model as a plain checkpoint.


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
        name=lambda wildcards: ARCHIVES[wildcards.archive],
        sha256=lambda wildcards: STUDY.archives[ARCHIVES[wildcards.archive]].sha256,
    shell:
        "python -m owlore assets --study {params.study} --only {params.name} "
        "--output resources/archives 2> {log}"


rule base_model:
    input:
        archives=lambda wildcards: archive_receipts(
            [STUDY.models[wildcards.model].archive]
        ),
    output:
        result=update("resources/models/{model}/model.json"),
        weights=update("resources/models/{model}/weights.sha256"),
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
        job=lambda wildcards: ModelJob.of(STUDY, wildcards.model).text(),
        code=CODE["base_model"],
        folder=subpath(output.result, parent=True),
    shell:
        "python -m owlore model --study {params.study} --name {wildcards.model} "
        "--job {params.job:q} --archives resources/archives --output {params.folder} 2> {log}"
