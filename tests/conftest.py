"""What all tests share."""

pytest_plugins = ["redis_server"]
