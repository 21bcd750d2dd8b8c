"""Alibaba Cloud: the only folder that knows Tea."""
