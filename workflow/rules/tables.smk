# Tables from pre-training sets, splits and the configuration in force.


rule table_1:
    input:
        lambda wildcards: [f"<results>/pretrain_sets/{run}.json" for run in grid.table_runs(config, "table_1")],
    output:
        csv=report(
            "<results>/tables/table_1.csv",
            caption="../report/table_1.rst",
            category="Tables",
            labels={"table": "Table 1", "content": "pre-training images"},
        ),
        text=expand("<results>/tables/table_1.{suffix}", suffix=["md", "tex"]),
    log:
        "<logs>/tables/table_1.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
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
        csv=report(
            "<results>/tables/table_2.csv",
            caption="../report/table_2.rst",
            category="Tables",
            labels={"table": "Table 2", "content": "tasks and data sets"},
        ),
        text=expand("<results>/tables/table_2.{suffix}", suffix=["md", "tex"]),
    log:
        "<logs>/tables/table_2.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
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
        csv=report(
            "<results>/tables/table_3.csv",
            caption="../report/table_3.rst",
            category="Tables",
            labels={"table": "Table 3", "content": "images of the organ-specific runs"},
        ),
        text=expand("<results>/tables/table_3.{suffix}", suffix=["md", "tex"]),
    log:
        "<logs>/tables/table_3.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
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
        csv=report(
            "<results>/tables/table_4.csv",
            caption="../report/table_4.rst",
            category="Tables",
            labels={"table": "Table 4", "content": "pre-training settings"},
        ),
        text=expand("<results>/tables/table_4.{suffix}", suffix=["md", "tex"]),
    log:
        "<logs>/tables/table_4.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
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
        csv=report(
            "<results>/tables/table_5.csv",
            caption="../report/table_5.rst",
            category="Tables",
            labels={"table": "Table 5", "content": "fine-tuning settings"},
        ),
        text=expand("<results>/tables/table_5.{suffix}", suffix=["md", "tex"]),
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
        csv=report(
            "<results>/tables/comparison_with_paper.csv",
            caption="../report/comparison_with_paper.rst",
            category="Tables",
            labels={"table": "Comparison with the paper", "content": "numbers of its text"},
        ),
        text=expand("<results>/tables/comparison_with_paper.{suffix}", suffix=["md", "tex"]),
    log:
        "<logs>/tables/comparison_with_paper.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
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
        lambda wildcards: [f"<results>/statistics/{name}/statistics.json" for name in grid.stated(config, "claims")],
    output:
        csv=report(
            "<results>/tables/claims.csv",
            caption="../report/claims.rst",
            category="Tables",
            labels={"table": "Claims", "content": "tested over seeds and over patients"},
        ),
        text=expand("<results>/tables/claims.{suffix}", suffix=["md", "tex"]),
        comparisons="<results>/tables/claims_comparisons.csv",
    log:
        "<logs>/tables/claims.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        **depends("urfm.tables.claims", lambda wildcards: settings.tables.claims(config)),
    shell:
        """
        python -m urfm.tables.claims \
            --settings {params.settings:q} \
            --statistics {input:q} \
            --output "$(dirname {output.csv:q})/claims" \
            2>&1 | tee -i {log:q}
        """
