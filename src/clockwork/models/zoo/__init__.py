"""Models to serve, without a download: well-known architectures, and one that is really trained."""
