"""What `dr2e plan` says beyond what is left: forecasts of runs that nobody has begun."""
