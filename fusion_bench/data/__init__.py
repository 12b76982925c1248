"""Sources of images, the caption channel, the tokenizer, and augmentation."""
