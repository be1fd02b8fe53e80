#!/bin/sh
# Trains the {{runs}} of {{plan_shown}} on this machine with GNU parallel.
#
#   tasks         {{arrays}}
#   a task        up to {{chunk}}, {{cpus}} at a time
#   progress      {{program}} plan status {{plan}} --watch
#   failed runs   {{program}} work {{plan}} --claim --retry-failed
#
# Run it with `sh`. It starts as many tasks at once as there are CPUs for, and writes tables and
# verdicts when all have ended. A run that failed is not tried again before the command above.
#
# Run it again to train what is missing: complete runs are skipped, interrupted ones go on from
# their newest checkpoint. runs/parallel-stage-1.log lists the tasks with their exit codes; with
# `--option=--resume-failed`, parallel starts only those that are not in it or have failed. That is
# right as long as the plan and the number of tasks are the same.
set -u
cd {{here}} || exit
mkdir -p runs
export basislab={{program}} plan={{plan}}

# train STAGE TASKS: returns when all tasks have ended. Ctrl-C lets them make checkpoints first.
train() {
    seq 0 "$(($2 - 1))" |
        parallel --jobs {{percent}}% --joblog runs/parallel-stage-"$1".log --termseq TERM,120000,KILL,25{{options}} \
            '"$basislab" work "$plan"' --stage "$1" --shard "{}/$2" --jobs {{cpus}} --threads {{cpus}} ||
        echo "stage $1: not all tasks are complete" >&2
}

train 1 {{tasks_1}}
{{stage_2}}
# While runs are missing, this ends with code 6 and writes nothing.
"$basislab" collect "$plan"
