"""Pretrained encoders as ordered blocks: found by watching one forward pass, held against the model, loaded safely."""
