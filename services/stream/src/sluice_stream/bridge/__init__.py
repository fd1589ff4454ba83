"""The bridge between an ActiveMQ and the platform's streams."""
