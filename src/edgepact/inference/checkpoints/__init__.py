"""Checkpoints of CLIP and SigLIP, as other libraries leave them on disk, made into model folders.

`transformers_layout` and `open_clip_layout` read two layouts into one description (`towers`);
`tower_graphs` writes it as ONNX; `importing` puts a model folder together. Nothing of the libraries
that wrote the files is needed, PyTorch least of all.
"""
