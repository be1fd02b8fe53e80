#!/bin/sh
# Trains the {{runs}} of {{plan_shown}} with HyperQueue.
#
#   tasks         {{arrays}}
#   a task        up to {{chunk}}, {{cpus}} at a time
#   progress      {{program}} plan status {{plan}} --watch
#   failed runs   {{program}} work {{plan}} --claim --retry-failed
#   output        runs/hq-JOB-TASK.log
#
# Run it with `sh` where `hq server start` runs, in a terminal that stays open (tmux, nohup): it
# waits for the tasks, and then writes tables and verdicts.
#
# When a worker is lost, HyperQueue runs its tasks again on another one, and at most the last minute
# is trained again.
#
# Run it again to train what is missing: complete runs are skipped. Two copies at once do no harm,
# since a run is trained by one task at a time. A run that failed is not tried again before the
# command above.
set -eu
cd {{here}}
mkdir -p runs

# train STAGE TASKS: submits an array of tasks and waits until all have ended, however they end.
train() {
    hq submit --wait --name=basislab-stage-"$1" --array=0-"$(($2 - 1))" --cpus={{cpus}} \
        --stdout=none --stderr=none{{time_request}}{{options}} -- sh -c '
exec >> "runs/hq-$HQ_JOB_ID-$HQ_TASK_ID.log" 2>&1
stage=$1 tasks=$2
shift 2
# 75: stopped after checkpoints. HyperQueue would count that as a failure, so it goes on here, unless
# the task itself was stopped.
stopped=
trap "stopped=yes" INT TERM
while :; do
    "$@" --stage "$stage" --shard "$HQ_TASK_ID/$tasks" --jobs {{cpus}} --threads {{cpus}}
    code=$?
    if [ "$code" -ne 75 ] || [ -n "$stopped" ]; then
        exit "$code"
    fi
done' task "$1" "$2" {{program}} work {{plan}}
}

train 1 {{tasks_1}}
{{stage_2}}
# While runs are missing, this ends with code 6 and writes nothing.
{{program}} collect {{plan}}
