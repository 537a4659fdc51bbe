"""GGUF files of language models: read within bounds, and written as ONNX stages."""
