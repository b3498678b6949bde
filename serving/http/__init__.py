"""A service over HTTP: explanations by KServe's V1 protocol, by the Open Inference Protocol (V2), and plainly."""
