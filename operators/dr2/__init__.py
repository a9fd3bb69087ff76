"""DR2: degradation removal with a face diffusion model (Wang et al., CVPR 2023, arXiv 2303.06885)."""
