"""Work units, evaluators, reconstructors, the pool that runs them and the driver's loop."""
