"""Suites of tasks, one YAML file each; see evals.suite."""
