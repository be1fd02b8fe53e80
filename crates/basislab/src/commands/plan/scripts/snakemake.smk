# Trains the {{runs}} of {{plan_shown}} with Snakemake.
#
#   tasks         {{arrays}}
#   a task        up to {{chunk}}, {{cpus}} at a time
#   progress      {{program}} plan status {{plan}} --watch
#   failed runs   {{program}} work {{plan}} --claim --retry-failed
#
# Save it as Snakefile and run `snakemake --cores 16 --keep-going`, or use an executor plugin
# (`--executor slurm`). Tables and verdicts are written when all tasks have ended well.
#
# Run it again to train what is missing: complete runs are skipped, interrupted ones go on from
# their newest checkpoint. A run that failed is not tried again before the command above.
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
