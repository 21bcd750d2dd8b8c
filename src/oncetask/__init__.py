"""Timers and webhooks become Alibaba Cloud Security Center one-time tasks."""
