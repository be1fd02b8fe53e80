#!/bin/sh
# Trains the {{runs}} of {{plan_shown}} with Slurm.
#
#   tasks         {{arrays}}
#   a task        up to {{chunk}}, {{cpus}} at a time, within {{time}} (D-H:MM:SS)
#   progress      {{program}} plan status {{plan}} --watch
#   failed runs   {{program}} work {{plan}} --claim --retry-failed
#   output        runs/slurm-JOB_TASK.log
#
# Run it with `sh` where sbatch is. It submits the tasks, and a job that waits for them and writes
# tables and verdicts; then it ends.
#
# {{lead}} seconds before its time limit, or up to a minute earlier, Slurm sends a task USR1. The task
# makes checkpoints and goes back into the queue, where it waits for two minutes or more. After a
# preemption or the failure of a node Slurm requeues it, and at most the last minute is trained
# again. A task that was cancelled with scancel stays cancelled.
#
# Submit again to train what is missing: complete runs are skipped. Two submissions at once do no
# harm, since a run is trained by one task at a time. A run that failed is not tried again before
# the command above.
set -eu
cd {{here}}
mkdir -p runs

# submit STAGE TASKS [OPTION ...]: submits an array of tasks and prints its number.
submit() {
    stage=$1 tasks=$2
    shift 2
    {
        printf '#!/bin/sh\nstage=%s tasks=%s\n' "$stage" "$tasks"
        cat << 'end'
{{program}} work {{plan}} \
    --stage "$stage" --shard "$SLURM_ARRAY_TASK_ID/$tasks" --jobs {{cpus}} --threads {{cpus}} &
child=$! cancelled= signalled=yes code=0
trap 'signalled=yes; kill -USR1 "$child"' USR1
# Sent by scancel, and before Slurm itself requeues the task.
trap 'signalled=yes cancelled=yes; kill -TERM "$child"' TERM
# A signal ends `wait`, so that it has to wait again until the program has ended. 127: it had ended.
while [ -n "$signalled" ]; do
    signalled=
    wait "$child"
    status=$?
    [ "$status" -eq 127 ] || code=$status
done
if [ "$code" -eq 75 ] && [ -z "$cancelled" ]; then
    # The number of the job alone would requeue the whole array. Slurm then sends TERM to what is left here.
    trap '' TERM
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" && exit 0
fi
exit "$code"
end
    } | sbatch --parsable --job-name=basislab-stage-"$stage" --array=0-"$((tasks - 1))" \
        --nodes=1 --ntasks=1 --cpus-per-task={{cpus}} --time={{time}} --signal=B:USR1@{{lead}} \
        --requeue --open-mode=append --output=runs/slurm-%A_%a.log{{options}} "$@"
}

first=$(submit 1 {{tasks_1}})
first=${first%%;*} # without the cluster's name
last=$first
{{stage_2}}
# While runs are missing, this ends with code 6 and writes nothing.
collect=$(sbatch --parsable --job-name=basislab-collect --dependency=afterany:"$last" \
    --nodes=1 --ntasks=1 --cpus-per-task=1 --time={{time}} --output=runs/slurm-%j.log{{options}} << 'end'
#!/bin/sh
exec {{program}} collect {{plan}}
end
)
echo "submitted: {{submitted}}, job ${collect%%;*} (collect)"
