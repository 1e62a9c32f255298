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


rule critical_difference:
    input:
        "<results>/statistics/figure_2/statistics.json",
    output:
        pdf="<results>/figures/critical_difference.pdf",
        png=report(
            "<results>/figures/critical_difference.png",
            caption="../report/critical_difference.rst",
            category="Figures",
            labels={"figure": "Critical difference", "content": "ranks over tasks"},
        ),
        numbers=report(
            "<results>/figures/critical_difference.csv",
            caption="../report/critical_difference.rst",
            category="Figures",
            labels={"figure": "Critical difference", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/critical_difference.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.figures.critical_difference"),
        settings=reads(lambda wildcards: settings.summary(config, "figure_2")),
    shell:
        """
        python -m urfm.figures.critical_difference \
            --settings {params.settings:q} \
            --statistics {input} \
            --output $(dirname {output.pdf})/critical_difference \
            2>&1 | tee -i {log}
        """


rule calibration:
    input:
        "<results>/statistics/figure_2/statistics.json",
    output:
        pdf="<results>/figures/calibration.pdf",
        png=report(
            "<results>/figures/calibration.png",
            caption="../report/calibration.rst",
            category="Figures",
            labels={"figure": "Calibration", "content": "reliability curves"},
        ),
        numbers=report(
            "<results>/figures/calibration.csv",
            caption="../report/calibration.rst",
            category="Figures",
            labels={"figure": "Calibration", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/calibration.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.figures.calibration"),
        settings=reads(lambda wildcards: settings.summary(config, "figure_2")),
    shell:
        """
        python -m urfm.figures.calibration \
            --settings {params.settings:q} \
            --statistics {input} \
            --output $(dirname {output.pdf})/calibration \
            2>&1 | tee -i {log}
        """
