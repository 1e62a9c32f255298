"""From raw archives to manifests, decoded image stores and splits."""
