"""Reaching a cluster: jobs handed to it, and what is checked on every node before a run starts."""
