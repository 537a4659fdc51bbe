"""The market and the Open Inference Protocol as HTTP requests: decoded, asked, encoded."""
