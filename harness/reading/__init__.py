"""Files with places: from YAML to checked dataclasses, for suites and published tables."""
