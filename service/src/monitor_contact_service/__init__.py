"""The gRPC service in front of Amazon Connect's MonitorContact. Start with `handler`: a request on one screen."""
