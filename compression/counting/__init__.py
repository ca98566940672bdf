"""Every byte, MAC and BOP is counted here and nowhere else."""
