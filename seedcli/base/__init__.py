"""What every room stands on: errors, files, options, manifests, devices."""
