"""Looking at runs: one, many side by side, as tables, figures for a paper, and a page that opens anywhere."""
