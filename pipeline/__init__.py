"""How units of work flow through Ray Data from input shards to committed output."""
