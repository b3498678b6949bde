"""The fused graph as a file: one flat program, written as ONNX or TorchScript."""
