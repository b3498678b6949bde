"""What puts artifacts behind a server: a service over HTTP, and model repositories for Triton."""
