"""What every floor uses: errors, locations, progress, fingerprints."""
