# Predictions -> means, intervals and tests of a comparison, from all its cells in one job. No torch from here on.


# Tables of the stage besides scores and differences; docs/statistics.md explains each.
STATISTICS = [
    "average_scores",
    "average_differences",
    "lines",
    "curves",
    "seeds",
    "classes",
    "calibration",
    "reliability",
    "confusion",
    "thresholds",
    "operating_points",
    "net_benefit",
    "ranks",
    "rank_pairs",
]


rule comparison_statistics:
    input:
        predictions=lambda wildcards: ancient(cell_files("predictions.parquet")(wildcards)),
        cells=cell_files("cell.json"),
    output:
        scores=report(
            "<results>/statistics/{comparison}/scores.csv",
            caption="../report/scores.rst",
            category="Scores and tests",
            labels={"comparison": "{comparison}", "table": "scores"},
        ),
        differences=report(
            "<results>/statistics/{comparison}/differences.csv",
            caption="../report/differences.rst",
            category="Scores and tests",
            labels={"comparison": "{comparison}", "table": "differences"},
        ),
        tables=expand(
            "<results>/statistics/{{comparison}}/{table}.parquet", table=["scores", "differences", *STATISTICS]
        ),
        texts=expand("<results>/statistics/{{comparison}}/{table}.csv", table=STATISTICS),
        record="<results>/statistics/{comparison}/statistics.json",
    log:
        "<logs>/statistics/{comparison}.log",
    benchmark:
        "<results>/benchmarks/statistics/{comparison}.tsv"
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small", mem_mb=memory("small", 2)),
    params:
        **depends("urfm.statistics.stage", lambda wildcards: settings.models.statistics(config, wildcards.comparison)),
    shell:
        """
        python -m urfm.statistics.stage \
            --settings {params.settings:q} \
            --cells {input.cells:q} \
            --output "$(dirname {output.record:q})" \
            2>&1 | tee -i {log:q}
        """
