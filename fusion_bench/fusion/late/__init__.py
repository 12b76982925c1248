"""Late fusion: an encoder and a head for each modality; only logits are fused."""
