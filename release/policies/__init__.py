"""Release policies by name, as YAML; `release.policy` reads them."""
