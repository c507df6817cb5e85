# The graph of a study: one rule for each kind of job of varireal_utils/workflow/stages.py. Its only
# commands are the runner's: python -m varireal_utils run STAGE ... A job's output is its run.json,
# which it writes last. `python -m varireal_utils study` sets aside the records that are not true any
# more before it calls Snakemake: a job runs where it has no record, whatever the times of files.
import re

from varireal_utils.workflow.graph import Graph

GRAPH = Graph(config)


localrules: all


# Every record is asked for by name: a figure that is there must not hide a stage that is not.
rule all:
    input:
        GRAPH.records(),


for rule_name, jobs in GRAPH.rules().items():
    rule:
        name: rule_name
        input: ancient(lambda wildcards: GRAPH.inputs(wildcards.job))
        output: f"{GRAPH.root}{{job}}/run.json"
        wildcard_constraints: job="|".join(re.escape(job.name) for job in jobs)
        params: command=lambda wildcards: GRAPH.command(wildcards.job)
        threads: GRAPH.job_threads(jobs[0])
        resources:
            runtime=lambda wildcards: GRAPH.minutes(wildcards.job),
            gpu_units=lambda wildcards: GRAPH.gpu_units(wildcards.job)
        priority: jobs[0].stage.priority
        shell: "OMP_NUM_THREADS={threads} {params.command}"
