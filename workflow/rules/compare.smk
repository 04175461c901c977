# Tables and figures: projections of the small result files.


rule tables:
    input:
        cells=expand(
            f"{ROOT}/{{cell}}/{{file}}",
            cell=CELLS,
            file=["finetune.json", "history.jsonl"],
        ),
        scores=scores(CELLS, *FAMILIES),
        # Of every model that some method draws layers by.
        outliers=sorted(
            {
                f"{ROOT}/outliers/{cell.model}.json"
                for cell in CELLS.values()
                if needs_outliers(cell)
            }
        ),
        # Simulations that are there are shown, so they are made anew first where they are stale.
        memory=[
            file
            for file in expand(f"{ROOT}/memory/{{model}}.json", model=STUDY.models)
            if Path(file).exists()
        ],
        contamination=expand(f"{ROOT}/contamination/{{track}}.json", track=STUDY.tracks),
    output:
        tables=expand(
            f"{ROOT}/tables/{{name}}.{{kind}}", name=TABLES, kind=["csv", "md", "tex"]
        ),
        hashes=f"{ROOT}/tables/sources.json",
        figures=report(
            directory(f"{ROOT}/figures"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="Figures",
        ),
    log:
        f"{ROOT}/logs/tables.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        job=StudyJob.of(STUDY).text(),
        code=CODE["tables"],
    shell:
        "python -m owlore tables --study {params.study} 2> {log}"
