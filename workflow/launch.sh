#!/bin/sh
# launch.sh NODES PROCESSES THREADS MODULE [ARGUMENT ...]
# Run a Python module of the library in PROCESSES processes on each of NODES nodes of a Slurm job, THREADS cores a node;
# with one node anywhere; one process comes from the server of urfm.core.warm, if URFM_WARM names one. The end of the program
# is the end of this script, with its exit code.
set -eu
nodes=$1 processes=$2 threads=$3
shift 3

# Without the list, torchrun would die of SIGUSR1 and leave its workers alone; of SIGHUP too, unless nohup lets it be ignored.
# They may take as long as they need to save their state: Slurm, not torchrun (30 s), sets the limit.
signals=SIGTERM,SIGINT,SIGUSR1$(python -c 'import signal as s; print(",SIGHUP" * (s.getsignal(s.SIGHUP) != s.SIG_IGN))')
torchrun="python -m torch.distributed.run --signals-to-handle $signals --shutdown-timeout 3600 --nproc-per-node $processes"

if [ "$nodes" -gt 1 ]; then
    : "${SLURM_JOB_ID:?$nodes nodes need a job of Slurm; set resources.pretrain.nodes to 1, or use --profile slurm}"
    # A port of the job's own, so that two jobs on one node do not meet.
    meet=$(hostname):$((20000 + SLURM_JOB_ID % 20000))
    exec srun --nodes "$nodes" --ntasks "$nodes" --ntasks-per-node 1 --cpus-per-task "$threads" --cpu-bind none \
        $torchrun --nnodes "$nodes" --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$meet" -m "$@"
elif [ "$processes" -gt 1 ]; then
    exec $torchrun --standalone -m "$@"
elif [ -n "${URFM_WARM:-}" ]; then
    exec python -I -S "$(dirname "$0")/urfm/core/warm.py" "$URFM_WARM" "$@"
else
    exec python -m "$@"
fi
