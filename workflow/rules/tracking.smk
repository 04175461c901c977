# MLflow as a projection of the result files; no job imports it while it computes.


# One job makes the database: two that open a new one at once would break it.
rule tracking_init:
    output:
        f"{ROOT}/receipts/init.json",
    log:
        f"{ROOT}/logs/track/init.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        experiment=STUDY.study,
    shell:
        "python -m owlore track --study {params.study} --initialise --output {output} 2> {log}"


rule track_cell:
    input:
        cell=f"{ROOT}/{{cell}}/finetune.json",
        scores=lambda wildcards: scores([wildcards.cell], *FAMILIES),
        init=f"{ROOT}/receipts/init.json",
    output:
        f"{ROOT}/receipts/{{cell}}.json",
    log:
        f"{ROOT}/logs/track/{{cell}}.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        cell=lambda wildcards: CELLS[wildcards.cell].model_dump_json(),
    shell:
        "python -m owlore track --study {params.study} --cell {params.cell:q} "
        "--output {output} 2> {log}"


# The study's own run: tables, figures, report. It also logs every cell again that the database
# has lost, so `snakemake -R track` rebuilds a deleted database.
rule track:
    input:
        report=rules.report.output,
        receipts=[f"{ROOT}/receipts/{path}.json" for path in CELLS],
    output:
        f"{ROOT}/receipts/study.json",
    log:
        f"{ROOT}/logs/track/study.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
    shell:
        "python -m owlore track --study {params.study} --output {output} 2> {log}"
