"""Second stage of DR2E: an enhancer maps the soft, clean face that DR2 leaves to a sharp one."""
