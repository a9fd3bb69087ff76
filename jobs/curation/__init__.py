"""One round of `dr2e curate`: what must hold before it begins, what a collection gives, and the page about it."""
