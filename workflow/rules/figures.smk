# One rule a figure; each draws from the statistics, figure 8 also from sizes and histories.


# What figure 2 and the summaries of its statistics draw.
COMPARED = config["figures"]["figure_2"]["comparison"]
TABLES = ["scores.parquet", "differences.parquet", "curves.parquet"]


rule figure_2:
    input:
        tables=ancient([f"<results>/statistics/{COMPARED}/{name}" for name in TABLES]),
        record=f"<results>/statistics/{COMPARED}/statistics.json",
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
        **depends("urfm.figures.figure_2", lambda wildcards: settings.figures.figure(config, COMPARED)),
    shell:
        """
        python -m urfm.figures.figure_2 \
            --settings {params.settings:q} \
            --statistics "$(dirname {input.record:q})" \
            --output "$(dirname {output.pdf:q})/$(basename {output.pdf:q} .pdf)" \
            2>&1 | tee -i {log:q}
        """


rule figure_3:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_3", *TABLES)(wildcards)),
        records=drawn_statistics("figure_3", "statistics.json"),
    output:
        pdf="<results>/figures/figure_3.pdf",
        png=report(
            "<results>/figures/figure_3.png",
            caption="../report/figure_3.rst",
            category="Figures",
            labels={"figure": "Figure 3", "content": "external validation"},
        ),
        numbers=report(
            "<results>/figures/figure_3.csv",
            caption="../report/figure_3.rst",
            category="Figures",
            labels={"figure": "Figure 3", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/figure_3.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        **depends("urfm.figures.figure_3", lambda wildcards: settings.figures.comparisons(config, "figure_3")),
    shell:
        """
        records=({input.records:q})
        python -m urfm.figures.figure_3 \
            --settings {params.settings:q} \
            --statistics "${{records[@]%/*}}" \
            --output "$(dirname {output.pdf:q})/figure_3" \
            2>&1 | tee -i {log:q}
        """


rule figure_4:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_4", *TABLES)(wildcards)),
        records=drawn_statistics("figure_4", "statistics.json"),
    output:
        pdf="<results>/figures/figure_4.pdf",
        png=report(
            "<results>/figures/figure_4.png",
            caption="../report/figure_4.rst",
            category="Figures",
            labels={"figure": "Figure 4", "content": "methods and targets"},
        ),
        numbers=report(
            "<results>/figures/figure_4.csv",
            caption="../report/figure_4.rst",
            category="Figures",
            labels={"figure": "Figure 4", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/figure_4.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        **depends("urfm.figures.figure_4", lambda wildcards: settings.figures.comparisons(config, "figure_4")),
    shell:
        """
        records=({input.records:q})
        python -m urfm.figures.figure_4 \
            --settings {params.settings:q} \
            --statistics "${{records[@]%/*}}" \
            --output "$(dirname {output.pdf:q})/figure_4" \
            2>&1 | tee -i {log:q}
        """


rule figure_5:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_5", *TABLES)(wildcards)),
        records=drawn_statistics("figure_5", "statistics.json"),
    output:
        pdf="<results>/figures/figure_5.pdf",
        png=report(
            "<results>/figures/figure_5.png",
            caption="../report/figure_5.rst",
            category="Figures",
            labels={"figure": "Figure 5", "content": "models of one organ"},
        ),
        numbers=report(
            "<results>/figures/figure_5.csv",
            caption="../report/figure_5.rst",
            category="Figures",
            labels={"figure": "Figure 5", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/figure_5.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        **depends("urfm.figures.figure_5", lambda wildcards: settings.figures.figure_5(config)),
    shell:
        """
        records=({input.records:q})
        python -m urfm.figures.figure_5 \
            --settings {params.settings:q} \
            --statistics "${{records[@]%/*}}" \
            --output "$(dirname {output.pdf:q})/figure_5" \
            2>&1 | tee -i {log:q}
        """


rule figure_8:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_8", *TABLES)(wildcards)),
        records=drawn_statistics("figure_8", "statistics.json"),
        selections=lambda wildcards: [f"<results>/pretrain_sets/{run}.json" for run in scaled_runs("data")],
        encoders=lambda wildcards: [f"<results>/encoders/{model}.json" for model in scaled_models("model_size")],
        cells=lambda wildcards: [f"{folder}/cell.json" for folder in efficiency_cells()],
        histories=lambda wildcards: ancient([f"{folder}/history.csv" for folder in efficiency_cells()]),
    output:
        pdf="<results>/figures/figure_8.pdf",
        png=report(
            "<results>/figures/figure_8.png",
            caption="../report/figure_8.rst",
            category="Figures",
            labels={"figure": "Figure 8", "content": "scaling and efficiency"},
        ),
        numbers=report(
            "<results>/figures/figure_8.csv",
            caption="../report/figure_8.rst",
            category="Figures",
            labels={"figure": "Figure 8", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/figure_8.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        **depends("urfm.figures.figure_8", lambda wildcards: settings.figures.figure_8(config)),
    shell:
        """
        records=({input.records:q})
        python -m urfm.figures.figure_8 \
            --settings {params.settings:q} \
            --statistics "${{records[@]%/*}}" \
            --selections {input.selections:q} \
            --encoders {input.encoders:q} \
            --cells {input.cells:q} \
            --output "$(dirname {output.pdf:q})/figure_8" \
            2>&1 | tee -i {log:q}
        """


rule critical_difference:
    input:
        f"<results>/statistics/{COMPARED}/statistics.json",
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
        **depends("urfm.figures.critical_difference", lambda wildcards: settings.figures.summary(config, COMPARED)),
    shell:
        """
        python -m urfm.figures.critical_difference \
            --settings {params.settings:q} \
            --statistics {input:q} \
            --output "$(dirname {output.pdf:q})/critical_difference" \
            2>&1 | tee -i {log:q}
        """


rule calibration:
    input:
        f"<results>/statistics/{COMPARED}/statistics.json",
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
        **depends("urfm.figures.calibration", lambda wildcards: settings.figures.summary(config, COMPARED)),
    shell:
        """
        python -m urfm.figures.calibration \
            --settings {params.settings:q} \
            --statistics {input:q} \
            --output "$(dirname {output.pdf:q})/calibration" \
            2>&1 | tee -i {log:q}
        """
