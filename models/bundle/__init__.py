"""Model bundles: schema, manifest, files, pointer."""
