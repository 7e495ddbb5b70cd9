"""Tests of the shell: the service in this process, over real sockets."""
