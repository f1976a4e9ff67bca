"""The gates of a release: each looks at the exact files to be pushed and says whether they may be."""
