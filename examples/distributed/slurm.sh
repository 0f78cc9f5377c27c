#!/bin/bash
# sbatch slurm.sh: two nodes of four processes; a node that fails is waited for, and the run goes on from its folder.
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=4 --requeue
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 4 --max-restarts 3 --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-backend c10d --rdzv-endpoint "$head:29400" train.py --out "$SLURM_SUBMIT_DIR/run"
