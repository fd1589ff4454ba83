"""The STOMP door: topics and queues for agents where there is no broker (swf-clients.md 4, 7, 8)."""
