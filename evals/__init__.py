"""Score a checkpoint: numbers pinned to its digest, with intervals, settings and samples."""
