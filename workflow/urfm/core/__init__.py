"""What every room uses: command lines, files, progress, errors, provenance. Nothing here knows of ultrasound."""
