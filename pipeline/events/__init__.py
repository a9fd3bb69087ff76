"""What happens to a run, as typed events: told where they happen, heard by a file, a log or metrics."""
