"""DR2: degradation removal with a face diffusion model (Wang et al., CVPR 2023, arXiv 2303.06885)."""

import logging

# diffusers imports bitsandbytes where it finds it (pyiqa brings it along), and that warns on some CPUs of a kernel for
# quantised language models. Nobody who restores a photograph can do anything with that line.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
