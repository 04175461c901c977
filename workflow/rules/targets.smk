# Handles for one stage: `snakemake outliers`, `snakemake finetune`, …; `tables`, `report` and
# `track` are rules themselves.


rule outliers:
    input:
        expand(f"{ROOT}/outliers/{{model}}.json", model=STUDY.models),
    localrule: True


rule finetune:
    input:
        expand(f"{ROOT}/{{cell}}/finetune.json", cell=CELLS),
    localrule: True


for benchmark in FAMILIES:

    rule:
        name:
            benchmark
        input:
            scores(CELLS, benchmark),
        localrule: True


rule contamination:
    input:
        expand(f"{ROOT}/contamination/{{track}}.json", track=STUDY.tracks),
    localrule: True


rule memory:
    input:
        expand(f"{ROOT}/memory/{{model}}.json", model=STUDY.models),
    localrule: True
