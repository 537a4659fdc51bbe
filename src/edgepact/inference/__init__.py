"""Layer 3: split inference for real, on ONNX Runtime."""
