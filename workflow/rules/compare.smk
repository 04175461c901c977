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
            "stats/bootstrap.py",
            "compare/comparisons.py",
            "compare/contamination_table.py",
            "compare/cost_tables.py",
            "compare/evidence_tables.py",
            "compare/figure_style.py",
            "compare/figures.py",
            "compare/lineage.py",
            "compare/mtbench_differences.py",
            "compare/mtbench_table.py",
            "compare/paper.py",
            "compare/pareto.py",
            "mtbench/ratings.py",
            "compare/results.py",
            "compare/score_figures.py",
            "compare/score_tables.py",
            "stats/paired.py",
            "stats/strata.py",
            "compare/table_formats.py",
            "compare/table_parts.py",
            "compare/tables.py",
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
            "report/answers.py",
            "compare/lineage.py",
            "report/page.py",
            "report/summary.py",
            "report/templates/answers.html",
            "report/templates/colours.css",
            "report/templates/report.html",
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
