# Tables, figures and the report page: projections of the small result files.


rule tables:
    input:
        cells=expand(
            f"{ROOT}/{{cell}}/{{file}}",
            cell=CELLS,
            file=["finetune.json", "history.jsonl"],
        ),
        scores=scores(CELLS, *BENCHMARKS, "mtbench"),
        outliers=outlier_files(),
        contamination=expand(f"{ROOT}/contamination/{{track}}.json", track=STUDY.tracks),
        source=sources(
            "bootstrap.py",
            "comparisons.py",
            "contamination_table.py",
            "cost_tables.py",
            "evidence_tables.py",
            "figure_style.py",
            "figures.py",
            "lineage.py",
            "mtbench_differences.py",
            "mtbench_table.py",
            "paper.py",
            "pareto.py",
            "ratings.py",
            "results.py",
            "score_figures.py",
            "score_tables.py",
            "stats.py",
            "strata.py",
            "table_formats.py",
            "table_parts.py",
            "tables.py",
        ),
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
        content=STUDY.model_dump_json(),  # in the file's order, which the tables keep
    shell:
        "python -m owlore tables --study {params.study} 2> {log}"


rule report:
    input:
        tables=rules.tables.output.tables,
        figures=rules.tables.output.figures,
        source=sources(
            "answers_page.py",
            "lineage.py",
            "report.py",
            "summary.py",
            "templates/answers.html",
            "templates/colours.css",
            "templates/report.html",
        ),
    output:
        page=report(
            f"{ROOT}/report/index.html",
            caption="../report/page.rst",
            category="Report",
        ),
        answers=f"{ROOT}/report/answers.html",
    log:
        f"{ROOT}/logs/report.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        content=STUDY.model_dump_json(),  # in the file's order, which the tables keep
    shell:
        "python -m owlore report --study {params.study} 2> {log}"
