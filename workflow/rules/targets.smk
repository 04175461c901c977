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


rule commonsense:
    input:
        scores(CELLS, "commonsense"),
    localrule: True


rule mmlu:
    input:
        scores(CELLS, "mmlu"),
    localrule: True


rule gsm8k:
    input:
        scores(CELLS, "gsm8k"),
    localrule: True


rule mtbench:
    input:
        scores(CELLS, "mtbench"),
    localrule: True


rule contamination:
    input:
        expand(f"{ROOT}/contamination/{{track}}.json", track=STUDY.tracks),
    localrule: True


rule memory:
    input:
        expand(f"{ROOT}/memory/{{model}}.json", model=STUDY.models),
    localrule: True
