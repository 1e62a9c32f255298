# Predictions -> metrics a cell -> means, intervals and tests a figure. No torch from here on.


rule metrics:
    input:
        predictions=ancient("<results>/finetune/{model}/{task}/{share}/predictions.parquet"),
        cell="<results>/finetune/{model}/{task}/{share}/cell.json",
    output:
        "<results>/finetune/{model}/{task}/{share}/metrics.csv",
    log:
        "<logs>/metrics/{model}/{task}/{share}.log",
    group:
        "metrics"
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.evaluation.metrics"),
    shell:
        """
        python -m urfm.evaluation.metrics \
            --cell {input.cell} \
            --output {output} \
            2>&1 | tee -i {log}
        """


rule figure_statistics:
    input:
        predictions=lambda wildcards: ancient(cell_files("predictions.parquet")(wildcards)),
        cells=cell_files("cell.json"),
        metrics=cell_files("metrics.csv"),
    output:
        scores=report(
            "<results>/statistics/{figure}/scores.csv",
            caption="../report/scores.rst",
            category="Scores and tests",
            labels={"figure": "{figure}", "table": "scores"},
        ),
        differences=report(
            "<results>/statistics/{figure}/differences.csv",
            caption="../report/differences.rst",
            category="Scores and tests",
            labels={"figure": "{figure}", "table": "differences"},
        ),
        tables=expand(
            "<results>/statistics/{{figure}}/{table}.parquet",
            table=["scores", "differences", "curves"],
        ),
        curves="<results>/statistics/{figure}/curves.csv",
        record="<results>/statistics/{figure}/statistics.json",
    log:
        "<logs>/statistics/{figure}.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb") * 2,
        runtime=minutes("small"),
    params:
        *code("urfm.evaluation.statistics"),
        settings=reads(lambda wildcards: settings.statistics(config, wildcards.figure)),
    shell:
        """
        python -m urfm.evaluation.statistics \
            --settings {params.settings:q} \
            --cells {input.cells} \
            --metrics {input.metrics} \
            --output $(dirname {output.record}) \
            2>&1 | tee -i {log}
        """
