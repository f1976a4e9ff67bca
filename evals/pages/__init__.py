"""Templates, style and script of the pages that evals writes."""
