"""Trained models for other programs: files of ONNX and torch.export, and a page that decodes in the browser."""
