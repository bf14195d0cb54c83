"""Training methods: what each observes, its work units, its losses and its gradient."""
