# One rule a figure; each draws from the statistics alone.


rule figure_2:
    input:
        tables=ancient(
            expand(
                "<results>/statistics/figure_2/{table}.parquet",
                table=["scores", "differences", "curves"],
            )
        ),
        record="<results>/statistics/figure_2/statistics.json",
    output:
        pdf="<results>/figures/figure_2.pdf",
        png=report(
            "<results>/figures/figure_2.png",
            caption="../report/figure_2.rst",
            category="Figures",
            labels={"figure": "Figure 2", "content": "every model on every task"},
        ),
        numbers=report(
            "<results>/figures/figure_2.csv",
            caption="../report/figure_2.rst",
            category="Figures",
            labels={"figure": "Figure 2", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/figure_2.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.figures.figure_2"),
        settings=reads(lambda wildcards: settings.figure(config, "figure_2")),
    shell:
        """
        python -m urfm.figures.figure_2 \
            --settings {params.settings:q} \
            --statistics $(dirname {input.record}) \
            --output $(dirname {output.pdf})/figure_2 \
            2>&1 | tee -i {log}
        """
