#!/bin/bash
#SBATCH --job-name=optomatic
#SBATCH --array=1-20
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
# Twenty workers of eight processes: sbatch examples/deploy/slurm-array.sh
# They end when nothing has been queued for five minutes, and give back what they hold before
# their time is over.  ~/.config/optomatic/worker.env (mode 0600) holds
# OPTOMATIC_DB='mongodb://user:password@host/name'.
set -euo pipefail
set -a
# shellcheck source=/dev/null
. "$HOME/.config/optomatic/worker.env"
set +a
export OPTOMATIC_CACHE_DIR="${SLURM_TMPDIR:-/tmp}/optomatic-$USER"

# exec: the signal that SLURM sends to this script must reach the worker.
exec python3 -m optomatic.worker --processes "$SLURM_CPUS_PER_TASK" --max-idle 300 --grace 90
