"""What everything that trains shares: steps, stages, checkpoints, distillation, statistics, number formats."""
