"""Numbers for Prometheus: what there is, how it is counted in workers and in the driver. Ray exports them."""
