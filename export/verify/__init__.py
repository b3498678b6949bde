"""Is the file that was written the model that was given? And what can float32 resolve of it?"""
