# Trains the {{runs}} of {{plan_shown}} with Snakemake.
#
# Save it as Snakefile and run `snakemake --cores 16 --keep-going`, or with an executor plugin
# (`--executor slurm`). It runs {{arrays}} that train up to {{chunk}} each, {{cpus}} at a time, and
# then writes tables and verdicts. To see how far it is:
#
#   {{program}} plan status {{plan}} --watch
#
# Run it again to train what is missing: complete runs are skipped, interrupted ones go on from
# their newest checkpoint. A run that failed is left alone until
#
#   {{program}} work {{plan}} --claim --retry-failed
workdir: {{here}}

PROGRAM = {{program_text}}
PLAN = {{plan_text}}
MARKS = "runs/snakemake-{{label}}"


rule all:
    input:
        MARKS + "/collected",

{{rules}}
rule collect:
    input:
        {{last_marks}},
    output:
        touch(MARKS + "/collected"),
    shell:
        "{PROGRAM:q} collect {PLAN:q}"
