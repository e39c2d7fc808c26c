"""Plugins of JavaScript: QuickJS-ng as the engine, its mailbox, images and jobs."""
