"""Reports on robustness: counted, judged, written, drawn."""
