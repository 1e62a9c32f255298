# Tables from pre-training sets, splits and the configuration in force.


rule table_1:
    input:
        lambda wildcards: [f"<results>/pretrain_sets/{run}.json" for run in grid.table_runs(config, "table_1")],
    output:
        **tabulating("table_1", "Table 1", "pre-training images"),
    log:
        "<logs>/tables/table_1.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.table_1", lambda wildcards: settings.tables.table_1(config)),
    shell:
        """
        selection={input:q}
        python -m urfm.tables.table_1 \
            --settings {params.settings:q} \
            ${{selection:+--selection "$selection"}} \
            --output "$(dirname {output.csv:q})/table_1" \
            2>&1 | tee -i {log:q}
        """


rule table_2:
    input:
        lambda wildcards: [
            f"<results>/splits/{task}/{grid.shown_split(config)}.json"
            for task in grid.available_tasks(config, config["tables"]["table_2"])
        ],
    output:
        **tabulating("table_2", "Table 2", "tasks and data sets"),
    log:
        "<logs>/tables/table_2.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.table_2", lambda wildcards: settings.tables.table_2(config)),
    shell:
        """
        python -m urfm.tables.table_2 \
            --settings {params.settings:q} \
            --splits {input:q} \
            --output "$(dirname {output.csv:q})/table_2" \
            2>&1 | tee -i {log:q}
        """


rule table_3:
    input:
        lambda wildcards: [f"<results>/pretrain_sets/{run}.json" for run in grid.table_runs(config, "table_3")],
    output:
        **tabulating("table_3", "Table 3", "images of the organ-specific runs"),
    log:
        "<logs>/tables/table_3.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.table_3", lambda wildcards: settings.tables.table_3(config)),
    shell:
        """
        python -m urfm.tables.table_3 \
            --settings {params.settings:q} \
            --selections {input:q} \
            --output "$(dirname {output.csv:q})/table_3" \
            2>&1 | tee -i {log:q}
        """


rule table_4:
    output:
        **tabulating("table_4", "Table 4", "pre-training settings"),
    log:
        "<logs>/tables/table_4.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.settings_table", lambda wildcards: settings.tables.settings_table(config, "table_4")),
    shell:
        """
        python -m urfm.tables.settings_table \
            --settings {params.settings:q} \
            --output "$(dirname {output.csv:q})/$(basename {output.csv:q} .csv)" \
            2>&1 | tee -i {log:q}
        """


use rule table_4 as table_5 with:
    output:
        **tabulating("table_5", "Table 5", "fine-tuning settings"),
    log:
        "<logs>/tables/table_5.log",
    params:
        **depends("urfm.tables.settings_table", lambda wildcards: settings.tables.settings_table(config, "table_5")),


rule comparison_with_paper:
    input:
        lambda wildcards: [
            f"<results>/statistics/{name}/statistics.json" for name in grid.stated(config, "comparison_with_paper")
        ],
    output:
        **tabulating("comparison_with_paper", "Comparison with the paper", "numbers of its text"),
    log:
        "<logs>/tables/comparison_with_paper.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.comparison_with_paper", lambda wildcards: settings.tables.comparison_with_paper(config)),
    shell:
        """
        python -m urfm.tables.comparison_with_paper \
            --settings {params.settings:q} \
            --statistics {input:q} \
            --output "$(dirname {output.csv:q})/comparison_with_paper" \
            2>&1 | tee -i {log:q}
        """


rule claims:
    input:
        statistics=lambda wildcards: [
            f"<results>/statistics/{name}/statistics.json" for name in grid.stated(config, "claims")
        ],
        cells=lambda wildcards: [f"{folder}/cell.json" for folder in folders_of(grid.converging_cells(config))],
        histories=lambda wildcards: ancient(
            [f"{folder}/history.csv" for folder in folders_of(grid.converging_cells(config))]
        ),
    output:
        **tabulating("claims", "Claims", "tested over seeds and over patients"),
        comparisons="<results>/tables/claims_comparisons.csv",
    log:
        "<logs>/tables/claims.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.claims", lambda wildcards: settings.tables.claims(config)),
    shell:
        """
        python -m urfm.tables.claims \
            --settings {params.settings:q} \
            --statistics {input.statistics:q} \
            --cells {input.cells:q} \
            --output "$(dirname {output.csv:q})/claims" \
            2>&1 | tee -i {log:q}
        """


rule operating_points:
    input:
        needed("operating_points", f"<results>/statistics/{COMPARED}/statistics.json"),
    output:
        **tabulating("operating_points", "Operating points", "sensitivity and specificity"),
    log:
        "<logs>/tables/operating_points.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.operating_points", lambda wildcards: settings.tables.operating_points(config, COMPARED)),
    shell:
        """
        python -m urfm.tables.operating_points \
            --settings {params.settings:q} \
            --statistics {input:q} \
            --output "$(dirname {output.csv:q})/operating_points" \
            2>&1 | tee -i {log:q}
        """
