"""Late fusion: an encoder and a head for each modality; only class scores are joined."""
