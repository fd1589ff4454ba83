"""The shell around every HTTP door: envelope, base path, body limits, admin port, server."""
